"""Web addresses in answers: which are the same, and which a text names. Nothing is ever fetched."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

# What ends an address in prose, in Markdown and in HTML; the rest is cut off its end by _bare.
_ADDRESS = re.compile(r"""https?://[^\s<>"`{}|\\^\[\]\u3000-\u303f\uff00-\uff0f]+""")
_TRAILING = ".,;:!?'*_~\u2019\u201d\u2026"
ADDRESS_CHARACTERS_MAX = 2_000  # as of a registered one


def same_address(url: str) -> str:
    """Return a web address so that two ways of writing it are one; "" for what is none.

    Scheme and host in small letters, http as https, no default port, no fragment, no slash at the end.
    """
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        return ""
    if parts.scheme.lower() not in {"http", "https"} or not parts.hostname:
        return ""
    host = parts.hostname.lower() + (f":{port}" if port not in {None, 80, 443} else "")
    return f"https://{host}{parts.path.rstrip('/')}{'?' + parts.query if parts.query else ''}"


def addresses_in(text: str) -> Iterator[str]:
    """Yield the web addresses that a text names, plainly or as Markdown links, as they stand there."""
    for match in _ADDRESS.finditer(text):
        if match.end() - match.start() <= ADDRESS_CHARACTERS_MAX:
            yield _bare(match.group())


def _bare(address: str) -> str:
    """Return the address without the sentence's punctuation; a closing bracket stays if it was opened."""
    while address[-1] in _TRAILING or (address[-1] == ")" and address.count("(") < address.count(")")):
        address = address[:-1]
    return address

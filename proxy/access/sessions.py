"""Who is signed in to the pages, as values: tokens, what a session is, and where somebody may be sent on to.

A browser holds a token of 256 random bits in a cookie that no script can read; the store keeps its SHA-256.
Forms carry a second value made from that token, so that a page of somebody else, which can make a browser
send the cookie, cannot make it send the form. A link signs in once: it is as good as a key until it is used.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections import OrderedDict
from dataclasses import dataclass, field

from proxy.access.keys import Principal
from proxy.access.limits import Bucket, full, take

TOKEN_BYTES = 32
TOKEN_CHARACTERS = 43  # of its base64url without padding
ADDRESSES_KEPT = 4_096  # peers whose attempts are counted, the last ones; 1 MB
PATH_CHARACTERS_MAX = 500  # of a page's address that one is sent back to
HOME = "/portal/"


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who is signed in. token: the form's, not the cookie's."""

    principal: Principal
    token: str
    until_us: int


def token_of(random_bytes: bytes) -> str:
    """Return TOKEN_BYTES random bytes as text that fits a cookie and an address."""
    if len(random_bytes) != TOKEN_BYTES:
        raise ValueError(f"a token is made of {TOKEN_BYTES} random bytes, not {len(random_bytes)}")
    return base64.urlsafe_b64encode(random_bytes).decode("ascii").rstrip("=")


def has_token_shape(text: str) -> bool:
    """Tell whether this could be a token of ours; what could not never reaches the store."""
    return (
        len(text) == TOKEN_CHARACTERS
        and text.isascii()
        and text.replace("-", "a").replace("_", "a").isalnum()
    )


def form_token(cookie: str) -> str:
    """Return what the forms of whoever holds this cookie carry."""
    return hmac.new(cookie.encode(), b"endcredits form", hashlib.sha256).hexdigest()


def is_form_token(cookie: str, sent: str) -> bool:
    """Tell whether a form was made for whoever holds this cookie."""
    return bool(cookie) and hmac.compare_digest(form_token(cookie).encode(), sent.encode())


def way_back(wanted: str) -> str:
    """Return a page of ours that somebody asked for before signing in; HOME for anything else.

    Only a path below /portal: no host, no scheme, nothing that a browser would read as one.
    """
    plain = wanted.isascii() and wanted.isprintable() and not set(wanted) & set("\\ ")
    inside = wanted.startswith(HOME) and "//" not in wanted and ".." not in wanted
    return wanted if plain and inside and len(wanted) <= PATH_CHARACTERS_MAX else HOME


@dataclass(slots=True)
class Attempts:
    """How often each address may try to sign in: `per_min` at once, and as many again each minute."""

    per_min: int
    _buckets: OrderedDict[str, Bucket] = field(default_factory=OrderedDict[str, Bucket])

    def wait_s(self, address: str, now_us: int) -> int:
        """Count an attempt; 0 when it may go on, else the seconds to wait."""
        bucket = self._buckets.pop(address, None) or full(self.per_min, now_us)
        self._buckets[address], wait_us = take(bucket, self.per_min, 1, now_us)
        if len(self._buckets) > ADDRESSES_KEPT:
            self._buckets.popitem(last=False)
        return -(-wait_us // 1_000_000)

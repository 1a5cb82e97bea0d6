"""Where webhooks may go, what they tell, and when one that failed is tried again.

An address is given by an operator, but what it names is decided by somebody's DNS at the moment of sending:
so it is the addresses found then that are looked at, and the one that was looked at is connected to.
"""

from __future__ import annotations

import hashlib
from typing import Final, Literal, get_args
from urllib.parse import urlsplit

from proxy.addresses import is_address, is_public
from proxy.errors import BadRequest

Kind = Literal[
    "period.closed", "statements.final", "payout.settled", "payout.returned", "dispute.opened",
    "consent.withdrawn", "work.erased",
]  # fmt: skip
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
URL_CHARACTERS_MAX: Final = 2_000
# Waits before each further attempt: about a day in all, then it is given up.
WAITS_S: Final = (5, 60, 300, 1_800, 7_200, 18_000, 36_000, 36_000)
JITTER_PPM: Final = 200_000  # of a wait: those that failed together are not tried together again
_PPM: Final = 1_000_000


def checked_target(url: str) -> str:
    """Return an address that messages may be sent to. Raises BadRequest for another one."""
    try:
        parts = urlsplit(url)
        fine = parts.scheme == "https" and bool(parts.hostname) and parts.username is None
        fine = fine and parts.port != 0 and not parts.fragment
    except ValueError:
        fine, parts = False, urlsplit("")
    if not fine or len(url) > URL_CHARACTERS_MAX or not url.isascii() or not url.isprintable() or " " in url:
        raise BadRequest(
            "this is no address for a webhook",
            remedy="give https://host/path, without a user and a fragment",
            code="webhook_target",
        )
    host = parts.hostname or ""
    if is_address(host) and not is_public(host):
        raise BadRequest(
            f"{host} is not reachable by everybody",
            remedy="name a public host",
            code="webhook_target",
        )
    return url


def message_id(webhook: str, kind: str, of: str) -> str:
    """Return a message's id: the same however often what happened is seen and sent."""
    return "msg_" + hashlib.sha256(f"{webhook}|{kind}|{of}".encode()).hexdigest()[:32]


def wait_s(attempts: int, message: str) -> int | None:
    """Return how long to wait after so many attempts failed, None when it is given up."""
    if attempts > len(WAITS_S):
        return None
    wait = WAITS_S[attempts - 1]
    drawn = int.from_bytes(hashlib.sha256(f"{message}|{attempts}".encode()).digest()[:4]) % JITTER_PPM
    return wait + wait * drawn // _PPM

"""What the exchange asks its shell to do, as values: the shell does it in order and decides nothing.

msgspec structs rather than dataclasses, because one is made for every chunk that passes.
"""

from __future__ import annotations

import msgspec

from proxy.metering.usage import Outcome
from proxy.relay.credits import Credited
from proxy.wire.headers import RawHeaders, id_header, status_header
from proxy.wire.output import NO_MEDIA, MediaCounts, TokenCounts


class Forward(msgspec.Struct, frozen=True):
    """Send this body up, to a backend that serves `model`."""

    body: bytes
    model: str


class Reply(msgspec.Struct, frozen=True):
    """Answer the client with this and nothing else."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Began(msgspec.Struct, frozen=True):
    """An answer began: note it, so that a crash books it."""


class Begin(msgspec.Struct, frozen=True):
    """Send the head of the answer."""

    status: int
    headers: list[tuple[bytes, bytes]]


class Send(msgspec.Struct, frozen=True, gc=False):
    """Send these bytes at once."""

    data: bytes


class Offer(msgspec.Struct, frozen=True, gc=False):
    """Give this text to the scorer; never wait for it."""

    choice: int
    text: str


class Settle(msgspec.Struct, frozen=True):
    """All text is there: wait for the shares this long, then tell `attributed`."""

    deadline_ms: int


class Record(msgspec.Struct, frozen=True):
    """Meter the answer durably, then tell `recorded` (or `not_recorded`).

    counts: what the backend reported; the missing parts are estimated and marked. credits: None when late.
    media: images and seconds that it told of, which are never estimated.
    """

    outcome: Outcome
    model: str
    counts: TokenCounts
    credits: Credited | None
    media: MediaCounts = NO_MEDIA


class Close(msgspec.Struct, frozen=True):
    """The exchange is over. Not clean: break the connection, so that no client takes a part for the whole."""

    is_clean: bool = True


Action = Forward | Reply | Began | Begin | Send | Offer | Settle | Record | Close


def own_reply(event_id: str, status: int, body: bytes, extra: RawHeaders = ()) -> Reply:
    """Return an answer of our own, with the headers every reply carries."""
    return Reply(
        status,
        [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            id_header(event_id),
            status_header("off"),
            *extra,
        ],
        body,
    )

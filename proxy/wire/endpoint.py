"""What the relay must know of a route to attribute and meter its answers, behind one protocol."""

from __future__ import annotations

from typing import Protocol

import msgspec

from proxy.wire.output import Said


class Asked(msgspec.Struct, frozen=True):
    """What a request asks for, as far as the relay needs to know.

    choices: how many answers were asked for (`n`). prompt: the request's own text, still as JSON; it is read
    only when the backend reported no usage and the input must be estimated.
    """

    model: str
    is_streaming: bool
    choices: int
    wants_usage: bool
    prompt: msgspec.Raw


class Endpoint(Protocol):
    """How one route's bytes are read. Every method is pure; none keeps the bytes."""

    name: str

    def read_request(self, body: bytes) -> Asked:
        """Return what is asked for. Raises WireError naming the place in the JSON that cannot be read."""
        ...

    def read_reply(self, body: bytes) -> Said | None:
        """Return what a whole JSON reply says, or None when it is not this endpoint's JSON."""
        ...

    def read_chunk(self, data: bytes) -> Said:
        """Return what one event's data says; data that cannot be read says nothing and still goes by."""
        ...

    def asking_for_usage(self, body: bytes) -> bytes:
        """Return the body of a streamed request, changed only so far that the backend reports usage."""
        ...

    def prompt_text(self, asked: Asked) -> str:
        """Return the request's text, for an estimate of its tokens."""
        ...

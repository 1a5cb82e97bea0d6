"""What the relay must know of a route to attribute and meter its answers, one value for each family.

A family says how its requests and answers are read and nothing else: what travels is never rebuilt from what
was read. The defaults here are what most routes do, so a family's own file holds only what is peculiar to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from proxy.wire.cutting import Cutter
from proxy.wire.errors import Shape
from proxy.wire.output import NOTHING, UNHEARD, Heard, Said
from proxy.wire.sse import FRAME_BYTES_MAX

# Why a route's answers are metered and not attributed; the journal's words.
Unscored = Literal["", "no_text", "not_attributed"]
# Where url_citation entries have a place: in chat's choices, in a response's output parts, or nowhere.
Citing = Literal["", "choices", "response"]


class Asked(msgspec.Struct, frozen=True):
    """What a request asks for, as far as the relay needs to know.

    model: "" when the request leaves it to the backend. choices: how many answers were asked for (`n`).
    wants_usage: usage comes without our asking. prompt: the request's own text, still as JSON; it is read
    only when the backend reported no usage and the input must be estimated. spoken: text of the request that
    the answer will say aloud. is_background: the answer is fetched later, by its id. is_kept: the backend
    keeps it, so that it may be. images: how many are asked for. milliseconds: of video, at most;
    is_extension: they are put to what there is already.
    """

    model: str
    is_streaming: bool = False
    choices: int = 1
    wants_usage: bool = True
    prompt: msgspec.Raw = msgspec.Raw(b"null")
    spoken: str = ""
    is_background: bool = False
    is_kept: bool = False
    images: int = 0
    milliseconds: int = 0
    is_extension: bool = False


class Endpoint:
    """How one route's bytes are read. Every method is pure; none keeps the bytes.

    name: as usage lines and metrics call it. holder: the member of the held event's object that takes the
    field; empty: the object itself. citing: where citations have a place. unscored: why its answers are
    never compared with works; empty when they are. takes_field: whether the field has a place in its JSON.
    plain_kinds: content types other than JSON that are held and read. tells_text: whether what it tells is
    counted where a backend gave no output tokens. holds_last: of several events that end a choice the last
    takes the field. errors: the shape of our own. frame_bytes_max: the longest event of its streams.
    """

    name = ""
    holder = b""
    citing: Citing = ""
    unscored: Unscored = ""
    takes_field = True
    plain_kinds: frozenset[bytes] = frozenset()
    tells_text = True
    holds_last = False
    errors: Shape = "openai"
    frame_bytes_max = FRAME_BYTES_MAX

    def read_request(self, body: bytes, content_type: bytes = b"") -> Asked:
        """Return what is asked for. Raises WireError naming the place in the JSON that cannot be read."""
        raise NotImplementedError

    def read_reply(self, body: bytes) -> Said | None:
        """Return what a whole reply says, or None when it is not this endpoint's JSON (or text)."""
        raise NotImplementedError

    def read_chunk(self, data: bytes) -> Said:  # noqa: ARG002  the default reads nothing
        """Return what one event's data says; data that cannot be read says nothing and still goes by."""
        return NOTHING

    def read_run(self, data: Sequence[bytes]) -> Heard:  # noqa: ARG002  the default leaves all to read_chunk
        """Return what the first events say, as many as only tell text, or nothing that we read.

        Together they say what `read_chunk` would hear in each; text of one choice in a row is joined.
        """
        return UNHEARD

    def asking_for_usage(self, body: bytes) -> bytes:
        """Return the body of a streamed request, changed only so far that the backend reports usage."""
        return body

    def cut_reply(self, body: bytes, ends: Mapping[int, int]) -> bytes:  # noqa: ARG002  as a default: uncut
        """Return a whole reply, the text of these choices ended at these code points, and saying so."""
        return body

    def cutter(self) -> Cutter | None:
        """Return what ends a stream in the backend's place; None: its streams go on."""
        return None

    def prompt_text(self, asked: Asked) -> str:  # noqa: ARG002  the default has none
        """Return the request's text, for an estimate of its tokens."""
        return ""

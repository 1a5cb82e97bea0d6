"""Responses: a tree of output items instead of choices, told as dozens of kinds of events.

Attributed is the text of `output_text` parts, joined in the order they come, which is what clients call
`output_text`. Reasoning, refusals, tool calls and their arguments pass, and so does every event we have not
heard of. Events are numbered, so none may be added: the field rides inside `response` of the event that
ends the stream.

A background request is answered at once by a promise without usage; it is finished when it is fetched.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from proxy.wire.cutting import Cutter, cut_response
from proxy.wire.ending import ResponsesCutter
from proxy.wire.endpoint import Asked, Endpoint
from proxy.wire.output import NOTHING, Said, TextDelta, TokenCounts
from proxy.wire.reading import Content, Count, counts_of, decoded, plain, tolerated

FRAME_BYTES_MAX = 32 << 20  # the last event repeats the whole answer, pictures in base64 too
_LAST = frozenset({"response.completed", "response.incomplete", "response.failed"})
_BEGUN = frozenset({"response.created", "response.in_progress", "response.queued"})
_OVER = frozenset({"completed", "incomplete", "failed", "cancelled"})
_UNDER_WAY = frozenset({"queued", "in_progress"})
_ID = re.compile(r"[A-Za-z0-9_-]{1,256}")  # it goes into a path


class _Request(msgspec.Struct, frozen=True):
    model: str | None = None
    stream: bool | None = None
    background: bool | None = None
    store: bool | None = None
    input: msgspec.Raw = msgspec.Raw(b"null")
    instructions: msgspec.Raw = msgspec.Raw(b"null")


class _Usage(msgspec.Struct, frozen=True):
    input_tokens: Count = None
    output_tokens: Count = None


class _Part(msgspec.Struct, frozen=True):
    type: str = ""
    text: str | None = None


class _Item(msgspec.Struct, frozen=True):
    type: str = ""
    content: list[_Part] | None = None


class _Response(msgspec.Struct, frozen=True):
    output: list[_Item] | None = None
    usage: _Usage | None = None
    model: str | None = None
    status: str | None = None
    id: str | None = None


class _Bare(msgspec.Struct, frozen=True):
    """What is read of a response whose output cannot be."""

    usage: _Usage | None = None
    model: str | None = None
    status: str | None = None
    id: str | None = None


class _Event(msgspec.Struct, frozen=True):
    type: str = ""
    delta: msgspec.Raw = msgspec.Raw(b"null")
    response: msgspec.Raw = msgspec.Raw(b"null")


class _Turn(msgspec.Struct, frozen=True):
    content: Content = None


_request = msgspec.json.Decoder(_Request)
_response = msgspec.json.Decoder(_Response)
_bare = msgspec.json.Decoder(_Bare)
_event = msgspec.json.Decoder(_Event)
_text = msgspec.json.Decoder(str)
_prompt = msgspec.json.Decoder(tuple[str | None, str | list[_Turn] | None])


class Responses(Endpoint):
    """POST /v1/responses."""

    name = "responses"
    holder = b"response"
    citing = "response"
    frame_bytes_max = FRAME_BYTES_MAX

    def read_request(self, body: bytes, content_type: bytes = b"") -> Asked:  # noqa: ARG002  always JSON
        """Return what is asked for; the prompt is [instructions, input]."""
        request = decoded(_request, body, "a responses request")
        prompt = b"[" + bytes(request.instructions) + b"," + bytes(request.input) + b"]"
        return Asked(
            request.model or "",
            is_streaming=bool(request.stream),
            prompt=msgspec.Raw(prompt),
            is_background=bool(request.background),
            is_kept=request.store is not False,
        )

    def read_reply(self, body: bytes) -> Said | None:
        """Return what a response says; None when it is no JSON object at all."""
        response = tolerated(_response, body)
        if response is None:
            bare = tolerated(_bare, body)
            return None if bare is None else _said(bare, "")
        return _said(response, _told(response))

    def read_chunk(self, data: bytes) -> Said:
        """Return what one event says."""
        event = tolerated(_event, data)
        if event is None:
            return NOTHING
        if event.type == "response.output_text.delta":
            text = tolerated(_text, event.delta)
            return Said((TextDelta(0, text),)) if text else NOTHING
        if event.type in _LAST:
            said = self.read_reply(bytes(event.response)) or NOTHING
            return Said(finished=(0,), counts=said.counts, model=said.model, whole=said.texts, is_end=True)
        if event.type in _BEGUN:
            bare = tolerated(_bare, event.response)
            return NOTHING if bare is None else Said(model=bare.model or "")
        return NOTHING

    def cut_reply(self, body: bytes, ends: Mapping[int, int]) -> bytes:
        """Return a whole reply, its text ended at these code points, and saying so."""
        return cut_response(body, ends)

    def cutter(self) -> Cutter:
        """Return what ends a stream in the backend's place."""
        return ResponsesCutter(self.frame_bytes_max)

    def prompt_text(self, asked: Asked) -> str:
        """Return the text of instructions and input, one message a line."""
        prompt = tolerated(_prompt, asked.prompt)
        if prompt is None:
            return ""
        instructions, given = prompt
        contents = [turn.content for turn in given] if isinstance(given, list) else [given]
        return "\n".join(plain(content) for content in (instructions, *contents) if content)


class Compaction(Responses):
    """POST /v1/responses/compact: what was said so far, made short for models. No person reads it."""

    name = "responses.compact"
    unscored = "no_text"
    takes_field = False
    tells_text = False

    def read_reply(self, body: bytes) -> Said | None:
        """Return the usage; None when it is no JSON object at all."""
        bare = tolerated(_bare, body)
        return None if bare is None else Said((), (0,), _said(bare, "").counts, model=bare.model or "")


def _told(response: _Response) -> str:
    return "".join(
        part.text or ""
        for item in response.output or ()
        if item.type == "message"
        for part in item.content or ()
        if part.type == "output_text"
    )


def _said(response: _Response | _Bare, text: str) -> Said:
    usage, answer_id = response.usage, response.id or ""
    counts: TokenCounts | None = None if usage is None else counts_of(usage.input_tokens, usage.output_tokens)
    return Said(
        (TextDelta(0, text),) if text else (),
        (0,) if response.status in _OVER else (),
        counts,
        model=response.model or "",
        promised=answer_id if response.status in _UNDER_WAY and _ID.fullmatch(answer_id) else "",
    )

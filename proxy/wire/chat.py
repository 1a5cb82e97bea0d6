"""Chat completions: what is asked, what is said, and how to ask for usage without touching the rest.

Attributed is what a person reads: `message.content`, as a string or as text parts. Refusals, tool calls,
reasoning, logprobs and audio are passed on and neither attributed nor changed. Reading is tolerant, because
backends differ (`usage` with missing parts, `content` as parts, floats for integers): what cannot be read
says nothing, and still goes by as it came.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from proxy.wire.cutting import ChoicesCutter, Cutter, cut_chat
from proxy.wire.endpoint import Asked, Endpoint
from proxy.wire.errors import WireError
from proxy.wire.output import NOTHING, UNHEARD, Heard, Said, TextDelta, TokenCounts
from proxy.wire.reading import Content, Count, asking_for_usage, counts_of, decoded, plain, tolerated

CHOICES_MAX = 128  # OpenAI's own limit for n
_NONE = msgspec.Raw(b"null")


class _StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool | None = None


class _Request(msgspec.Struct, frozen=True):
    model: str
    stream: bool | None = None
    n: int | None = None
    stream_options: _StreamOptions | None = None
    store: msgspec.Raw = _NONE
    messages: msgspec.Raw = msgspec.Raw(b"[]")


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: Count = None
    completion_tokens: Count = None


class _Message(msgspec.Struct, frozen=True):
    content: Content = None
    annotations: msgspec.Raw = _NONE


class _Choice(msgspec.Struct, frozen=True):
    index: int | None = None
    message: _Message | None = None
    delta: _Message | None = None
    finish_reason: str | None = None


class _Told(msgspec.Struct, frozen=True):
    """A whole reply and a chunk alike, without their usage: one has `message`, the other `delta`."""

    choices: list[_Choice] | None = None
    model: str | None = None
    citations: msgspec.Raw = _NONE


class _Reply(_Told, frozen=True):
    usage: _Usage | None = None


class _PlainDelta(msgspec.Struct, frozen=True, gc=False):
    content: str | None = None
    annotations: None = None


class _PlainChoice(msgspec.Struct, frozen=True, gc=False):
    delta: _PlainDelta
    index: int | None = 0
    finish_reason: Literal[""] | None = None


class _Plain(msgspec.Struct, frozen=True, gc=False):
    """A chunk that tells text of one choice, or nothing that is read. No other can be decoded as this."""

    choices: tuple[_PlainChoice]
    usage: None = None
    model: str | None = None
    citations: None = None


class _UrlCitation(msgspec.Struct, frozen=True):
    url: str = ""


class _Annotation(msgspec.Struct, frozen=True):
    url_citation: _UrlCitation | None = None


class _BareChoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    index: int | None = 0
    delta: dict[str, Literal[""] | tuple[()] | None] = {}
    finish_reason: Literal[""] | None = None
    logprobs: None = None


class _Bare(msgspec.Struct, frozen=True):
    """A chunk whose choices say nothing at all. No other can be decoded as this."""

    choices: list[_BareChoice]


class _UsageOnly(msgspec.Struct, frozen=True):
    usage: _Usage | None = None


_request = msgspec.json.Decoder(_Request)
_reply = msgspec.json.Decoder(_Reply)
_told = msgspec.json.Decoder(_Told)
_plain = msgspec.json.Decoder(_Plain)
_spoken = msgspec.json.Decoder(list[_Message])
_bare = msgspec.json.Decoder(_Bare)
_usage = msgspec.json.Decoder(_UsageOnly)
_annotations = msgspec.json.Decoder(list[_Annotation] | None)
_citations = msgspec.json.Decoder(list[str | _UrlCitation] | None)


class ChatCompletions(Endpoint):
    """POST /v1/chat/completions."""

    name = "chat.completions"
    citing = "choices"

    def read_request(self, body: bytes, content_type: bytes = b"") -> Asked:  # noqa: ARG002  always JSON
        """Return what is asked for; only the members the relay needs are looked at."""
        request = decoded(_request, body, "a chat completions request")
        choices = 1 if request.n is None else request.n
        if not 1 <= choices <= CHOICES_MAX:
            raise WireError(f"'n' is {choices}", remedy=f"ask for 1 to {CHOICES_MAX} choices", param="n")
        options = request.stream_options
        return Asked(
            model=request.model,
            is_streaming=bool(request.stream),
            choices=choices,
            wants_usage=bool(options and options.include_usage),
            prompt=request.messages,
            is_kept=bytes(request.store) == b"true",
        )

    def read_reply(self, body: bytes) -> Said | None:
        """Return what a whole reply says; None when it is no JSON object at all."""
        reply = tolerated(_reply, body)
        return _what_can_be_read(body) if reply is None else _said(reply, reply.usage)

    def read_chunk(self, data: bytes) -> Said:
        """Return what one chunk says."""
        reply = tolerated(_reply, data)
        if reply is None:
            return _what_can_be_read(data) or NOTHING
        said = _said(reply, reply.usage)
        if reply.usage is None or said.usage_only or said.texts or said.finished:
            return said
        # Some gateways give the chunk that carries usage a choice that says nothing, where OpenAI has none.
        return msgspec.structs.replace(said, usage_only=tolerated(_bare, data) is not None)

    def read_run(self, data: Sequence[bytes]) -> Heard:
        """Return what the first chunks say: as many as tell text of one choice, or nothing that is read."""
        chunks: list[_Plain] = []
        try:
            if len(data) == 1:  # a stream at its own pace: nothing to join
                chunk = _plain.decode(data[0])
                (choice,) = chunk.choices
                text = choice.delta.content
                return Heard(1, (TextDelta(choice.index or 0, text),) if text else (), chunk.model or "")
            for chunk in map(_plain.decode, data):
                chunks.append(chunk)  # noqa: PERF402  what was read before one that is not plain is kept
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            if not chunks:
                return UNHEARD
        choices = [chunk.choices[0] for chunk in chunks]
        texts = [
            TextDelta(index, text)
            for index, run in itertools.groupby(choices, _index_of)
            if (text := "".join([choice.delta.content or "" for choice in run]))
        ]
        model = next((chunk.model for chunk in chunks if chunk.model), "")
        return Heard(len(chunks), tuple(texts), model)

    def asking_for_usage(self, body: bytes) -> bytes:
        """Return the body with `stream_options.include_usage` true (see `reading.asking_for_usage`)."""
        return asking_for_usage(body)

    def cut_reply(self, body: bytes, ends: Mapping[int, int]) -> bytes:
        """Return a whole reply, the text of these choices ended at these code points, and saying so."""
        return cut_chat(body, ends)

    def cutter(self) -> Cutter:
        """Return what ends a stream in the backend's place."""
        return ChoicesCutter({"delta": {}})

    def prompt_text(self, asked: Asked) -> str:
        """Return the messages' text, one message a line; images and tools count nothing in an estimate."""
        messages = tolerated(_spoken, asked.prompt) or ()
        return "\n".join(plain(message.content) for message in messages if message.content)


def _index_of(choice: _PlainChoice) -> int:
    return choice.index or 0


def _said(reply: _Told, usage: _Usage | None) -> Said:
    texts: list[TextDelta] = []
    finished: list[int] = []
    cited = _sources(reply.citations)
    for place, choice in enumerate(reply.choices or ()):
        index = place if choice.index is None else choice.index
        message = choice.delta or choice.message
        if message is not None:
            cited += _annotated(message.annotations)
        if message is not None and message.content:
            text = plain(message.content)
            if text:
                texts.append(TextDelta(index, text))
        if choice.finish_reason:  # some backends say "" until there is one
            finished.append(index)
    return Said(
        tuple(texts),
        tuple(finished),
        _counts(usage),
        usage is not None and not reply.choices,
        reply.model or "",
        cited=cited,
    )


def _annotated(data: msgspec.Raw) -> tuple[str, ...]:
    """Return the addresses of url_citation entries; what cannot be read names none and harms nothing else."""
    found = None if data is _NONE else tolerated(_annotations, data)
    return tuple(one.url_citation.url for one in found or () if one.url_citation and one.url_citation.url)


def _sources(data: msgspec.Raw) -> tuple[str, ...]:
    """Return the addresses of a list of sources at the top level, as some backends give it."""
    found = None if data is _NONE else tolerated(_citations, data)
    return tuple(filter(None, (one if isinstance(one, str) else one.url for one in found or ())))


def _counts(usage: _Usage | None) -> TokenCounts | None:
    return None if usage is None else counts_of(usage.prompt_tokens, usage.completion_tokens)


def _what_can_be_read(data: bytes) -> Said | None:
    """Return what is said where choices or usage cannot be read; None when it is no JSON object at all."""
    told = tolerated(_told, data)
    if told is not None:
        return _said(told, None)
    found = tolerated(_usage, data)
    return None if found is None else Said(counts=_counts(found.usage))

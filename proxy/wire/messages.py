"""Anthropic's Messages, which vLLM and llama.cpp serve too: blocks instead of choices, and own errors.

Attributed is the text of `text` blocks, in their order and joined: a backend that cites cuts one sentence
into several blocks. Thinking, tool use and results pass. The field goes to the top level, on streams to that
of the last `message_delta`, which says how the message ended.

`input_tokens` counts only what no cache served, so what was written to and read from caches is added.
`message_start` reports output tokens too, but before there is any output, so those are not believed.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from proxy.wire.cutting import Cutter, cut_message
from proxy.wire.ending import MessagesCutter
from proxy.wire.endpoint import Asked, Endpoint
from proxy.wire.output import NOTHING, Said, TextDelta, TokenCounts
from proxy.wire.reading import Content, Count, decoded, natural, plain, tolerated


class _Request(msgspec.Struct, frozen=True):
    model: str | None = None
    stream: bool | None = None
    messages: msgspec.Raw = msgspec.Raw(b"[]")
    system: msgspec.Raw = msgspec.Raw(b"null")


class _Usage(msgspec.Struct, frozen=True):
    input_tokens: Count = None
    output_tokens: Count = None
    cache_creation_input_tokens: Count = None
    cache_read_input_tokens: Count = None


class _Block(msgspec.Struct, frozen=True):
    type: str = ""
    text: str | None = None


class _Message(msgspec.Struct, frozen=True):
    content: list[_Block] | None = None
    stop_reason: str | None = None
    usage: _Usage | None = None
    model: str | None = None


class _Delta(msgspec.Struct, frozen=True):
    type: str = ""
    text: str | None = None
    stop_reason: str | None = None


class _Event(msgspec.Struct, frozen=True):
    type: str = ""
    delta: _Delta | None = None
    content_block: _Block | None = None
    message: _Message | None = None
    usage: _Usage | None = None


class _UsageOnly(msgspec.Struct, frozen=True):
    usage: _Usage | None = None


class _Turn(msgspec.Struct, frozen=True):
    content: Content = None


_request = msgspec.json.Decoder(_Request)
_message = msgspec.json.Decoder(_Message)
_event = msgspec.json.Decoder(_Event)
_usage = msgspec.json.Decoder(_UsageOnly)
_prompt = msgspec.json.Decoder(tuple[Content, list[_Turn]])


class Messages(Endpoint):
    """POST /v1/messages."""

    name = "messages"
    holds_last = True
    errors = "anthropic"

    def read_request(self, body: bytes, content_type: bytes = b"") -> Asked:  # noqa: ARG002  always JSON
        """Return what is asked for; the prompt is [system, messages]."""
        request = decoded(_request, body, "a messages request")
        prompt = b"[" + bytes(request.system) + b"," + bytes(request.messages) + b"]"
        return Asked(request.model or "", is_streaming=bool(request.stream), prompt=msgspec.Raw(prompt))

    def read_reply(self, body: bytes) -> Said | None:
        """Return what a whole message says; None when it is no JSON object at all."""
        message = tolerated(_message, body)
        if message is None:
            found = tolerated(_usage, body)
            return None if found is None else Said(counts=_counts(found.usage))
        text = "".join(block.text or "" for block in message.content or () if block.type == "text")
        return Said(
            (TextDelta(0, text),) if text else (),
            (0,),
            _counts(message.usage),
            model=message.model or "",
        )

    def read_chunk(self, data: bytes) -> Said:
        """Return what one event says."""
        event = tolerated(_event, data)
        if event is None:
            found = tolerated(_usage, data)
            return NOTHING if found is None else Said(counts=_counts(found.usage))
        match event.type:
            case "content_block_delta":
                delta = event.delta
                if delta is not None and delta.type == "text_delta" and delta.text:
                    return Said((TextDelta(0, delta.text),))
                return NOTHING
            case "content_block_start":
                block = event.content_block
                return (
                    Said((TextDelta(0, block.text),))
                    if block and block.type == "text" and block.text
                    else NOTHING
                )
            case "message_start" if event.message is not None:
                counts = _counts(event.message.usage)
                begun = None if counts is None else TokenCounts(counts.input)
                return Said(counts=begun, model=event.message.model or "")
            case "message_delta":
                is_over = event.delta is not None and event.delta.stop_reason is not None
                return Said(finished=(0,) if is_over else (), counts=_counts(event.usage))
            case "message_stop":
                return Said(is_end=True)
            case _:
                return NOTHING

    def cut_reply(self, body: bytes, ends: Mapping[int, int]) -> bytes:
        """Return a whole reply, its text ended at these code points, and saying so."""
        return cut_message(body, ends)

    def cutter(self) -> Cutter:
        """Return what ends a stream in the backend's place."""
        return MessagesCutter(self.frame_bytes_max)

    def prompt_text(self, asked: Asked) -> str:
        """Return the text of the system prompt and the messages, one a line."""
        prompt = tolerated(_prompt, asked.prompt)
        if prompt is None:
            return ""
        system, turns = prompt
        contents = [system, *(turn.content for turn in turns)]
        return "\n".join(plain(content) for content in contents if content)


def _counts(usage: _Usage | None) -> TokenCounts | None:
    if usage is None:
        return None
    given = natural(usage.input_tokens)
    if given is not None:
        given += natural(usage.cache_creation_input_tokens) or 0
        given += natural(usage.cache_read_input_tokens) or 0
    return TokenCounts(given, natural(usage.output_tokens))

"""Embeddings and moderations: numbers about a text that the app itself sent, so nobody is told anything.

They are metered like any answer and their bytes are passed on, without the field: there is no output that
could draw on a work. A backend that reports no usage for them (moderations never do) has its input counted.
"""

from __future__ import annotations

import msgspec

from proxy.wire.endpoint import Asked, Endpoint
from proxy.wire.output import Said, TokenCounts
from proxy.wire.reading import Count, decoded, natural, tolerated


class _Request(msgspec.Struct, frozen=True):
    model: str | None = None
    input: msgspec.Raw = msgspec.Raw(b"null")


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: Count = None


class _Reply(msgspec.Struct, frozen=True):
    model: str | None = None
    usage: _Usage | None = None


class _Part(msgspec.Struct, frozen=True):
    text: str | None = None


_request = msgspec.json.Decoder(_Request)
_reply = msgspec.json.Decoder(_Reply)
_text = msgspec.json.Decoder(str)
_texts = msgspec.json.Decoder(list[str])
_parts = msgspec.json.Decoder(list[_Part])


class Measures(Endpoint):
    """POST /v1/embeddings and /v1/moderations, each under its own name."""

    unscored = "no_text"
    takes_field = False
    tells_text = False

    def __init__(self, name: str) -> None:
        self.name = name

    def read_request(self, body: bytes, content_type: bytes = b"") -> Asked:  # noqa: ARG002  always JSON
        """Return what is asked for."""
        request = decoded(_request, body, "a request with `model` and `input`")
        return Asked(request.model or "", prompt=request.input)

    def read_reply(self, body: bytes) -> Said | None:
        """Return the usage: these have input and never output. None when it is no JSON object at all."""
        reply = tolerated(_reply, body)
        if reply is None:
            return None
        counts = None if reply.usage is None else TokenCounts(natural(reply.usage.prompt_tokens), 0)
        return Said((), (0,), counts, model=reply.model or "")

    def prompt_text(self, asked: Asked) -> str:
        """Return the input's texts, one a line; tokens and pictures count nothing in an estimate."""
        text = tolerated(_text, asked.prompt)
        if text is not None:
            return text
        texts = tolerated(_texts, asked.prompt)
        if texts is None:
            texts = [part.text or "" for part in tolerated(_parts, asked.prompt) or ()]
        return "\n".join(texts)

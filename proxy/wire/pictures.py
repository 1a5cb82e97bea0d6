"""Pictures and videos: metered, and not attributed, because nothing here can compare them with works.

Their prompts are counted when a backend reports no usage; what they show is never estimated in tokens. The
field says `off` and why, and the money of such an answer is held, not given away as if no work had been used.
"""

from __future__ import annotations

import msgspec

from proxy.wire.endpoint import Asked, Endpoint
from proxy.wire.errors import WireError
from proxy.wire.multipart import fields
from proxy.wire.output import NOTHING, Said, TokenCounts
from proxy.wire.reading import Count, counts_of, decoded, tolerated

FRAME_BYTES_MAX = 32 << 20  # one picture of the largest size in base64, with room
_ENDS = frozenset({"image_generation.completed", "image_edit.completed"})


class _Request(msgspec.Struct, frozen=True):
    model: str | None = None
    stream: bool | None = None
    n: int | None = None
    prompt: str | None = None


class _Usage(msgspec.Struct, frozen=True):
    input_tokens: Count = None
    output_tokens: Count = None


class _Reply(msgspec.Struct, frozen=True):
    """A whole reply and an event alike; what is drawn is not looked at."""

    type: str = ""
    model: str | None = None
    usage: _Usage | None = None


_request = msgspec.json.Decoder(_Request)
_reply = msgspec.json.Decoder(_Reply)


class Pictures(Endpoint):
    """POST /v1/images/generations, edits and variations, and /v1/videos, each under its own name."""

    unscored = "not_attributed"
    tells_text = False
    frame_bytes_max = FRAME_BYTES_MAX

    def __init__(self, name: str) -> None:
        self.name = name

    def read_request(self, body: bytes, content_type: bytes = b"") -> Asked:
        """Return what is asked for, as JSON or as a form."""
        if content_type.lower().startswith(b"multipart/"):
            form = fields(body, content_type)
            is_streaming = form.get("stream", "").strip().lower() in {"true", "1"}
            digits = form.get("n", "").strip()
            choices = int(digits) if digits.isdecimal() and len(digits) <= 3 else 1
            model, prompt = form.get("model", ""), form.get("prompt", "")
        else:
            request = decoded(_request, body, "a request for a picture")
            is_streaming, choices = bool(request.stream), 1 if request.n is None else request.n
            model, prompt = request.model or "", request.prompt or ""
        if not 1 <= choices <= 128:
            raise WireError(f"'n' is {choices}", remedy="ask for 1 to 128 pictures", param="n")
        return Asked(
            model,
            is_streaming=is_streaming,
            choices=choices,
            prompt=msgspec.Raw(msgspec.json.encode(prompt)),
            is_kept=self.name == "videos",
        )

    def read_reply(self, body: bytes) -> Said | None:
        """Return the usage; None when it is no JSON object at all."""
        reply = tolerated(_reply, body)
        return None if reply is None else Said((), (0,), _counts(reply.usage), model=reply.model or "")

    def read_chunk(self, data: bytes) -> Said:
        """Return what one event says: partial pictures nothing, a finished one its usage."""
        event = tolerated(_reply, data)
        if event is None or event.type not in _ENDS:
            return NOTHING
        return Said((), (0,), _counts(event.usage))

    def prompt_text(self, asked: Asked) -> str:
        """Return the prompt; pictures given with it count nothing in an estimate."""
        return msgspec.json.decode(asked.prompt, type=str)


def _counts(usage: _Usage | None) -> TokenCounts | None:
    return None if usage is None else counts_of(usage.input_tokens, usage.output_tokens)

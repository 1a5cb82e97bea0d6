"""Pictures and videos: metered, and not attributed, because nothing here can compare them with works.

Their prompts are counted when a backend reports no usage; what they show is never estimated in tokens. What
a price by the image or by the second needs is counted too: finished images, and how long a video is said to
be. The field says `off` and why, and the money of such an answer is held, not given away as if no work had
been used.
"""

from __future__ import annotations

import msgspec

from proxy.wire.endpoint import Asked, Endpoint
from proxy.wire.errors import WireError
from proxy.wire.multipart import fields
from proxy.wire.output import NOTHING, MediaCounts, Said, TokenCounts
from proxy.wire.reading import NULL, Count, counts_of, decoded, milliseconds_of, tolerated

FRAME_BYTES_MAX = 32 << 20  # one picture of the largest size in base64, with room
IMAGES_MAX = 128  # of one request; a reply that holds more is not an answer to any
VIDEO_MS_MAX = 20_000  # of one request that does not say how long: the longest that is made at once
BRACES_MAX = 10_000  # of a reply that is counted: its images, and what their prompts say in braces
_NOTHING = (NULL, msgspec.Raw(b'""'))
_ENDS = frozenset({"image_generation.completed", "image_edit.completed"})


class _Request(msgspec.Struct, frozen=True):
    model: str | None = None
    stream: bool | None = None
    n: int | None = None
    prompt: str | None = None
    seconds: msgspec.Raw = NULL


class _Usage(msgspec.Struct, frozen=True):
    input_tokens: Count = None
    output_tokens: Count = None


class _Reply(msgspec.Struct, frozen=True):
    """A whole reply and an event alike; what is drawn is not looked at."""

    type: str = ""
    model: str | None = None
    usage: _Usage | None = None
    data: msgspec.Raw = NULL
    seconds: msgspec.Raw = NULL
    status: msgspec.Raw = NULL


class _Item(msgspec.Struct, frozen=True, gc=False):
    """One of a reply's images; without either it says why there is none."""

    b64_json: msgspec.Raw = NULL
    url: msgspec.Raw = NULL


_request = msgspec.json.Decoder(_Request)
_reply = msgspec.json.Decoder(_Reply)
_items = msgspec.json.Decoder(list[_Item])


class Pictures(Endpoint):
    """POST /v1/images/generations, edits and variations, and /v1/videos, each under its own name."""

    unscored = "not_attributed"
    tells_text = False
    frame_bytes_max = FRAME_BYTES_MAX

    def __init__(self, name: str, *, extends: bool = False) -> None:
        """extends: its videos go on from others, and tell how long both are together."""
        self.name = name
        self._is_video = name == "videos"
        self._extends = extends

    def read_request(self, body: bytes, content_type: bytes = b"") -> Asked:
        """Return what is asked for, as JSON or as a form."""
        if content_type.lower().startswith(b"multipart/"):
            form = fields(body, content_type)
            is_streaming = form.get("stream", "").strip().lower() in {"true", "1"}
            digits = form.get("n", "").strip()
            choices = int(digits[:16]) if digits.isdecimal() else 1
            model, prompt = form.get("model", ""), form.get("prompt", "")
            seconds = form.get("seconds", "").strip().encode("utf-8")
        else:
            request = decoded(_request, body, "a request for a picture")
            is_streaming, choices = bool(request.stream), 1 if request.n is None else request.n
            model, prompt = request.model or "", request.prompt or ""
            seconds = bytes(request.seconds)
        if not 1 <= choices <= IMAGES_MAX:
            raise WireError(f"'n' is {choices}", remedy=f"ask for 1 to {IMAGES_MAX} pictures", param="n")
        return Asked(
            model,
            is_streaming=is_streaming,
            choices=choices,
            prompt=msgspec.Raw(msgspec.json.encode(prompt)),
            is_kept=self._is_video,
            images=0 if self._is_video else choices,
            milliseconds=(milliseconds_of(seconds) or VIDEO_MS_MAX) if self._is_video else 0,
            is_extension=self._extends,
        )

    def read_reply(self, body: bytes) -> Said | None:
        """Return the usage and what was made; None when it is no JSON object at all."""
        reply = tolerated(_reply, body)
        if reply is None:
            return None
        media = _video(reply) if self._is_video else _images(body, reply.data)
        return Said((), (0,), _counts(reply.usage), model=reply.model or "", media=media)

    def read_chunk(self, data: bytes) -> Said:
        """Return what one event says: partial pictures nothing, a finished one its usage and itself."""
        event = tolerated(_reply, data)
        if event is None or event.type not in _ENDS:
            return NOTHING
        return Said((), (0,), _counts(event.usage), media=MediaCounts(images=1))

    def prompt_text(self, asked: Asked) -> str:
        """Return the prompt; pictures given with it count nothing in an estimate."""
        return msgspec.json.decode(asked.prompt, type=str)


def _counts(usage: _Usage | None) -> TokenCounts | None:
    return None if usage is None else counts_of(usage.input_tokens, usage.output_tokens)


def _images(body: bytes, data: msgspec.Raw) -> MediaCounts | None:
    """Return how many of a reply's items are images; None where it lists none, or beyond all measure.

    Each begins with a brace and base64 holds none, so a reply of millions of them is not even taken apart.
    """
    if body.count(b"{") > BRACES_MAX:
        return None
    items = tolerated(_items, data) or ()
    images = sum(item.b64_json not in _NOTHING or item.url not in _NOTHING for item in items)
    return MediaCounts(images=images) if 0 < images <= IMAGES_MAX else None


def _video(reply: _Reply) -> MediaCounts | None:
    """Return how long the promised video is; None where nobody says, or it could not be made."""
    milliseconds = milliseconds_of(reply.seconds) if bytes(reply.status) != b'"failed"' else None
    return MediaCounts(milliseconds=milliseconds) if milliseconds else None

"""Audio to text and text to audio: only the text side can be compared with works.

A transcription's or a translation's text is what it tells, whether it comes as JSON, as plain text, as
subtitles or as events. Speech is the other way round: what a person will hear is the request's own `input`,
so that is taken as told once the backend has begun to answer.
"""

from __future__ import annotations

import re

import msgspec

from proxy.wire.endpoint import Asked, Endpoint
from proxy.wire.multipart import fields
from proxy.wire.output import NOTHING, MediaCounts, Said, TextDelta, TokenCounts
from proxy.wire.reading import NULL, Count, counts_of, decoded, milliseconds_of, tolerated

_TIMES = re.compile(r"^[\d:.,]+[ \t]+-->[ \t]+[\d:.,]+.*$")


class _Usage(msgspec.Struct, frozen=True):
    """`type` "tokens" counts tokens; "duration" counts seconds, which are no tokens."""

    input_tokens: Count = None
    output_tokens: Count = None
    type: msgspec.Raw = NULL
    seconds: msgspec.Raw = NULL


class _Reply(msgspec.Struct, frozen=True):
    """A whole transcription, or one event of a streamed one. duration: seconds, in the verbose form."""

    type: str = ""
    text: str | None = None
    delta: str | None = None
    usage: _Usage | None = None
    duration: msgspec.Raw = NULL


class _Speech(msgspec.Struct, frozen=True):
    model: str | None = None
    input: str = ""


_reply = msgspec.json.Decoder(_Reply)
_speech = msgspec.json.Decoder(_Speech)


class Transcriptions(Endpoint):
    """POST /v1/audio/transcriptions and, under its own name, /v1/audio/translations."""

    plain_kinds = frozenset({b"text/plain", b"text/vtt", b"text/srt", b"application/x-subrip"})

    def __init__(self, name: str = "audio.transcriptions") -> None:
        self.name = name

    def read_request(self, body: bytes, content_type: bytes = b"") -> Asked:
        """Return what the form asks for; a form without a model is the backend's to refuse."""
        form = fields(body, content_type)
        prompt = msgspec.json.encode(form.get("prompt", ""))
        is_streaming = form.get("stream", "").strip().lower() in {"true", "1"}
        return Asked(form.get("model", ""), is_streaming=is_streaming, prompt=msgspec.Raw(prompt))

    def read_reply(self, body: bytes) -> Said | None:
        """Return what a transcription says, as JSON or as text; None when its bytes are no text."""
        if body.lstrip()[:1] == b"{":
            reply = tolerated(_reply, body)
            if reply is None:
                return None
            return Said(_told(reply.text), (0,), _counts(reply.usage), media=_heard(reply))
        try:
            text = body.decode("utf-8")
        except UnicodeDecodeError:
            return None
        return Said(_told(spoken_in(text)), (0,))

    def read_chunk(self, data: bytes) -> Said:
        """Return what one event says."""
        event = tolerated(_reply, data)
        if event is None:
            return NOTHING
        if event.type == "transcript.text.delta":
            return Said(_told(event.delta))
        if event.type == "transcript.text.done":
            counts, media = _counts(event.usage), _heard(event)
            return Said((), (0,), counts, whole=_told(event.text), is_end=True, media=media)
        return NOTHING

    def prompt_text(self, asked: Asked) -> str:
        """Return the prompt; audio counts nothing in an estimate."""
        return msgspec.json.decode(asked.prompt, type=str)


class Speech(Endpoint):
    """POST /v1/audio/speech."""

    name = "audio.speech"
    tells_text = False

    def read_request(self, body: bytes, content_type: bytes = b"") -> Asked:  # noqa: ARG002  always JSON
        """Return what is asked for, with the text that will be spoken."""
        request = decoded(_speech, body, "a speech request")
        prompt = msgspec.Raw(msgspec.json.encode(request.input))
        return Asked(request.model or "", prompt=prompt, spoken=request.input)

    def read_reply(self, body: bytes) -> Said | None:
        """Return what a JSON reply says beside the speech: its usage, if that."""
        reply = tolerated(_reply, body)
        return None if reply is None else Said((), (0,), _counts(reply.usage))

    def read_chunk(self, data: bytes) -> Said:
        """Return what one event says; its audio is not looked at."""
        event = tolerated(_reply, data)
        if event is None or event.type != "speech.audio.done":
            return NOTHING
        return Said((), (0,), _counts(event.usage), is_end=True)

    def prompt_text(self, asked: Asked) -> str:
        """Return the text to be spoken."""
        return asked.spoken


def spoken_in(text: str) -> str:
    """Return what is said in plain text, SubRip or WebVTT: without times, numbers and notes."""
    lines = text.removeprefix("\ufeff").splitlines()
    if not any(_TIMES.match(line) for line in lines):
        return "\n".join(lines)
    said: list[str] = []
    is_cue = False
    for line in lines:
        if _TIMES.match(line):
            is_cue = True
        elif not line.strip():
            is_cue = False
        elif is_cue:
            said.append(line.strip())
    return "\n".join(said)


def _told(text: str | None) -> tuple[TextDelta, ...]:
    return (TextDelta(0, text),) if text else ()


def _counts(usage: _Usage | None) -> TokenCounts | None:
    return None if usage is None else counts_of(usage.input_tokens, usage.output_tokens)


def _heard(reply: _Reply) -> MediaCounts | None:
    """Return how long the sound was: what usage counts, else the duration that the verbose form tells."""
    usage = reply.usage
    counted = usage.seconds if usage is not None and bytes(usage.type) == b'"duration"' else NULL
    milliseconds = milliseconds_of(counted) or milliseconds_of(reply.duration)
    return MediaCounts(milliseconds=milliseconds) if milliseconds else None

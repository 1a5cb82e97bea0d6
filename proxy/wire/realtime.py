"""Realtime sessions: messages over a websocket, of which only those that say what was used are read.

Pages in browsers cannot send headers with a websocket, so their key comes as a subprotocol. The model stands
in the address. A session has many answers; each ends in `response.done`, which reports its own usage. What a
person hears is audio, and its text comes beside it: it is counted where no usage comes, and not compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl, quote

import msgspec

from proxy.wire.errors import WireError
from proxy.wire.output import TokenCounts
from proxy.wire.reading import Count, counts_of, tolerated

KEY_PROTOCOL = "openai-insecure-api-key."
_OPENS, _ENDS = '"response.created"', '"response.done"'
_TEXTS = frozenset({
    "response.output_text.delta", "response.output_audio_transcript.delta", "response.text.delta",
    "response.audio_transcript.delta", "response.function_call_arguments.delta",
})  # fmt: skip


class RealtimeEvent(msgspec.Struct, frozen=True):
    """What one message of the backend says. kind: "" for one that is only passed on."""

    kind: str = ""
    answer_id: str = ""
    counts: TokenCounts | None = None
    characters: int = 0
    is_cancelled: bool = False


class _Usage(msgspec.Struct, frozen=True):
    input_tokens: Count = None
    output_tokens: Count = None


class _Response(msgspec.Struct, frozen=True):
    id: str = ""
    status: str = ""
    usage: _Usage | None = None


class _Event(msgspec.Struct, frozen=True):
    type: str = ""
    response: _Response | None = None
    response_id: str = ""
    delta: str = ""


class _Chosen(msgspec.Struct, frozen=True):
    model: Any = None


class _Asking(msgspec.Struct, frozen=True):
    session: _Chosen | None = None
    response: _Chosen | None = None


_event = msgspec.json.Decoder(_Event)
_asking = msgspec.json.Decoder(_Asking)
NOTHING = RealtimeEvent()


def key_in(protocols: Sequence[str]) -> str:
    """Return the key that a browser's page presents as a subprotocol, "" without one."""
    return next((one.removeprefix(KEY_PROTOCOL) for one in protocols if one.startswith(KEY_PROTOCOL)), "")


def without_key(protocols: Sequence[str]) -> list[str]:
    """Return the subprotocols that a backend may see."""
    return [one for one in protocols if not one.startswith(KEY_PROTOCOL)]


def model_asked(query: bytes) -> str | None:
    """Return the model in an address, None without one. Raises WireError when it is there twice."""
    try:
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=100)
    except ValueError as error:
        raise WireError("the address has too many parameters", remedy="send fewer") from error
    names = [value for name, value in pairs if name.casefold() == "model"]
    if len(names) > 1:
        raise WireError("the address names two models", remedy="write `model` once", param="model")
    return names[0] if names else None


def renamed_query(query: bytes, model: str) -> bytes:
    """Return the query with its model's name replaced; every other byte as it came."""
    parts = query.split(b"&")
    named = b"model=" + quote(model, safe="").encode("ascii")
    return b"&".join(named if part.partition(b"=")[0].lower() == b"model" else part for part in parts)


def models_chosen(message: str) -> list[str]:
    """Return the models that a client's message would turn its session to; what cannot be read names none."""
    asked = tolerated(_asking, message.encode("utf-8", "surrogatepass")) if '"model' in message else None
    if asked is None:
        return []
    return [one.model for one in (asked.session, asked.response) if one and isinstance(one.model, str)]


def read_message(message: str) -> RealtimeEvent:
    """Return what a backend's message says. Most are audio, and are only searched for a word."""
    if _ENDS not in message and _OPENS not in message and "_text.delta" not in message:
        head = message[:200]
        if ".text.delta" not in head and "_transcript.delta" not in head and "_arguments.delta" not in head:
            return NOTHING
    event = tolerated(_event, message.encode("utf-8", "surrogatepass"))
    if event is None:
        return NOTHING
    if event.type in _TEXTS:
        return RealtimeEvent("told", event.response_id, characters=len(event.delta))
    response = event.response
    if event.type == "response.created" and response is not None:
        return RealtimeEvent("opened", response.id)
    if event.type == "response.done" and response is not None:
        usage = response.usage
        counts = None if usage is None else counts_of(usage.input_tokens, usage.output_tokens)
        is_cancelled = response.status in {"cancelled", "incomplete", "failed"}
        return RealtimeEvent("done", response.id, counts, is_cancelled=is_cancelled)
    return NOTHING

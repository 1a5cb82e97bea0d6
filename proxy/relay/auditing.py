"""Which exchanges of an opted-in app are kept for the causal audit, and kept without anybody waiting.

Decided by a hash of the answer's id, after the answer is recorded and sent: an audit costs no client a
millisecond. Only whole answers are taken, one choice of each, and only short ones. At most WRITING_MAX are
being written at a time; what comes meanwhile is not kept, because a sample loses nothing by it.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import msgspec

from proxy.clock import Clock
from proxy.metering.audited import AuditedExchanges, Exchange, Message
from proxy.relay.exchange import Exchange as Answered
from proxy.settings import Audit
from proxy.wire.endpoint import Asked, Endpoint

WRITING_MAX = 8  # a write takes a millisecond or two
PPM = 1_000_000


class _Part(msgspec.Struct, frozen=True):
    type: str = ""
    text: str | None = None


class _Said(msgspec.Struct, frozen=True):
    role: str
    content: str | list[_Part] | None = None


_messages = msgspec.json.Decoder(list[_Said])


class Auditing:
    """Takes exchanges of apps that an operator has opted in."""

    def __init__(self, kept: AuditedExchanges, settings: Audit, *, clock: Clock) -> None:
        self._kept = kept
        self._settings = settings
        self._clock = clock
        self._writing: set[asyncio.Future[Any]] = set()

    def take(self, app_id: str, answered: Answered) -> None:
        """Keep an exchange of an opted-in app if it is one of the sample. Never waits, never raises."""
        if len(self._writing) >= WRITING_MAX or not is_sampled(answered.id, self._settings.sample_ppm):
            return
        exchange = exchange_of(answered, self._settings.exchange_bytes_max)
        if exchange is None:
            return
        now_s = self._clock.now_us() / 1_000_000
        loop = asyncio.get_running_loop()
        writing = loop.run_in_executor(None, self._kept.put, app_id, exchange, now_s)
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)

    async def sweep(self) -> None:
        """Let go of what is too old."""
        await asyncio.to_thread(self._kept.sweep, self._clock.now_us() / 1_000_000)

    async def aclose(self) -> None:
        """Wait for what is being written."""
        if self._writing:
            await asyncio.wait(self._writing)


def is_sampled(answer_id: str, sample_ppm: int) -> bool:
    """Tell whether an answer is one of the sample: the same in every worker, whenever it is asked."""
    digest = hashlib.sha256(f"audit|{answer_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % PPM < sample_ppm


def exchange_of(answered: Answered, bytes_max: int) -> Exchange | None:
    """Return what was asked and answered; None where a part is missing, was cut, or is beyond `bytes_max`."""
    told, asked = answered.told, answered.asked
    if asked is None or told.kept_characters != told.characters or len(bytes(asked.prompt)) > bytes_max:
        return None
    answer = next((text for text in told.texts().values() if text.strip()), "")
    messages = messages_of(answered.endpoint, asked)
    if not answer or not messages or len(answer) > bytes_max:
        return None
    return Exchange(answered.id, answered.model, messages, answer)


def messages_of(endpoint: Endpoint, asked: Asked) -> tuple[Message, ...]:
    """Return the request's messages with their roles; all of its text as the user's, where it has none."""
    try:
        said = _messages.decode(asked.prompt)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        text = endpoint.prompt_text(asked)
        return (Message("user", text),) if text.strip() else ()
    texts = [(one.role, _plain(one.content)) for one in said]
    return tuple(Message(role, text) for role, text in texts if text)


def _plain(content: str | list[_Part] | None) -> str:
    return "".join(part.text or "" for part in content) if isinstance(content, list) else content or ""

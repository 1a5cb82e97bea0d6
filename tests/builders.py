"""Plain functions with good defaults: wire bytes as backends write them, and a relay with fakes around it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from proxy.observability import Metrics
from proxy.relay.handler import Relay
from proxy.settings import Attribution, Settings
from tests import fakes


def chat_request(**changes: Any) -> bytes:
    request = {"model": "small-1", "messages": [{"role": "user", "content": "tell me of the sea"}], **changes}
    return json.dumps(request).encode()


def chat_reply(text: str | None = "The lamp burned all night.", **changes: Any) -> bytes:
    reply = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "small-1-2026",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
        **changes,
    }
    return json.dumps(reply, indent=1).encode()


def frame(value: Any) -> bytes:
    return b"data: " + (value if isinstance(value, bytes) else json.dumps(value).encode()) + b"\n\n"


def chunk(text: str | None = None, *, choice: int = 0, finish: str | None = None, **more: Any) -> bytes:
    delta = {} if text is None else {"content": text}
    return frame(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "small-1-2026",
            "choices": [{"index": choice, "delta": delta, "finish_reason": finish}],
            **more,
        }
    )


def usage_chunk(given: int = 11, told: int = 7) -> bytes:
    return frame(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "small-1-2026",
            "choices": [],
            "usage": {"prompt_tokens": given, "completion_tokens": told, "total_tokens": given + told},
        }
    )


DONE = b"data: [DONE]\n\n"
SSE = [(b"Content-Type", b"text/event-stream")]


def chat_stream(
    texts: Sequence[str] = ("The lamp ", "burned ", "all night."), *, usage: bool = True
) -> list[bytes]:
    """One choice as most backends stream it, one network piece a frame."""
    frames = [chunk(text) for text in texts] + [chunk(finish="stop")]
    return [*frames, *([usage_chunk()] if usage else []), DONE]


class World:
    """A relay with everything around it faked; the parts stay at hand."""

    def __init__(
        self, backend: Any = None, *, result: Any = "scored", settings: Any = None, **changes: Any
    ) -> None:
        self.backend = backend if backend is not None else fakes.FakeBackend()
        self.journal = fakes.MemoryJournal()
        self.pending = fakes.MemoryPending()
        self.attributing = fakes.ScriptedAttributing(fakes.scored() if result == "scored" else result)
        self.clock = fakes.FrozenClock()
        self.log = fakes.QuietLog()
        self.metrics = Metrics()
        self.credits: dict[str, Any] = {fakes.WORK: fakes.Credit(fakes.WORK)}
        given: dict[str, Any] = {
            "settings": settings or Settings(attribution=Attribution(deadline_ms=250)),
            "keyring": fakes.MemoryKeys(),
            "journal": self.journal,
            "pending": self.pending,
            "attributing": self.attributing,
            "credit_of": self.credits.get,
            "registry_seq": lambda: 5,
            "price_of": lambda model, at, i, o, images, ms: ("p1", 10 * i + 20 * o, "USD"),
            "issuer": fakes.StillIssuer(),
            "clock": self.clock,
            "ids": fakes.CountingIds(),
            "metrics": self.metrics,
            "log": self.log,
            "transport": getattr(self.backend, "transport", None),
            "environ": {},
        }
        self.relay = Relay(**{**given, **changes})

    async def ask(self, body: bytes | None = None, headers: dict[str, str] | None = None, **more: Any) -> Any:
        client = fakes.AsgiClient(self.relay)
        sent = chat_request() if body is None else body
        await client.call(
            "POST",
            "/v1/chat/completions",
            {"content-type": "application/json", **(headers or {})},
            sent,
            **more,
        )
        return client

"""The OpenAI wire without a socket: bytes in, values out, and the bytes kept as they came.

What this package promises: it never re-encodes what it forwards, it reads bytes in whatever pieces the
network made, and everything it keeps has a bound. It imports the standard library and msgspec, so that a test
of the wire starts in milliseconds.
"""

from __future__ import annotations

from proxy.wire.chat import ChatCompletions
from proxy.wire.endpoint import Asked, Endpoint
from proxy.wire.errors import WireError
from proxy.wire.output import Said, TextDelta, TokenCounts
from proxy.wire.sse import Frame, SseDecoder

_METERED: dict[tuple[str, str], Endpoint] = {("POST", "/v1/chat/completions"): ChatCompletions()}


def endpoint_for(method: str, path: str) -> Endpoint | None:
    """Return how to read this route's requests and answers, or None: passed through, counted as a request.

    `path` is the raw path with its /v1, without the query; one trailing slash is taken as the same route.
    """
    return _METERED.get((method, path.removesuffix("/")))


__all__ = [
    "Asked",
    "Endpoint",
    "Frame",
    "Said",
    "SseDecoder",
    "TextDelta",
    "TokenCounts",
    "WireError",
    "endpoint_for",
]

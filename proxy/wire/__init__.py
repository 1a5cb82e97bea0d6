"""The OpenAI wire without a socket: bytes in, values out, and the bytes kept as they came.

Anthropic's Messages, which the same backends serve, are one more family here. What this package promises: it
never re-encodes what it forwards, it reads bytes in whatever pieces the network made, and everything it keeps
has a bound. It imports the standard library and msgspec, so that a test of the wire starts in milliseconds.
"""

from __future__ import annotations

from proxy.wire.audio import Speech, Transcriptions
from proxy.wire.chat import ChatCompletions
from proxy.wire.completions import Completions
from proxy.wire.endpoint import Asked, Endpoint
from proxy.wire.errors import WireError
from proxy.wire.measures import Measures
from proxy.wire.messages import Messages
from proxy.wire.output import MediaCounts, Said, TextDelta, TokenCounts
from proxy.wire.pictures import Pictures
from proxy.wire.responses import Compaction, Responses
from proxy.wire.sse import Frame, SseDecoder

_PATHS: dict[str, Endpoint] = {
    "/v1/chat/completions": ChatCompletions(),
    "/v1/completions": Completions(),
    "/v1/responses": Responses(),
    "/v1/responses/compact": Compaction(),
    "/v1/messages": Messages(),
    "/v1/audio/transcriptions": Transcriptions(),
    "/v1/audio/translations": Transcriptions("audio.translations"),
    "/v1/audio/speech": Speech(),
    "/v1/images/generations": Pictures("images.generations"),
    "/v1/images/edits": Pictures("images.edits"),
    "/v1/images/variations": Pictures("images.variations"),
    "/v1/videos": Pictures("videos"),
    "/v1/embeddings": Measures("embeddings"),
    "/v1/moderations": Measures("moderations"),
}
_OF_VIDEOS: dict[str, Endpoint] = {
    "/v1/videos/edits": _PATHS["/v1/videos"],
    "/v1/videos/extensions": Pictures("videos", extends=True),
}
ENDPOINTS = tuple(_PATHS.values())
# Whoever asks for one of these to the letter has named no id and left no folder; nearly every request does.
METERED_PATHS = frozenset(path.encode("ascii") for path in _PATHS)


def endpoint_for(method: str, path: str) -> Endpoint | None:
    """Return how to read this route's requests and answers, or None: passed through, counted as a request.

    `path` is the raw path with its /v1, without the query; one trailing slash is taken as the same route, and
    so is upper case: some backends do not tell it from lower.
    """
    if method != "POST":
        return None
    path = path.removesuffix("/").lower()
    is_remix = path.startswith("/v1/videos/") and path.endswith("/remix") and path.count("/") == 4
    return _PATHS["/v1/videos"] if is_remix else _PATHS.get(path) or _OF_VIDEOS.get(path)


__all__ = [
    "ENDPOINTS",
    "METERED_PATHS",
    "Asked",
    "Endpoint",
    "Frame",
    "MediaCounts",
    "Said",
    "SseDecoder",
    "TextDelta",
    "TokenCounts",
    "WireError",
    "endpoint_for",
]

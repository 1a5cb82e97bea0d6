"""Scripts of other sites that ask us from a browser: who may read our answers, and which of our headers.

Off until an app lists origins. A preflight carries no key, so it is answered when any app lists its origin;
the request that follows is readable only if its own key's app does. What a backend says about other sites is
dropped: it would open to everybody what the operator opened to one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from proxy.relay.needs import Scope, Send

PREFLIGHT_S = 600  # how long a browser remembers; a revoked origin is asked for again by then
ASKED_BYTES_MAX = 4_096  # of header names that a preflight asks for; browsers send a few
EXPOSED = (
    b"x-attribution-id, x-attribution-status, x-attribution, x-attribution-unattributed, x-request-id, "
    b"retry-after, openai-processing-ms, openai-version"
)
METHODS = b"GET, POST, PUT, PATCH, DELETE, HEAD"


def origin_asking(scope: Scope) -> str:
    """Return the origin of the page that asks, "" when no other site's script does."""
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == b"origin"), "")


def preflight(scope: Scope, origin: str) -> list[tuple[bytes, bytes]] | None:
    """Return the headers that allow what a preflight asks for; None when this is none."""
    headers = dict(scope["headers"])
    if scope["method"] != "OPTIONS" or b"access-control-request-method" not in headers:
        return None
    asked = headers.get(b"access-control-request-headers", b"")
    allowed = [(b"access-control-allow-headers", asked)] if 0 < len(asked) <= ASKED_BYTES_MAX else []
    return [
        (b"access-control-allow-origin", origin.encode("latin-1")),
        (b"access-control-allow-methods", METHODS),
        *allowed,
        (b"access-control-max-age", b"%d" % PREFLIGHT_S),
        (b"vary", b"origin, access-control-request-method, access-control-request-headers"),
    ]


class CrossSend:
    """Where an answer to another site's script goes: says in its head whether that script may read it."""

    def __init__(self, send: Send, origin: str, *, is_open: bool) -> None:
        self._send = send
        self._origin = origin
        self._is_open = is_open  # until the key is known: refusals are readable where anything may be

    def only_for(self, origins: Sequence[str]) -> None:
        """Go by the origins of the key's own app from now on."""
        self._is_open = self._origin in origins

    async def __call__(self, message: dict[str, Any]) -> None:
        """Send, with the head's headers about other sites replaced by ours."""
        if message["type"] == "http.response.start":
            headers = [
                (name, value)
                for name, value in message["headers"]
                if not name.lower().startswith(b"access-control-")
            ]
            headers.append((b"vary", b"origin"))
            if self._is_open:
                headers.append((b"access-control-allow-origin", self._origin.encode("latin-1")))
                headers.append((b"access-control-expose-headers", EXPOSED))
            message = {**message, "headers": headers}
        await self._send(message)

"""Whether the client is still there: told by the server that holds its connection, or listened for by a task.

No send to a client that has left ever fails, so somebody must ask. Our own server says it at once and for
nothing. Any other is asked for the next message, which costs a task; short answers are over before it begins.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from proxy.relay.needs import GONE, Receive, Scope

WATCH_AFTER_S = 0.01  # whoever leaves before that is missed by then; short answers need no second task


class Presence:
    """Watches one client from now on and calls `left` once when it leaves. `close` it in the end."""

    __slots__ = ("_left", "_receive", "_tell", "_watching")

    def __init__(self, scope: Scope, receive: Receive, left: Callable[[], None]) -> None:
        self._left, self._receive = left, receive
        self._tell: Callable[[Callable[[], None] | None], None] | None = scope.get(GONE)
        self._watching: asyncio.TimerHandle | asyncio.Task[None] | None = None
        if self._tell is not None:
            self._tell(left)
        else:
            self._watching = asyncio.get_running_loop().call_later(WATCH_AFTER_S, self._begin)

    def close(self) -> None:
        """Watch no longer."""
        if self._tell is not None:
            self._tell(None)
        elif self._watching is not None:
            self._watching.cancel()

    def _begin(self) -> None:
        self._watching = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._left()

"""A few requests begin in each turn of the event loop; the rest wait for the next, in their order.

To begin a request takes as long as to pass on ten events. When a hundred come at once, the first of them has
its first token long before the last was looked at, and streams under way do not wait for all of them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

BEGUN_AT_ONCE = 8  # about two milliseconds


class Turns:
    """The turns of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.waiting: deque[Callable[[], None]] = deque()  # one a connection
        self._room = BEGUN_AT_ONCE

    def has_room(self) -> bool:
        """Take a place in this turn; False when there is none left."""
        if not self._room:
            return False
        if self._room == BEGUN_AT_ONCE:
            self.loop.call_soon(self._next)
        self._room -= 1
        return True

    def _next(self) -> None:
        self._room = BEGUN_AT_ONCE
        while self.waiting and self.has_room():
            self.waiting.popleft()()

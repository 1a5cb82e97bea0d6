"""How long one task waits for others: one timer for all its waits, and none where nothing limits them.

asyncio.timeout does the same for a single wait, with an object, a timer and three calls each time; an answer
has many waits, nearly all of them short. Here a timer is set once and looks, when it rings, whether a wait is
still under way and how far its limit has moved since.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

TICK_S = 0.001  # timers of the loop are good to a millisecond


class Patience:
    """The waits of the task that made it, one at a time: `with patience.until(ends_s): await ...`.

    Raises TimeoutError there when the limit has passed. `close` it in the end.
    """

    __slots__ = ("_cancelling", "_has_rung", "_is_waiting", "_loop", "_task", "_timer", "ends_s")

    def __init__(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # whoever waits is a task
        self._loop, self._task = asyncio.get_running_loop(), task
        self._timer: asyncio.TimerHandle | None = None
        self._is_waiting = self._has_rung = False
        self._cancelling = 0  # requests to cancel the task that are not ours
        self.ends_s: float | None = None  # of the wait under way, by the loop's clock; None: no limit

    def until(self, ends_s: float | None) -> Patience:
        """Set the limit of the wait that begins."""
        self.ends_s = ends_s
        return self

    def __enter__(self) -> None:
        assert not self._is_waiting
        self._cancelling = self._task.cancelling()
        self._is_waiting = True
        self._watch()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_waiting = False
        if not self._has_rung:
            return
        self._has_rung = False
        if self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    @property
    def is_waiting(self) -> bool:
        """Whether a wait is under way."""
        return self._is_waiting

    def reschedule(self, ends_s: float) -> None:
        """Move the limit of the wait under way; one in the past ends it."""
        self.ends_s = ends_s
        self._watch()

    def close(self) -> None:
        """Let the timer go."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _watch(self) -> None:
        ends_s = self.ends_s
        if ends_s is None or self._has_rung or (self._timer is not None and self._timer.when() <= ends_s):
            return
        self.close()
        self._timer = self._loop.call_at(ends_s, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if not self._is_waiting or self.ends_s is None:
            return
        if self._loop.time() < self.ends_s - TICK_S:
            self._watch()
        else:
            self._has_rung = True
            self._task.cancel()

"""Long work that a page starts: a process of its own, one at a time, ended when it takes too long.

In the server's own process it would hold up the streams that are carried meanwhile. What it found lies in a
file of its own making, so that each worker can tell it, also after a restart; who starts and ends it is here.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from typing import Final

from proxy.clock import SystemClock
from proxy.settings import Settings, handed_over

_CLOCK: Final = SystemClock()


class Job:
    """Starts one kind of work on one data folder."""

    def __init__(
        self,
        settings: Settings,
        module: str,
        *,
        is_busy: Callable[[], bool],
        failed: Callable[[int, int, str], None],
        longest_s: float,
    ) -> None:
        """Name the module whose `main` does the work.

        is_busy: whether any process does it now. failed: keeps that one began, ended (microseconds) and why
        it came to nothing.
        """
        self._settings, self._module, self._longest_s = settings, module, longest_s
        self._is_busy, self._failed = is_busy, failed
        self.running: asyncio.Task[None] | None = None

    def start(self) -> bool:
        """Start one; False where one runs already, here or in another worker."""
        if self.is_running():
            return False
        self.running = asyncio.get_running_loop().create_task(self._run(), name=self._module)
        return True

    def is_running(self) -> bool:
        """Return whether it is being done at this moment, by whomever."""
        is_ours = self.running is not None and not self.running.done()
        return is_ours or self._is_busy()

    async def _run(self) -> None:
        began_us = _CLOCK.now_us()
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", self._module, env=os.environ | handed_over(self._settings)
        )
        status: int | None = None
        try:
            async with asyncio.timeout(self._longest_s):
                status = await child.wait()
        except TimeoutError:
            child.kill()
            status = await child.wait()
        finally:
            if child.returncode is None:  # the server stops
                child.kill()
        if status:
            self._failed(began_us, _CLOCK.now_us(), f"its process ended with {status}")

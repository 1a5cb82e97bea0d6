"""`/api/audits`: an operator starts an audit of the books and reads what the last one found.

One at a time and in a process of its own (auditor.py): starting answers at once, and so does asking while it
runs, with the end of the one before. What is told is bounded as the command's is: every invariant, and of a
broken one so many rows by name, all of them counted.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any, Final

import msgspec
from litestar import Router, get, post
from litestar.datastructures import CacheControlHeader

from proxy.access.guards import requires
from proxy.access.keys import Action
from proxy.asking import of_pages
from proxy.clock import SystemClock, iso_utc
from proxy.portal.auditor import Audited, is_running, keep, last
from proxy.settings import Settings, handed_over

OPERATORS: Final = [requires(Action.OPERATE)]
LONGEST_S: Final = 6 * 3_600  # a hundred million answers, on a machine that has other things to do
_CLOCK: Final = SystemClock()


class Audits:
    """Starts audits of one data folder, and tells of them."""

    def __init__(self, settings: Settings, longest_s: int = LONGEST_S) -> None:
        """longest_s: after so long an audit is ended, and that is what it found."""
        self._settings, self._longest_s = settings, longest_s
        self.running: asyncio.Task[None] | None = None

    def start(self) -> bool:
        """Start one; False where one runs already, here or in another worker."""
        if self._is_running():
            return False
        self.running = asyncio.get_running_loop().create_task(self._run(), name="audit")
        return True

    def told(self) -> dict[str, Any]:
        """Return what the last one found, and whether one runs."""
        found = last(self._settings.data_dir)
        state = "running" if self._is_running() else "never" if found is None else "done"
        return {"state": state, "last": None if found is None else _told(found)}

    def _is_running(self) -> bool:
        is_ours = self.running is not None and not self.running.done()
        return is_ours or is_running(self._settings.data_dir)

    async def _run(self) -> None:
        began_us = _CLOCK.now_us()
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "proxy.portal.auditor", env=os.environ | handed_over(self._settings)
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
            why = f"its process ended with {status}"
            made = Audited(began_us=began_us, ended_us=_CLOCK.now_us(), problem=why)
            keep(self._settings.data_dir, made)


def _told(found: Audited) -> dict[str, Any]:
    return {
        "began": iso_utc(found.began_us),
        "ended": iso_utc(found.ended_us),
        "sound": found.is_sound,
        "problem": found.problem,
        "items": msgspec.to_builtins(found.items),
    }


def audits_router(audits: Audits) -> Router:
    """Return /api/audits."""

    @post("/audits", guards=OPERATORS, status_code=202)
    async def start() -> dict[str, Any]:
        """Start an audit of the books; one that runs already is the one."""
        is_new = audits.start()
        return await of_pages(audits.told) | {"new": is_new}

    @get("/audits", guards=OPERATORS)
    async def told() -> dict[str, Any]:
        """What the last audit found: every invariant with its state, and the rows that break one."""
        return await of_pages(audits.told)

    return Router("/api", route_handlers=[start, told], cache_control=CacheControlHeader(no_store=True))

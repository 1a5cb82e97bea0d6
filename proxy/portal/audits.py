"""`/api/audits`: an operator starts an audit of the books and reads what the last one found.

One at a time and in a process of its own (auditor.py): starting answers at once, and so does asking while it
runs, with the end of the one before. What is told is bounded as the command's is: every invariant, and of a
broken one so many rows by name, all of them counted.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from litestar import Router, get, post
from litestar.datastructures import CacheControlHeader

from proxy.access.guards import requires
from proxy.access.keys import Action
from proxy.asking import of_pages
from proxy.clock import iso_utc
from proxy.portal.auditor import Audited, is_running, keep, last
from proxy.portal.jobs import Job
from proxy.settings import Settings

OPERATORS: Final = [requires(Action.OPERATE)]
LONGEST_S: Final = 6 * 3_600  # a hundred million answers, on a machine that has other things to do


class Audits:
    """Starts audits of one data folder, and tells of them."""

    def __init__(self, settings: Settings, longest_s: float = LONGEST_S) -> None:
        """longest_s: after so long an audit is ended, and that is what it found."""
        self._folder = settings.data_dir
        self.job = Job(
            settings,
            "proxy.portal.auditor",
            is_busy=lambda: is_running(self._folder),
            failed=self._failed,
            longest_s=longest_s,
        )

    def told(self) -> dict[str, Any]:
        """Return what the last one found, and whether one runs."""
        found = last(self._folder)
        state = "running" if self.job.is_running() else "never" if found is None else "done"
        return {"state": state, "last": None if found is None else _told(found)}

    def _failed(self, began_us: int, ended_us: int, why: str) -> None:
        keep(self._folder, Audited(began_us=began_us, ended_us=ended_us, problem=why))


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
        is_new = audits.job.start()
        return await of_pages(audits.told) | {"new": is_new}

    @get("/audits", guards=OPERATORS)
    async def told() -> dict[str, Any]:
        """What the last audit found: every invariant with its state, and the rows that break one."""
        return await of_pages(audits.told)

    return Router("/api", route_handlers=[start, told], cache_control=CacheControlHeader(no_store=True))

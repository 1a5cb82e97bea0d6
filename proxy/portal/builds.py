"""`/api/index` and the operator's page of works: how old the index is, what waits for it, and a new one.

A build is started in a process of its own (indexer.py) and told while it runs. One at a time, whoever began
it: a build by the command line is one too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from litestar import Response, Router, get, post
from litestar.datastructures import CacheControlHeader
from litestar.handlers import BaseRouteHandler
from litestar.response import Redirect

from proxy.access.guards import requires
from proxy.access.keys import Action
from proxy.asking import of_pages
from proxy.catalogue import indexing, shelf_store
from proxy.clock import iso_utc
from proxy.errors import Problem
from proxy.portal.doors import inside
from proxy.portal.indexer import Built, keep, last
from proxy.portal.jobs import Job
from proxy.settings import Settings

if TYPE_CHECKING:
    import sqlalchemy as sa

LONGEST_S: Final = 24 * 3_600  # ten million works on two cores
OPERATORS: Final = [requires(Action.OPERATE)]


class Builds:
    """Builds of one data folder's index."""

    def __init__(self, engine: sa.Engine, settings: Settings, longest_s: float = LONGEST_S) -> None:
        """longest_s: after so long a build is ended; the next one goes on where it was."""
        self._engine, self._folder = engine, settings.index_dir
        self.job = Job(
            settings,
            "proxy.portal.indexer",
            is_busy=lambda: indexing.is_building(self._folder),
            failed=self._failed,
            longest_s=longest_s,
        )

    def told(self) -> dict[str, Any]:
        """Return the index in use, what waits for the next, and how the last build of a page went."""
        problem, built_us = "", 0
        try:
            path = indexing.current(self._folder)
            built_us = int(path.name) if path is not None else 0
        except Problem as broken:
            problem = broken.cause
        waiting, is_more = shelf_store.awaiting_index(self._engine, built_us)
        found, is_running = last(self._folder), self.job.is_running()
        return {
            "built": iso_utc(built_us) if built_us else None,
            "problem": problem,
            "waiting": waiting,
            "waiting_more": is_more,
            "state": "running" if is_running else "never" if found is None else "done",
            "last": None if found is None else _row(found, is_running=is_running),
        }

    def _failed(self, began_us: int, ended_us: int, why: str) -> None:
        remedy = "build it again: it goes on where this one stopped"
        keep(self._folder, Built(began_us=began_us, ended_us=ended_us, problem=why, remedy=remedy))


def _row(found: Built, *, is_running: bool) -> dict[str, Any]:
    return {
        "began": iso_utc(found.began_us),
        "ended": iso_utc(found.ended_us) if found.ended_us else None,
        "done": found.done,
        "total": found.total,
        "index": found.index or None,
        "held": [{"work": one.work, "why": one.why} for one in found.held],
        "held_all": found.held_all,
        # A killed server leaves a build that neither runs nor has ended.
        "problem": found.problem or ("" if found.ended_us or is_running else "it was stopped before its end"),
        "remedy": found.remedy,
    }


def index_router(builds: Builds) -> Router:
    """Return /api/index."""

    @get("/index", guards=OPERATORS)
    async def told() -> dict[str, Any]:
        """When the index in use was built, how many works wait for the next, and how its build goes."""
        return await of_pages(builds.told)

    @post("/index/builds", guards=OPERATORS, status_code=202)
    async def start() -> dict[str, Any]:
        """Build an index of everything that is registered; one that is being built already is the one."""
        is_new = builds.job.start()
        return await of_pages(builds.told) | {"new": is_new}

    return Router("/api", route_handlers=[told, start], cache_control=CacheControlHeader(no_store=True))


def build_pages(builds: Builds) -> Sequence[BaseRouteHandler]:
    """Return the handler of the button; what it did is on the page of works."""

    @post("/desk/index", guards=[inside("operator")])
    async def build() -> Response[Any]:
        """Build the index."""
        builds.job.start()
        return Redirect("/portal/desk/works", status_code=303)

    return (build,)

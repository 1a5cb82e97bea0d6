"""Who made what at which backend: where a thing is fetched by its id, and that nobody else fetches it.

Known at once in this worker's memory, and within moments in the store, where the other workers and the next
process look. Nobody waits for that writing. While the store is away, what is in memory is answered, and an
id that is not cannot be told from another app's: it waits for the store, like a key that is not in memory.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Protocol

from proxy.access.made_store import Made
from proxy.asking import of_store
from proxy.clock import Clock
from proxy.errors import NotFound, Problem

DAY_US = 86_400_000_000
ANSWERS_US = 35 * DAY_US  # backends keep answers for 30 days
THINGS_US = 400 * DAY_US  # files, batches, stores: as long as somebody uses them, mostly far shorter
REMEMBERED_MAX = 50_000  # some 10 MB; more are asked of the store
WAITING_MAX = 10_000  # to be written; reached only while the store is away for long
ASKED_AT_ONCE = 500  # ids in one statement; SQLite takes 32,766
GATHER_S, RETRY_S = 0.05, 1.0


class MadeLike(Protocol):
    """Where it is kept (access.made_store.MadeThings). Calls block; they raise Unavailable."""

    def note(self, things: Sequence[Made]) -> None:
        """Keep these."""
        ...

    def find(self, ids: Sequence[str]) -> list[Made]:
        """Return what is known of these ids."""
        ...


class Makers:
    """This worker's knowledge of it. Without a store it knows only what passed here."""

    def __init__(self, store: MadeLike | None, *, clock: Clock, log: Any) -> None:
        self._store = store
        self._clock = clock
        self._log = log
        self._known: OrderedDict[str, dict[str, str]] = OrderedDict()  # id -> app -> backend
        self._waiting: dict[tuple[str, str], Made] = {}
        self._writing: asyncio.Task[None] | None = None

    def note(self, ids: Sequence[str], app_id: str, backend: str, *, kept_us: int = THINGS_US) -> None:
        """Remember that this app made these at that backend. Never waits."""
        until_us = self._clock.now_us() + kept_us
        for one in ids:
            self._remember(one, app_id, backend)
            self._waiting[one, app_id] = Made(one, app_id, backend, until_us)
        while len(self._waiting) > WAITING_MAX:
            self._waiting.pop(next(iter(self._waiting)))
        if self._waiting and self._store is not None and (self._writing is None or self._writing.done()):
            self._writing = asyncio.get_running_loop().create_task(self._write())

    async def backend_of(self, ids: Sequence[str], app_id: str) -> str:
        """Return the backend where this app made one of these, "" when none of them is known.

        Raises NotFound for another app's, Unavailable when that cannot be known now.
        """
        # Backends that number from one give an id to several apps, so a foreign one is asked for again.
        unknown = [one for one in ids if app_id not in self._known.get(one, ())]
        if unknown and self._store is not None:
            for made in await of_store(self._store.find, unknown):
                self._remember(made.id, made.app_id, made.backend)
        found = ""
        for one in ids:
            apps = self._known.get(one)
            if apps is None:
                continue
            if app_id not in apps:
                remedy = "an app reaches its own things only"
                raise NotFound(f"there is no '{one[:64]}'", remedy=remedy, code="id_not_found")
            found = found or apps[app_id]
        return found

    async def others(self, ids: Sequence[str], app_id: str) -> set[str]:
        """Return those that another app made and this one did not. Raises Unavailable when nobody can say."""
        unknown = [one for one in ids if app_id not in self._known.get(one, ())]
        if self._store is not None:
            for start in range(0, len(unknown), ASKED_AT_ONCE):
                some = unknown[start : start + ASKED_AT_ONCE]
                for made in await of_store(self._store.find, some):
                    self._remember(made.id, made.app_id, made.backend)
        return {one for one in ids if app_id not in self._known.get(one, {app_id: ""})}

    def lead_to(self, one: str, made: Sequence[str], app_id: str) -> None:
        """Remember that what this app's thing tells of (a batch of its output) is this app's too."""
        backend = self._known.get(one, {}).get(app_id)
        if backend is not None:
            self.note([new for new in made if app_id not in self._known.get(new, ())], app_id, backend)

    async def aclose(self) -> None:
        """Write what waits, if the store takes it."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait({self._writing})
        if self._waiting and self._store is not None:
            await self._written(self._store)

    def _remember(self, one: str, app_id: str, backend: str) -> None:
        self._known.setdefault(one, {})[app_id] = backend
        self._known.move_to_end(one)
        if len(self._known) > REMEMBERED_MAX:
            self._known.popitem(last=False)

    async def _write(self) -> None:
        assert self._store is not None
        await asyncio.sleep(GATHER_S)
        while self._waiting:
            if not await self._written(self._store):
                await asyncio.sleep(RETRY_S)

    async def _written(self, store: MadeLike) -> bool:
        batch = list(self._waiting.values())
        try:
            await of_store(store.note, batch)
        except Problem as problem:
            self._log.warning("makers_not_written", waiting=len(batch), cause=problem.cause)
            return False
        for made in batch:
            if self._waiting.get((made.id, made.app_id)) is made:
                del self._waiting[made.id, made.app_id]
        return True

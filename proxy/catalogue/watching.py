"""What the server knows of the catalogue, kept fresh while other processes change it.

Commands write to the store and to the index's folder and tell nobody. The server looks: one number of the
store and one file, every refresh_ms, which is below the second in which a consent must act. When the store is
away, the last snapshot goes on being used: a stale credit is better than no answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from sqlalchemy.exc import SQLAlchemyError

from proxy.asking import of_store
from proxy.catalogue import indexing
from proxy.catalogue.works import CatalogueSnapshot
from proxy.errors import Problem, Unavailable
from proxy.observability import get_log

SnapshotChanged = Callable[[CatalogueSnapshot], None]
IndexChanged = Callable[[Path | None], Awaitable[None]]


class Snapshots(Protocol):
    """Where snapshots come from; a Catalogue is one."""

    def snapshot(self, previous: CatalogueSnapshot | None = None) -> CatalogueSnapshot:
        """Return every work's credit now."""
        ...


class SnapshotRefresher:
    """The current snapshot in `snapshot`; keep `run` going beside the server."""

    def __init__(self, catalogue: Snapshots, *, refresh_ms: int = 250) -> None:
        self.snapshot = CatalogueSnapshot()
        self.on_change: list[SnapshotChanged] = []
        self.away = False  # whether the last look found the store away
        self.loaded = False
        self._catalogue = catalogue
        self._refresh_s = refresh_ms / 1000

    async def refresh(self) -> bool:
        """Look once; True when there is a new snapshot, of which `on_change` has been told."""
        previous = self.snapshot if self.loaded else None
        try:
            snapshot = await of_store(self._catalogue.snapshot, previous)
        except (SQLAlchemyError, Unavailable) as error:
            if not self.away:
                get_log().warning("catalogue_lost_store", seq=self.snapshot.seq, error=type(error).__name__)
            self.away = True
            return False
        if self.away:
            get_log().info("catalogue_found_store", seq=snapshot.seq)
        self.away = False
        if snapshot is previous:
            return False
        self.snapshot, self.loaded = snapshot, True
        for tell in self.on_change:
            tell(snapshot)
        return True

    async def run(self) -> None:
        """Look for ever; cancel it to stop."""
        while True:
            try:
                await self.refresh()
            except Exception:  # noqa: BLE001  were this loop to end, withdrawn works would go on being paid
                get_log().exception("catalogue_refresh_failed")
            await asyncio.sleep(self._refresh_s)


class IndexWatcher:
    """Notices that `current` names another index and tells `on_change`; keep `run` going in the server."""

    def __init__(self, index_root: Path, on_change: IndexChanged, *, refresh_ms: int = 250) -> None:
        self.path: Path | None = None
        self._root = index_root
        self._on_change = on_change
        self._refresh_s = refresh_ms / 1000
        self._seen: tuple[int, int] | None = None

    async def look(self) -> bool:
        """Look once; True when another index is in use and `on_change` has taken it.

        A `current` that names nothing keeps the index in use. A Problem that `on_change` raises is logged and
        tried again at the next change: an index that cannot be opened must not take down the one that can.
        """
        seen = self._mark()
        if seen == self._seen:
            return False
        self._seen = seen
        try:
            path = indexing.current(self._root)
            if path == self.path:
                return False
            await self._on_change(path)
        except Problem as problem:
            get_log().error("index_not_taken", cause=problem.cause, remedy=problem.remedy)
            return False
        self.path = path
        return True

    async def run(self) -> None:
        """Look for ever; cancel it to stop."""
        while True:
            try:
                await self.look()
            except Exception:  # noqa: BLE001  were this loop to end, no new index would ever be taken
                get_log().exception("index_look_failed")
            await asyncio.sleep(self._refresh_s)

    def _mark(self) -> tuple[int, int] | None:
        try:
            # A rename brings a new inode, so two swaps within one tick of the clock are told apart.
            found = (self._root / indexing.CURRENT).stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns

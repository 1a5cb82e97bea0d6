"""Carries a journal shard into the store, exactly once, and lives through the store being away.

The sink reads what is durable past the store's mark and hands it to `store.carry`, which moves the mark in
the same transaction. So it keeps no state worth saving: killed anywhere, it asks the store where to go on.
While the store is away it tries again, ever more slowly; records wait in the journal, which is bounded by
the disk. A hole in the journal stops it for good, because going on would skip usage in silence.
"""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import sqlalchemy as sa

from proxy.clock import Clock
from proxy.errors import Problem, Unavailable
from proxy.metering import store
from proxy.metering.journal import Journal
from proxy.metering.segments import Reader
from proxy.observability import Metrics, get_log
from proxy.settings import Metering

BATCH_RECORDS = 2_000  # a transaction of some 100 ms; larger ones carry no faster
BACKOFF_S_FIRST, BACKOFF_S_MAX = 0.2, 10.0
# A person must look: trying again changes nothing.
STOPPING = {"journal_gap", "journal_behind_store", "journal_record_unknown"}


class Sink:
    """The carrier of one journal. Run `run` as a task; after the journal's `close`, `drain` and `close`."""

    def __init__(
        self, journal: Journal, engine: sa.Engine, *, settings: Metering, metrics: Metrics | None = None
    ) -> None:
        self.journal = journal
        self.problem: Problem | None = None  # why nothing is carried at the moment, for /readyz and doctor
        self._engine, self._settings, self._metrics = engine, settings, metrics
        self._log = get_log()
        self._reader: Reader | None = None
        self._carried = 0
        self._enough = asyncio.Event()
        # One thread, so that a batch still under way when `run` is cancelled ends before `drain` begins.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sink")
        journal.on_group = self._nudge

    @property
    def lag(self) -> int:
        """Records durable in the journal and not in the store yet."""
        return self.journal.next_index - self._carried

    async def run(self) -> None:
        """Carry every `carry_ms`, or sooner when `carry_events` wait, until cancelled."""
        backoff_s, busy = BACKOFF_S_FIRST, 0
        while True:
            try:
                more = await self._carry_some()
            except Problem as problem:
                if problem.code == "store_busy" and busy < store.BUSY_TRIES:
                    busy += 1  # the wait was inside the store
                    continue
                self._note(problem)
                if problem.code in STOPPING:
                    await asyncio.Event().wait()
                await asyncio.sleep(backoff_s)
                backoff_s = min(backoff_s * 2, BACKOFF_S_MAX)
                continue
            if self.problem is not None:
                self._log.info("store_returned", shard=self.journal.shard_id, lag_records=self.lag)
                self.problem, backoff_s = None, BACKOFF_S_FIRST
            busy = 0
            if not more:
                self._enough.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._enough.wait(), self._settings.carry_ms / 1_000)

    async def drain(self) -> None:
        """Carry all that is durable now. Raises Problem at the first failure; the rest stays journalled."""
        target = self.journal.next_index
        while self._reader is None or self._carried < target:
            await self._carry_some()

    async def close(self) -> None:
        """End the carrier's thread; a batch under way is finished."""
        await asyncio.to_thread(self._thread.shutdown)

    def _nudge(self) -> None:
        if self._metrics is not None:
            self._metrics.journal_lag.set(self.lag)
        if self.lag >= self._settings.carry_events:
            self._enough.set()

    def _note(self, problem: Problem) -> None:
        if self.problem is None or self.problem.code != problem.code:
            self._log.error(
                "carrying_failed",
                shard=self.journal.shard_id,
                code=problem.code,
                why=problem.cause,
                lag_records=self.lag,
            )
        self.problem = problem

    async def _carry_some(self) -> bool:
        more = await asyncio.get_running_loop().run_in_executor(self._thread, self._carry_batch)
        if self._metrics is not None:
            self._metrics.journal_lag.set(self.lag)
        return more

    def _carry_batch(self) -> bool:
        """Carry one batch, in the thread; return whether more may be waiting. Raises Problem."""
        reader = self._reader or self._found_place()
        self._reader = None  # whatever fails below, the store is asked anew where to go on
        frames = reader.read(below=self.journal.next_index, records_max=BATCH_RECORDS)
        if frames:
            carried = store.carry(self._engine, self.journal.shard_id, frames)
            if carried is None:
                return True
            for answer_id in carried.contradicted:
                self._log.error("usage_contradicted", shard=self.journal.shard_id, answer_id=answer_id)
            self._carried = carried.next_index
            with contextlib.suppress(OSError):  # a segment that cannot be deleted now is deleted later
                self.journal.release(self._carried)
        self._reader = reader
        return len(frames) == BATCH_RECORDS

    def _found_place(self) -> Reader:
        mark = store.watermark(self._engine, self.journal.shard_id)
        if mark > self.journal.next_index:
            raise Unavailable(
                f"journal shard {self.journal.shard_id} ends at {self.journal.next_index}, "
                f"the store has its records up to {mark}",
                remedy="the data folder is older than the store: restore both from one moment, "
                "or move the shard's folder away so that a new one begins",
                code="journal_behind_store",
            )
        self._carried = mark
        return self.journal.reader(mark)


async def carry_orphans(
    directory: Path, engine: sa.Engine, *, settings: Metering, clock: Clock, metrics: Metrics | None = None
) -> list[Sink]:
    """Carry the shards of processes that are gone; return the carriers of those with unsettled answers, open.

    The others are closed again. The caller settles the answers in `sink.journal`, then closes journal and
    sink. Raises Problem, with everything closed, when the store is away.
    """
    journals = Journal.open_orphans(directory, settings=settings, clock=clock, metrics=metrics)
    open_sinks = [Sink(journal, engine, settings=settings) for journal in journals]
    waiting: list[Sink] = []
    try:
        while open_sinks:
            sink = open_sinks[-1]
            await sink.drain()
            if sink.journal.unsettled():
                waiting.append(sink)
            else:
                await _close(sink)
            open_sinks.pop()
    except Problem:
        for sink in (*open_sinks, *waiting):
            await _close(sink)
        raise
    return waiting


async def _close(sink: Sink) -> None:
    await sink.journal.close()
    await sink.close()

"""Puts settled answers into the log, soon after they were carried into the store, and what they quote before.

One appender is enough; several at once are safe, as the store lets the first win and the others look again.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import time
from typing import Final

import sqlalchemy as sa

from proxy.errors import Problem, Unavailable
from proxy.metering.log_store import events_between
from proxy.metering.store import BUSY_TRIES, watermarks
from proxy.metering.usage import MeteredEvent
from proxy.observability import get_log
from proxy.receipts import history_store, manifest_store, store
from proxy.receipts.history import Batch
from proxy.receipts.receipt import SecretsOf, payload

RECORDS_AT_ONCE: Final = 1_000  # of one shard: some three hundred answers, a transaction of some 20 ms
# How many times as long it rests as it worked, while there is more: a store with years of answers that were
# never logged is caught up at some thousands a second, and answers go on being given meanwhile.
RESTS: Final = 3


def append_some(engine: sa.Engine, secrets_of: SecretsOf) -> int:
    """Log what was carried since the log was last appended to: manifests, the registry's changes, or answers.

    Return how many were passed, 0 when there are none. Raises Unavailable when the store is away, or
    while the usage of an answer has not been carried yet (`events_incomplete`), as it may be after a restart.
    """
    state = store.read_state(engine)
    if signed := manifest_store.unlogged(engine):
        periods = [store.Entry("manifest", manifest_store.ref_of(label), digest) for label, digest in signed]
        store.append(engine, state, periods, {})
        return len(periods)  # if another was first, the next look finds none left
    marks = watermarks(engine)
    # Looked for after that: what an answer below the marks quotes was changed before, and is found now.
    if changes := history_store.unlogged(engine):
        batch = Batch.of(changes, secrets_of)
        store.append(
            engine, state, [store.Entry("changes", history_store.ref_of(changes[-1].seq), batch.digest)], {}
        )
        return len(changes)
    for shard, mark in sorted(marks.items()):
        begin = state.positions.get(shard, 0)
        end = min(mark, begin + RECORDS_AT_ONCE)
        if end <= begin:
            continue
        events = events_between(engine, {shard: begin}, {shard: end})
        entries = [entry_of(event, secrets_of) for event in events]
        after = store.append(engine, state, entries, {shard: end})
        return end - begin if after is not None else RECORDS_AT_ONCE  # another was first: look again
    return 0


def entry_of(event: MeteredEvent, secrets_of: SecretsOf) -> store.Entry:
    """Return what the log holds of an answer: the hash of the payload that its receipt signs."""
    digest = hashlib.sha256(payload(event, secrets_of(event.occurred_us))).digest()
    return store.Entry("receipt", event.id, digest)


class Appender:
    """Appends every `pause_s` until cancelled. Run `run` as a task, or `look` in a loop of your own."""

    def __init__(self, engine: sa.Engine, secrets_of: SecretsOf, *, pause_s: float) -> None:
        self.problem: Problem | None = None  # why nothing is logged at the moment, for /readyz
        self._engine, self._secrets_of, self._pause_s = engine, secrets_of, pause_s
        self._log = get_log()
        self._busy = 0  # looks in a row that waited for somebody who writes

    async def run(self) -> None:
        """Append what was carried, again and again."""
        while True:
            rest_s = await asyncio.to_thread(self.look)
            await asyncio.sleep(rest_s)

    def look(self) -> float:
        """Append what was carried, or some of it; return after how many seconds to look again."""
        began_s = time.thread_time()
        try:
            more = append_some(self._engine, self._secrets_of)
        except (Problem, OSError) as error:
            problem = error if isinstance(error, Problem) else _unsalted(error)
            if problem.code == "store_busy" and self._busy < BUSY_TRIES:
                self._busy += 1  # the wait was inside the store
                return self._pause_s
            if self.problem is None or self.problem.code != problem.code:
                self._log.error("logging_failed", code=problem.code, why=problem.cause)
            self.problem, more = problem, 0
        else:
            self.problem, self._busy = None, 0
        return RESTS * (time.thread_time() - began_s) if more else self._pause_s


def _unsalted(error: OSError) -> Problem:
    return Unavailable(
        f"what receipts are salted with cannot be read or made ({error.strerror})",
        remedy="free space on the data folder's disk, and see that its owner may read receipt-secrets/",
        code="receipts_unsalted",
    )


def drain(engine: sa.Engine, secrets_of: SecretsOf) -> int:
    """Log all that was carried; return how many records were passed. Raises as append_some does."""
    return sum(itertools.takewhile(bool, iter(lambda: append_some(engine, secrets_of), None)))

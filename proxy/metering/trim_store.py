"""Letting answers go whose period is long over, some at a time, and giving the room back.

What may go is written down first (gone_store.py); the store's own triggers let answers go that stand in such
a stretch, and no others. They go some at a time, each with all its rows, so that whoever waits to write waits
for one short transaction, and an answer is either whole or gone wherever a process is killed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, cast

import sqlalchemy as sa

from proxy.errors import Conflict
from proxy.metering.archive import Archived
from proxy.metering.store import answers_of, attributed, event, event_line, store_errors

POSITIONS_AT_ONCE: Final = 1_000  # of a shard, read for an archive: some three hundred answers
LOCKED_S: Final = (
    0.02  # what one transaction may keep others from writing; a busy disk makes twice that of it
)
AT_ONCE_FIRST, AT_ONCE_MAX = 50, 2_000  # answers deleted by one transaction, by how long the last one took
PAGES_AT_ONCE: Final = 64  # given back by one transaction: 256 KiB that are moved
RESTS: Final = 2  # times as long as it worked, so that whoever waits to write comes in between
Seconds = float
Pause = Callable[[Seconds], None]


def archived_between(
    engine: sa.Engine, shard: str, start: int, end: int, pause: Pause = time.sleep
) -> Iterator[Archived]:
    """Yield a stretch's answers with everything that the store holds of them, in the order of the log.

    Rests between pages of POSITIONS_AT_ONCE. Raises Unavailable when the store is away, and Conflict (code
    "events_incomplete") at an answer whose usage is not in the store.
    """
    places = (attributed.c.event_id, attributed.c.idx, attributed.c.body_sha256.label("shares_sha256"))
    query = (
        sa.select(*places, event.c.shard_id, event.c.idx.label("used_idx"), event.c.body_sha256)
        .join_from(attributed, event, event.c.id == attributed.c.event_id, isouter=True)
        .where(attributed.c.shard_id == shard)
        .order_by(attributed.c.idx)
    )
    position = start
    while position < end:
        began_s = time.perf_counter()
        upto = min(position + POSITIONS_AT_ONCE, end)
        with store_errors(), engine.connect() as connection:
            rows = connection.execute(
                query.where(attributed.c.idx >= position, attributed.c.idx < upto)
            ).all()
            if not rows:
                beyond = sa.select(sa.func.min(attributed.c.idx)).where(
                    attributed.c.shard_id == shard, attributed.c.idx >= upto, attributed.c.idx < end
                )
                upto = int(connection.scalar(beyond) or end)
        if missing := next((row.event_id for row in rows if row.shard_id is None), None):
            raise Conflict(
                f"the usage of {missing} is not in the store, only its shares are", code="events_incomplete"
            )
        found = {one.id: one for one in answers_of(engine, [str(row.event_id) for row in rows])}
        for row in rows:
            yield Archived(
                shard=shard,
                idx=int(row.idx),
                used=(str(row.shard_id), int(row.used_idx)),
                sha256=(str(row.body_sha256), str(row.shares_sha256)),
                answer=found[str(row.event_id)],
            )
        position = upto
        pause(RESTS * (time.perf_counter() - began_s))


def delete(
    engine: sa.Engine, shards: Mapping[str, tuple[int, int]], pause: Pause = time.sleep
) -> tuple[int, int]:
    """Delete every answer of marked stretches, some at a time; return (answers, the longest transaction, µs).

    Raises Conflict, with nothing deleted, for a stretch that is not marked, and Unavailable.
    """
    deleted, longest_s, at_once = 0, 0.0, AT_ONCE_FIRST
    while ids := _first(engine, shards, at_once):
        began_s = time.perf_counter()
        with store_errors(), engine.begin() as connection:
            for column in (event_line.c.event_id, event.c.id, attributed.c.event_id):
                connection.execute(sa.delete(column.table).where(column.in_(ids)))
        took_s = time.perf_counter() - began_s
        deleted, longest_s = deleted + len(ids), max(longest_s, took_s)
        at_once = max(1, min(int(len(ids) * LOCKED_S / took_s), 2 * at_once, AT_ONCE_MAX))
        pause(RESTS * took_s)
    return deleted, round(longest_s * 1e6)


def _first(engine: sa.Engine, shards: Mapping[str, tuple[int, int]], answers_max: int) -> list[str]:
    """Return the first answers' ids. Read beforehand: a transaction that begins by writing waits for none."""
    ids: list[str] = []
    with store_errors(), engine.connect() as connection:
        for shard, bounds in sorted(shards.items()):
            query = sa.select(attributed.c.event_id).where(_within(shard, *bounds))
            query = query.order_by(attributed.c.idx).limit(answers_max - len(ids))
            ids += [str(one) for one in connection.execute(query).scalars()]
            if len(ids) == answers_max:
                break
    return ids


def give_back(engine: sa.Engine, pause: Pause = time.sleep) -> int:
    """Give unused pages of a SQLite file back to the disk, some at a time; return how many.

    0 on PostgreSQL, which uses the room again, and for a file that was made before its pages could be given
    back one by one: there they are used again as well.
    """
    if engine.dialect.name != "sqlite":
        return 0
    given = 0
    with store_errors(), engine.connect() as connection:
        if not connection.exec_driver_sql("PRAGMA auto_vacuum").scalar_one():
            return 0
        while free := int(connection.exec_driver_sql("PRAGMA freelist_count").scalar_one()):
            # Its driver's other calls take one step of it, which is one page.
            raw = cast("Any", connection.connection.driver_connection)
            raw.executescript(f"PRAGMA incremental_vacuum({PAGES_AT_ONCE})")
            given += min(free, PAGES_AT_ONCE)
            if free <= PAGES_AT_ONCE:
                break
            pause(LOCKED_S)
    return given


def _within(shard: str, start: int, end: int) -> sa.ColumnElement[bool]:
    return sa.and_(attributed.c.shard_id == shard, attributed.c.idx >= start, attributed.c.idx < end)

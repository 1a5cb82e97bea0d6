"""Uses by day as they come, for the people whose works were used: what a page shows without reading answers.

A period's statements say exactly what each use paid, once it is closed. Until then a creator wants to see
that something happens, and a page may not read a million answers to say so. So settled answers are summed by
creator, day, app and model, by creator and work, and by app (`app_uses_store`), in the order of each shard's
log; the mark up to which that was done moves in the same transaction, so that a crash or a second process
counts nothing twice.

It counts for whom a work was when it was counted. It is a picture of use and no basis of money.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Field, SQLModel

from proxy.billing import app_uses_store as app_uses
from proxy.catalogue.lookup_store import chunks, owner_now
from proxy.catalogue.works import UNCLAIMED
from proxy.clock import iso_utc
from proxy.metering import store as metering
from proxy.observability import get_log

ANSWERS_AT_ONCE: Final = 2_000  # of one transaction: some tens of milliseconds, between carriers
REST_S: Final = 1  # between looks when there was nothing to do
WORKS_SHOWN: Final = 20  # the most used ones
DAYS_SHOWN: Final = 92  # a quarter


class DailyUseRow(SQLModel, table=True):
    """What one creator's works were used on one day, in one app, by one model."""

    __tablename__: ClassVar[Any] = "daily_use"
    creator_id: str = Field(primary_key=True, sa_type=sa.String)
    day: str = Field(primary_key=True, sa_type=sa.String)
    app_id: str = Field(primary_key=True, sa_type=sa.String)
    model: str = Field(primary_key=True, sa_type=sa.String)
    answers: int = Field(sa_type=sa.BigInteger)
    ppm: int = Field(sa_type=sa.BigInteger)
    prohibited: int = Field(sa_type=sa.BigInteger)


class WorkUseRow(SQLModel, table=True):
    """How much one work of a creator was used, ever."""

    __tablename__: ClassVar[Any] = "work_use"
    __table_args__ = (sa.Index("ix_work_use_creator_id_answers", "creator_id", "answers"),)
    creator_id: str = Field(primary_key=True, sa_type=sa.String)
    work_id: str = Field(primary_key=True, sa_type=sa.String)
    answers: int = Field(sa_type=sa.BigInteger)
    ppm: int = Field(sa_type=sa.BigInteger)
    last_day: str = Field(sa_type=sa.String)


class UseMarkRow(SQLModel, table=True):
    """How far a shard's log was summed: every record below next_index."""

    __tablename__: ClassVar[Any] = "use_mark"
    shard_id: str = Field(primary_key=True, sa_type=sa.String)
    next_index: int = Field(sa_type=sa.BigInteger)


_tables = SQLModel.metadata.tables
_daily, _used, _mark = _tables["daily_use"], _tables["work_use"], _tables["use_mark"]
_work, _split = _tables["work"], _tables["split"]
_event, _attributed, _line = metering.event, metering.attributed, metering.event_line


@dataclass(frozen=True, slots=True)
class DayUse:
    """One bar of a chart, or one row of its table. what: a day, an app or a model."""

    what: str
    answers: int
    ppm: int
    prohibited: int = 0


@dataclass(frozen=True, slots=True)
class WorkUse:
    """A work and how often it was used."""

    work: str
    title: str
    answers: int
    ppm: int
    last_day: str


@dataclass(frozen=True, slots=True)
class Uses:
    """What used one creator's works: by day, app and model since a day, and the works most used ever."""

    days: tuple[DayUse, ...]
    apps: tuple[DayUse, ...]
    models: tuple[DayUse, ...]
    works: tuple[WorkUse, ...]


def uses_of(engine: sa.Engine, creator_id: str, first_day: str) -> Uses:
    """Return what used a creator's works since `first_day` (ISO), and their most used works ever."""
    with engine.connect() as connection:

        def by(column: Any, *, at_most: int, order: Any) -> tuple[DayUse, ...]:
            sums = [sa.func.sum(_daily.c[name]).label(name) for name in ("answers", "ppm", "prohibited")]
            query = sa.select(column.label("what"), *sums).group_by(column)
            query = query.where(_daily.c.creator_id == creator_id, _daily.c.day >= first_day)
            rows = connection.execute(query.order_by(order).limit(at_most))
            return tuple(DayUse(str(r.what), int(r.answers), int(r.ppm), int(r.prohibited)) for r in rows)

        most = sa.func.sum(_daily.c.answers).desc()
        works = sa.select(_used, _work.c.title).outerjoin(_work, _work.c.id == _used.c.work_id)
        works = works.where(_used.c.creator_id == creator_id)
        works = works.order_by(_used.c.answers.desc(), _used.c.work_id).limit(WORKS_SHOWN)
        return Uses(
            days=tuple(reversed(by(_daily.c.day, at_most=DAYS_SHOWN, order=_daily.c.day.desc()))),
            apps=by(_daily.c.app_id, at_most=WORKS_SHOWN, order=most),
            models=by(_daily.c.model, at_most=WORKS_SHOWN, order=most),
            works=tuple(
                WorkUse(row.work_id, row.title or "", int(row.answers), int(row.ppm), row.last_day)
                for row in connection.execute(works)
            ),
        )


class DailyUses:
    """Sums settled answers as they come; `run` beside the server, in one worker."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._insert = sqlite.insert if engine.dialect.name == "sqlite" else postgresql.insert

    async def run(self) -> None:
        """Sum for ever; cancel it to stop. A store that is away is asked again later."""
        while True:
            try:
                done = await asyncio.to_thread(self.step)
            except SQLAlchemyError as error:
                get_log().warning("daily_uses_wait", error=type(error).__name__)
                done = 0
            await asyncio.sleep(0 if done else REST_S)

    def step(self) -> int:
        """Sum what is next of each shard; return how many answers that were, 0 when all is summed."""
        with self._engine.connect() as connection:
            shards = [str(shard) for shard in connection.execute(sa.select(metering.shard.c.id)).scalars()]
        return sum(self._of_shard(shard) for shard in shards)

    def _of_shard(self, shard: str) -> int:
        # What is read and summed is read before the write begins: carriers wait for the sums only.
        with self._engine.connect() as connection:
            mark = sa.select(_mark.c.next_index).where(_mark.c.shard_id == shard)
            start = int(connection.execute(mark).scalar() or 0)
            rows, end = _next(connection, shard, start)
            sums = self._summed(connection, rows)
        if end == start:
            return 0
        moved = self._insert(_mark).values(shard_id=shard, next_index=end)
        moved = moved.on_conflict_do_update(
            index_elements=["shard_id"], set_={"next_index": end}, where=_mark.c.next_index == start
        )
        with self._engine.begin() as connection:
            if not connection.execute(moved).rowcount:
                return 0  # another process was first
            for table, made in sums:
                self._sum(connection, table, made)
        return len(rows)

    def _summed(
        self, connection: sa.Connection, rows: Sequence[Any]
    ) -> list[tuple[sa.Table, list[dict[str, Any]]]]:
        facts = {row.event_id: row for row in rows}
        lines: list[Any] = []
        for chunk in chunks(facts):
            lines += connection.execute(sa.select(_line).where(_line.c.event_id.in_(chunk)))
        parties = _parties(connection, {str(line.work_id) for line in lines})
        days: dict[tuple[str, str, str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
        works: dict[tuple[str, str], list[Any]] = defaultdict(lambda: [0, 0, ""])
        seen: set[tuple[str, str]] = set()
        for line in lines:
            row = facts[line.event_id]
            day = iso_utc(row.occurred_us)[:10]
            for party in parties.get(str(line.work_id), ()):
                # An answer that draws on three works of hers is one answer of that day.
                first = (party, line.event_id) not in seen
                seen.add((party, line.event_id))
                daily = days[party, day, row.app_id, row.model]
                daily[0] += first
                daily[1] += line.ppm
                daily[2] += line.verdict == "prohibited"
                used = works[party, str(line.work_id)]
                used[0], used[1], used[2] = used[0] + 1, used[1] + line.ppm, max(used[2], day)
        daily_rows: list[dict[str, Any]] = [
            {"creator_id": who, "day": day, "app_id": app, "model": model,
             "answers": sums[0], "ppm": sums[1], "prohibited": sums[2]}
            for (who, day, app, model), sums in sorted(days.items())
        ]  # fmt: skip
        work_rows: list[dict[str, Any]] = [
            {"creator_id": who, "work_id": work, "answers": sums[0], "ppm": sums[1], "last_day": sums[2]}
            for (who, work), sums in sorted(works.items())
        ]
        return [(_daily, daily_rows), (_used, work_rows), (app_uses.table, app_uses.sums_of(rows))]

    def _sum(self, connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
        if not rows:
            return
        insert = self._insert(table)
        later = {
            column.name: sa.case(
                (insert.excluded[column.name] > column, insert.excluded[column.name]), else_=column
            )
            if column.name == "last_day"
            else column + insert.excluded[column.name]
            for column in table.c
            if not column.primary_key
        }
        keys = [column.name for column in table.primary_key]
        connection.execute(insert.on_conflict_do_update(index_elements=keys, set_=later), rows)


def _next(connection: sa.Connection, shard: str, start: int) -> tuple[list[Any], int]:
    """Return the next settled answers of a shard with the facts of their use, and where those after begin."""
    facts = (_event.c.occurred_us, _event.c.app_id, _event.c.model, *app_uses.COLUMNS)
    columns: list[Any] = [_attributed.c.event_id, _attributed.c.idx, *facts]
    query = (
        sa.select(*columns)
        .outerjoin(_event, _event.c.id == _attributed.c.event_id)
        .where(_attributed.c.shard_id == shard, _attributed.c.idx >= start)
        .order_by(_attributed.c.idx)
        .limit(ANSWERS_AT_ONCE)
    )
    rows: list[Any] = list(connection.execute(query))
    if len(rows) < ANSWERS_AT_ONCE:
        # After a restart an answer's shares may be carried before the answer: while new, it is waited for.
        rows = rows[: next((n for n, row in enumerate(rows) if row.occurred_us is None), len(rows))]
    end = int(rows[-1].idx) + 1 if rows else start
    return [row for row in rows if row.occurred_us is not None], end


def _parties(connection: sa.Connection, works: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return {work: the creators who have a part in it now}."""
    found: dict[str, tuple[str, ...]] = {}
    for chunk in chunks(sorted(works)):
        owners = sa.select(_work.c.id, owner_now().label("owner")).where(_work.c.id.in_(chunk))
        found |= {str(row.id): (str(row.owner),) for row in connection.execute(owners)}
        newest = sa.select(_split.c.work_id, sa.func.max(_split.c.version).label("version"))
        newest = newest.where(_split.c.work_id.in_(chunk)).group_by(_split.c.work_id).subquery()
        same = sa.and_(newest.c.work_id == _split.c.work_id, newest.c.version == _split.c.version)
        split: dict[str, list[str]] = defaultdict(list)
        for row in connection.execute(sa.select(_split.c.work_id, _split.c.party).join(newest, same)):
            if row.party != UNCLAIMED:
                split[str(row.work_id)].append(str(row.party))
        found |= {work: tuple(who) for work, who in split.items()}
    return found

import asyncio

import pytest
import sqlalchemy as sa

from proxy.database import open_engine
from proxy.errors import Unavailable
from proxy.metering import store
from proxy.metering.journal import Journal
from proxy.metering.segments import list_segments
from proxy.metering.sink import Sink, carry_orphans
from proxy.observability import Metrics
from proxy.settings import Metering

pytestmark = pytest.mark.anyio


async def close(*sinks):
    for sink in sinks:
        await sink.journal.close()
        await sink.close()


async def fill(journal, made, numbers):
    await asyncio.gather(*(journal.append(record) for number in numbers for record in made.answer(number)))


async def until(true):
    while not true():  # noqa: ASYNC110  the running sink has no event for being done, and needs none
        await asyncio.sleep(0.001)


class Power(Exception):
    """The process dies here."""


class Failpoint:
    """Dies at the n-th thing that is asked of the store: statement, commit, or what follows the commit."""

    def __init__(self, engine, at):
        self.engine, self.at, self.seen = engine, at, 0
        self.hooks = [
            ("before_cursor_execute", lambda *_: self.strike()),
            ("after_cursor_execute", lambda *_: self.strike()),
            ("commit", lambda *_: self.strike()),
        ]

    def strike(self):
        self.seen += 1
        if self.seen == self.at:
            raise Power

    def __enter__(self):
        for name, hook in self.hooks:
            sa.event.listen(self.engine, name, hook)
        return self

    def __exit__(self, *_):
        for name, hook in self.hooks:
            sa.event.remove(self.engine, name, hook)


async def test_all_that_is_durable_is_carried_exactly_once(engine, open_journal, made, dumped):
    journal = open_journal(settings=Metering(segment_bytes=4_000))
    sink = Sink(journal, engine, settings=Metering(), metrics=Metrics())
    await fill(journal, made, range(100))
    assert sink.lag == 300
    await sink.drain()
    assert sink.lag == 0
    rows = dumped(engine)
    assert (len(rows["event"]), len(rows["attributed"]), len(rows["event_line"])) == (100, 100, 500)
    assert rows["shard"] == [(journal.shard_id, 300)]
    await sink.drain()
    assert dumped(engine) == rows
    assert len(list_segments(journal.directory)) == 1
    await close(sink)


async def test_killed_at_any_point_of_a_batch_it_goes_on_without_loss_or_double(
    engine, open_journal, made, dumped
):
    journal = open_journal()
    await fill(journal, made, range(3))
    at, deaths = 1, 0
    while True:
        before = dumped(engine)
        sink = Sink(journal, engine, settings=Metering())
        await journal.append(made.used(1000 + at))
        with Failpoint(engine, at) as failpoint:
            try:
                await sink.drain()
            except Power:
                deaths += 1
        await sink.close()
        after = dumped(engine)
        committed = after["event"] != before["event"]
        # The mark and the rows are one: both are there or neither is.
        assert committed == (
            [row for row in after["shard"] if row[1]] != [row for row in before["shard"] if row[1]]
        )
        if failpoint.seen < at:
            break
        at += 1
    # COPY, by which PostgreSQL takes rows, is no statement that SQLAlchemy tells of: there are fewer points.
    assert deaths >= (8 if engine.dialect.name == "sqlite" else 4)
    rows = dumped(engine)
    assert rows["shard"] == [(journal.shard_id, journal.next_index)]
    assert (len(rows["event"]), len(rows["attributed"])) == (3 + at, 3)
    await journal.close()


async def test_of_two_carriers_of_one_shard_neither_counts_twice(engine, open_journal, made, dumped):
    journal = open_journal()
    one, two = (Sink(journal, engine, settings=Metering()) for _ in range(2))
    await fill(journal, made, range(50))
    await one.drain()
    rows = dumped(engine)
    await two.drain()
    await fill(journal, made, range(50, 60))
    await two.drain()
    await one.drain()
    assert one.lag == two.lag == 0
    after = dumped(engine)
    assert len(after["event"]) == 60
    assert set(rows["event"]) < set(after["event"])
    await one.close()
    await close(two)


async def test_the_running_sink_carries_without_being_asked_and_returns_after_an_outage(
    open_journal, made, tmp_path, sqlite_engine
):
    journal = open_journal(settings=Metering(carry_ms=5))
    away = open_engine(f"sqlite:///{tmp_path / 'away.db'}")  # a store without tables: as good as gone
    sink = Sink(journal, away, settings=Metering(carry_ms=5))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(sink.run())
        await fill(journal, made, range(5))
        await until(lambda: sink.problem is not None)
        assert sink.problem.code == "store_unavailable"
        sink._engine = sqlite_engine
        await until(lambda: not sink.lag and sink.problem is None)
        task.cancel()
    away.dispose()
    assert store.totals(sqlite_engine).events == 5
    await close(sink)


async def test_a_hole_in_the_journal_stops_carrying_and_skips_nothing(sqlite_engine, open_journal, made):
    journal = open_journal(settings=Metering(segment_bytes=600))
    sink = Sink(journal, sqlite_engine, settings=Metering())
    await fill(journal, made, range(1))
    await sink.drain()
    for number in range(1, 6):
        await fill(journal, made, [number])
    list_segments(journal.directory)[1].path.unlink()
    with pytest.raises(Unavailable) as gap:
        await sink.drain()
    assert gap.value.code == "journal_gap"
    mark = store.watermarks(sqlite_engine)[journal.shard_id]
    with pytest.raises(Unavailable):
        await sink.drain()
    assert store.watermarks(sqlite_engine)[journal.shard_id] == mark
    await close(sink)


async def test_a_journal_older_than_the_store_stops_carrying(sqlite_engine, open_journal, made):
    journal = open_journal()
    with sqlite_engine.begin() as connection:
        connection.execute(sa.insert(store.shard), [{"id": journal.shard_id, "next_index": 100}])
    sink = Sink(journal, sqlite_engine, settings=Metering())
    await journal.append(made.used(1))
    with pytest.raises(Unavailable) as behind:
        await sink.drain()
    assert behind.value.code == "journal_behind_store"
    await close(sink)


async def test_a_store_restored_from_an_old_backup_is_told_when_the_journal_is_gone(
    open_journal, made, tmp_path, sqlite_engine
):
    journal = open_journal(settings=Metering(segment_bytes=600))
    sink = Sink(journal, sqlite_engine, settings=Metering())
    for number in range(6):
        await fill(journal, made, [number])
    await sink.drain()
    with sqlite_engine.begin() as connection:
        connection.execute(sa.update(store.shard).values(next_index=0))
    await sink.close()
    restored = Sink(journal, sqlite_engine, settings=Metering())
    with pytest.raises(Unavailable) as gap:
        await restored.drain()
    assert gap.value.code == "journal_gap"
    await close(restored)


async def test_a_damaged_shard_is_carried_from_its_good_records_without_counting_twice(
    sqlite_engine, open_journal, made, dumped
):
    journal = open_journal()
    sink = Sink(journal, sqlite_engine, settings=Metering())
    await fill(journal, made, range(10))
    await sink.drain()
    await fill(journal, made, range(10, 20))
    await close(sink)
    path = list_segments(journal.directory)[0].path
    data = bytearray(path.read_bytes())
    data[100] ^= 1  # the first record: a Begun whose answer is settled and carried
    path.write_bytes(data)
    again = Sink(open_journal(), sqlite_engine, settings=Metering())
    await again.drain()
    assert store.totals(sqlite_engine).events == 20
    assert len(dumped(sqlite_engine)["attributed"]) == 20
    assert again.journal.damage.lost == 1
    await close(again)


async def test_shards_of_processes_that_are_gone_are_carried_too(
    sqlite_engine, open_journal, folder, made, clock
):
    own, gone, waiting = open_journal(), open_journal(), open_journal()
    await fill(gone, made, range(3))
    await fill(waiting, made, range(3, 5))
    await waiting.append(made.used(9))
    await gone.close()
    await waiting.close()
    sinks = await carry_orphans(folder, sqlite_engine, settings=Metering(), clock=clock)
    assert [sink.journal.shard_id for sink in sinks] == [waiting.shard_id]
    assert store.totals(sqlite_engine).events == 6
    await sinks[0].journal.append(made.attributed(9))
    await sinks[0].drain()
    assert store.find_event(sqlite_engine, "rct_9").status == "settled"
    freed = Journal.open(folder, settings=Metering(), clock=clock)
    assert freed.shard_id == gone.shard_id
    await freed.close()
    await own.close()
    await close(*sinks)


async def test_orphans_are_let_go_when_the_store_is_away(open_journal, folder, made, clock, tmp_path):
    gone = open_journal()
    await fill(gone, made, range(3))
    await gone.close()
    away = open_engine(f"sqlite:///{tmp_path / 'away.db'}")
    with pytest.raises(Unavailable):
        await carry_orphans(folder, away, settings=Metering(), clock=clock)
    away.dispose()
    again = open_journal()
    assert again.shard_id == gone.shard_id
    await again.close()


async def test_a_contradicted_record_does_not_hold_up_the_rest(sqlite_engine, open_journal, made):
    journal = open_journal()
    sink = Sink(journal, sqlite_engine, settings=Metering())
    await journal.append(made.used(1))
    await journal.append(made.used(1, output_tokens=1))
    await journal.append(made.used(2))
    await sink.drain()
    assert store.find_event(sqlite_engine, "rct_1").output_tokens == 20
    assert store.find_event(sqlite_engine, "rct_2") is not None
    await close(sink)


async def test_a_long_write_of_somebody_else_is_waited_for_and_is_no_problem(
    sqlite_engine, open_journal, made, monkeypatch
):
    journal = open_journal()
    sink = Sink(journal, sqlite_engine, settings=Metering())
    await sink.drain()
    sa.event.listen(
        sqlite_engine, "checkout", lambda connection, *_: connection.execute("PRAGMA busy_timeout = 1")
    )
    asked = []
    carry = store.carry

    def counted(*arguments):
        asked.append(sink.problem)
        return carry(*arguments)

    monkeypatch.setattr(store, "carry", counted)
    async with asyncio.TaskGroup() as group:
        with sqlite_engine.connect() as writer:
            writer.exec_driver_sql("BEGIN IMMEDIATE")
            await journal.append(made.used(1))
            running = group.create_task(sink.run())
            await until(lambda: len(asked) == 5)
            writer.rollback()
        assert asked == [None] * 5
        await until(lambda: not sink.lag)
        running.cancel()
    assert store.find_event(sqlite_engine, "rct_1") is not None
    await close(sink)


async def test_waiting_for_a_long_close_is_a_fault_only_after_longer_than_any_takes(
    sqlite_engine, open_journal, made, monkeypatch
):
    journal = open_journal()
    sink = Sink(journal, sqlite_engine, settings=Metering(carry_ms=1))
    real, told, is_kept = store.carry, [], True

    def busy(*arguments):
        if is_kept:
            told.append(sink.problem)
            raise Unavailable("somebody else writes", remedy="wait", code="store_busy")
        return real(*arguments)

    monkeypatch.setattr(store, "carry", busy)
    await fill(journal, made, [1])
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(sink.run())
        await until(lambda: sink.problem is not None)
        assert told == [None] * (store.BUSY_TRIES + 1)
        assert sink.problem.code == "store_busy"
        is_kept = False
        await until(lambda: sink.lag == 0)
        await until(lambda: sink.problem is None)
        running.cancel()
    await close(sink)

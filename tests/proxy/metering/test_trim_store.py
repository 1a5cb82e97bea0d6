"""The way out for answers is through a mark alone; they leave in short transactions, and the file gets shorter."""

import itertools

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from proxy.database import free_bytes, open_engine, upgrade
from proxy.errors import Conflict
from proxy.metering import gone_store, trim_store
from proxy.metering.archive import Digesting
from proxy.metering.gone_store import Trimmed

NOVEMBER, ALL = {"shd_a": (0, 14)}, {"shd_a": (0, 18)}


def marked(engine, period="2026-11", shards=None, at_us=2**60):
    """Write a period down as trimmed, with the digest of nothing."""
    digest = Digesting().digest(period, shards or NOVEMBER)
    with engine.begin() as connection:
        gone_store.mark(connection, Trimmed(at_us, "ines", digest, "sealed", ""))


def counted(engine):
    with engine.connect() as connection:
        return [
            connection.execute(sa.text(f"SELECT count(*) FROM {table}")).scalar_one()  # noqa: S608
            for table in ("event", "attributed", "event_line")
        ]


@pytest.mark.parametrize("table", ["event", "attributed", "event_line"])
@pytest.mark.parametrize("statement", ["DELETE FROM {}", "UPDATE {} SET {} = {}"])
def test_without_a_mark_nothing_changes_and_nothing_goes(books, table, statement):
    column = "app_id" if table == "event" else "registry_seq" if table == "attributed" else "ppm"
    with pytest.raises(DBAPIError, match="append-only"), books.engine.begin() as connection:
        connection.execute(sa.text(statement.format(table, column, column)))
    with pytest.raises(Conflict):
        trim_store.delete(books.engine, NOVEMBER, pause=lambda _: None)
    assert counted(books.engine) == [9, 9, 16]


def test_what_is_marked_goes_and_nothing_else_does(books):
    marked(books.engine)
    with pytest.raises(Conflict):  # the stretch reaches into another period, of which all stays
        trim_store.delete(books.engine, {"shd_a": (14, 18)}, pause=lambda _: None)
    with pytest.raises(DBAPIError, match="append-only"), books.engine.begin() as connection:
        connection.execute(sa.text("UPDATE event_line SET ppm = ppm"))
    rests = []
    assert trim_store.delete(books.engine, NOVEMBER, pause=rests.append)[0] == 7
    assert counted(books.engine) == [2, 2, 2]
    assert len(rests) >= 1
    assert trim_store.delete(books.engine, NOVEMBER, pause=rests.append) == (0, 0)


@pytest.mark.parametrize(
    ("period", "shards", "at_us"),
    [
        ("2026-10", NOVEMBER, 2**60),  # no such period
        ("2026-11", ALL, 2**60),  # beyond its end
        ("2026-11", {"shd_a": (0, 13)}, 2**60),
        ("2026-12", {"shd_a": (0, 18)}, 2**60),  # before its beginning
        ("2026-11", {"shd_b": (0, 14)}, 2**60),
        ("2026-11", NOVEMBER, 1),  # still a draft then
    ],
)
def test_only_the_bounds_of_a_final_period_can_be_marked(books, period, shards, at_us):
    with pytest.raises(DBAPIError):
        marked(books.engine, period, shards, at_us)
    assert counted(books.engine) == [9, 9, 16]


def test_a_mark_stays_as_it_was_made(books):
    marked(books.engine)
    for statement in (
        "DELETE FROM trimmed_range",
        "UPDATE trimmed_range SET end_idx = end_idx + 1",
        "UPDATE trimmed_period SET digest = ''",
        "DELETE FROM trimmed_period",
    ):
        with pytest.raises(DBAPIError, match="append-only"), books.engine.begin() as connection:
            connection.execute(sa.text(statement))


def test_an_archive_is_read_with_everything_the_store_holds(books):
    found = list(trim_store.archived_between(books.engine, "shd_a", 0, 14, pause=lambda _: None))
    assert [one.idx for one in found] == list(range(1, 14, 2))
    assert found[0].used == ("shd_a", 0)
    assert len(found[0].answer.lines) == 2
    with books.engine.connect() as connection:
        bodies = connection.execute(sa.text("SELECT id, body_sha256 FROM event")).all()
    assert {one.answer.id: one.sha256[0] for one in found}.items() <= {tuple(row) for row in bodies}


def test_a_file_gets_shorter_when_its_answers_leave(tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path / 'store.db'}"
    upgrade(url)
    engine = open_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE filler (body BLOB)")
        connection.exec_driver_sql("INSERT INTO filler VALUES (zeroblob(3000000))")
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM filler")
    assert free_bytes(engine) >= 3_000_000
    rests = []
    assert trim_store.give_back(engine, pause=rests.append) >= 3_000_000 // 4_096
    assert len(rests) >= 3_000_000 // 4_096 // trim_store.PAGES_AT_ONCE
    assert free_bytes(engine) == 0
    engine.dispose()


def test_a_transaction_takes_fewer_answers_when_the_last_one_took_long(books, monkeypatch):
    marked(books.engine)
    asked = []
    first = trim_store._first
    monkeypatch.setattr(trim_store, "AT_ONCE_FIRST", 4)
    monkeypatch.setattr(
        trim_store, "_first", lambda engine, shards, some: asked.append(some) or first(engine, shards, some)
    )
    times = itertools.accumulate(itertools.cycle([0, 1]))  # every transaction takes a second
    monkeypatch.setattr(trim_store.time, "perf_counter", lambda: next(times))
    trim_store.delete(books.engine, NOVEMBER, pause=lambda _: None)
    assert asked[:3] == [4, 1, 1]

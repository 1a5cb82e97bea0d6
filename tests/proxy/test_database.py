from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from proxy.database import (
    BUSY_TIMEOUT_MS,
    close_engine,
    insert_rows,
    open_engine,
    ping,
    upgrade,
    versions,
)
from proxy.errors import Unavailable
from proxy.migrations import triggers


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'endcredits.db'}"


@pytest.fixture
def engine(url):
    opened = open_engine(url)
    yield opened
    opened.dispose()


@pytest.mark.parametrize(
    ("pragma", "value"),
    [
        ("journal_mode", "wal"),
        ("synchronous", 2),  # FULL
        ("foreign_keys", 1),
        ("recursive_triggers", 1),
        ("busy_timeout", BUSY_TIMEOUT_MS),
    ],
)
def test_every_sqlite_connection_is_durable_and_strict(engine, pragma, value):
    with engine.connect() as connection:
        assert connection.execute(sa.text(f"PRAGMA {pragma}")).scalar() == value


def test_an_empty_store_is_created_at_the_wanted_version(url, engine):
    assert versions(engine)[0] is None
    upgrade(url)
    found, wanted = versions(engine)
    assert found == wanted


def test_a_postgresql_url_gets_the_driver_we_ship():
    engine = open_engine("postgresql://somebody@localhost/db")
    try:
        assert engine.url.drivername == "postgresql+psycopg"
    finally:
        engine.dispose()


def test_a_store_that_cannot_be_opened_says_what_to_check(tmp_path):
    with pytest.raises(Unavailable) as caught:
        upgrade(f"sqlite:///{tmp_path / 'no' / 'such' / 'folder' / 'endcredits.db'}")
    assert caught.value.code == "store_unavailable"
    assert "[store] url" in caught.value.remedy


def test_a_migration_that_breaks_off_leaves_nothing_of_itself(url, engine, monkeypatch):
    made = []

    def breaks_off(table, **_):
        made.append(table)
        if len(made) == 9:
            raise SQLAlchemyError("the power went")

    monkeypatch.setattr(triggers, "append_only", breaks_off)
    with pytest.raises(Unavailable):
        upgrade(url)
    assert sa.inspect(engine).get_table_names() == []
    monkeypatch.undo()
    upgrade(url)
    found, wanted = versions(engine)
    assert found == wanted


def test_what_is_at_this_version_is_opened_while_somebody_writes(url, engine):
    upgrade(url)
    with engine.connect() as writer:
        writer.exec_driver_sql("BEGIN IMMEDIATE")
        upgrade(url)  # else it would wait for the lock, and for a long close too long


def test_a_store_written_by_a_newer_version_is_refused_not_touched(url, engine):
    upgrade(url)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999_from_the_future'"))
    with pytest.raises(Unavailable) as caught:
        upgrade(url)
    assert "newer" in caught.value.cause


def test_a_store_that_answers_is_told_from_one_that_is_away(engine):
    ping(engine)
    gone = open_engine("postgresql://nobody@127.0.0.1:1/nowhere")
    with pytest.raises(SQLAlchemyError):
        ping(gone)
    gone.dispose()


@pytest.mark.anyio
async def test_closing_waits_for_the_connection_that_a_thread_still_has(url):
    opened = open_engine(url)
    connection = opened.connect()
    closing = asyncio.get_running_loop().create_task(close_engine(opened))
    await asyncio.wait([closing], timeout=0.05)
    assert not closing.done()
    connection.close()
    await asyncio.wait_for(closing, 5)
    assert opened.pool.checkedout() == 0


@pytest.mark.parametrize("where", ["url", pytest.param("postgres_url", marks=pytest.mark.postgres)])
@pytest.mark.anyio
async def test_a_thread_that_asks_once_more_after_the_end_leaves_no_connection_open(request, where):
    opened, living = open_engine(request.getfixturevalue(where)), []
    sa.event.listen(opened, "connect", lambda connection, _: living.append(connection))
    sa.event.listen(opened, "close", lambda connection, _: living.remove(connection))
    ping(opened)
    held = opened.connect()
    closing = asyncio.get_running_loop().create_task(close_engine(opened))
    await asyncio.wait([closing], timeout=0.05)
    held.close()
    await closing
    assert living == []
    ping(opened)
    assert living == []


@pytest.mark.parametrize("where", ["url", pytest.param("postgres_url", marks=pytest.mark.postgres)])
def test_rows_go_in_by_the_thousand_and_those_that_are_there_are_passed_over_or_refused(request, where):
    engine = open_engine(request.getfixturevalue(where))
    table = sa.Table(
        "thing", sa.MetaData(), sa.Column("id", sa.BigInteger, primary_key=True), sa.Column("name", sa.String)
    )
    table.create(engine)
    names = ["\\N", "a\tb", "a\\tb", "line\nline\r", "", "\\", "None", "\\.", "ä\u2028", None]
    rows = [(number, names[number] if number < len(names) else f"thing {number}") for number in range(25)]
    with engine.begin() as connection:
        assert insert_rows(connection, table, ("id", "name"), iter(rows), at_once=10) == 25
        assert insert_rows(connection, table, ("id", "name"), [], at_once=10) == 0
        more = [(24, "again"), (25, "new")]
        assert insert_rows(connection, table, ("id", "name"), more, pass_over=True) == 1
        assert list(connection.execute(sa.select(table).order_by(table.c.id))) == [*rows, (25, "new")]
    with pytest.raises(IntegrityError), engine.begin() as connection:
        insert_rows(connection, table, ("id", "name"), rows)
    engine.dispose()


@pytest.mark.parametrize("where", ["url", pytest.param("postgres_url", marks=pytest.mark.postgres)])
def test_a_row_that_is_there_grows_by_the_new_one_where_that_is_wanted(request, where):
    engine = open_engine(request.getfixturevalue(where))
    keys = [sa.Column(name, sa.String, primary_key=True) for name in ("who", "month")]
    table = sa.Table("counted", sa.MetaData(), *keys, sa.Column("answers", sa.BigInteger))
    table.create(engine)
    with engine.begin() as connection:
        for rows in ([("a", "", 2), ("b", "", 1)], [("a", "", 3), ("a", "2026-11", 7)]):
            assert insert_rows(connection, table, table.c.keys(), rows, adds_to="answers") == 2
        told = [tuple(row) for row in connection.execute(sa.select(table).order_by(*keys))]
    assert told == [("a", "", 5), ("a", "2026-11", 7), ("b", "", 1)]
    engine.dispose()


def test_thousands_of_rows_go_in_whatever_their_number_and_those_there_are_passed_over(engine):
    table = sa.Table(
        "thing", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.String)
    )
    table.create(engine)
    rows = [(number, f"thing {number}") for number in range(11_234)]
    with engine.begin() as connection:
        assert insert_rows(connection, table, ("id", "name"), rows[5:8_000:7], at_once=20_000) == 1_143
        assert insert_rows(connection, table, ("id", "name"), rows, at_once=20_000, pass_over=True) == 10_091
        assert list(connection.execute(sa.select(table).order_by(table.c.id))) == rows
    with pytest.raises(IntegrityError), engine.begin() as connection:
        insert_rows(
            connection, table, ("id", "name"), [*((-n, "") for n in range(1, 6_000)), rows[3]], at_once=20_000
        )

"""From every released schema to this one, with rows in it: nothing is lost, and the books are sound afterwards.

The rows are written as the store's own code of today writes them, and then only those columns and tables that
the old schema had; so a new column must have its default, and a new rule must hold of what was there before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.script import ScriptDirectory

from proxy.billing.audit_store import audit
from proxy.database import _alembic, open_engine, upgrade
from proxy.metering.store import usage
from tests.books import Bookkeeping, a_year_of_everything


def revisions() -> list[str]:
    """Every schema there was, oldest first."""
    script = ScriptDirectory.from_config(_alembic("sqlite://"))
    return [one.revision for one in script.walk_revisions()][::-1]


REVISIONS = revisions()


PAID, CLAIMED, COMMONS = "0011", "0004", "0004"  # the schemas that first knew payouts, claims and the commons


@pytest.fixture(scope="module")
def year(tmp_path_factory) -> Iterator[Callable[[str], sa.Engine]]:
    """Give a store of today with everything in it that people could do at a schema."""
    made: dict[tuple[bool, bool], sa.Engine] = {}

    def of(revision: str) -> sa.Engine:
        could = (revision >= CLAIMED, revision >= PAID)
        if could not in made:
            url = f"sqlite:///{tmp_path_factory.mktemp('year') / 'store.db'}"
            upgrade(url)
            made[could] = open_engine(url)
            a_year_of_everything(Bookkeeping(made[could]), claims=could[0], paid=could[1])
        return made[could]

    yield of
    for engine in made.values():
        engine.dispose()


def at(url: str, revision: str) -> sa.Engine:
    command.upgrade(_alembic(url), revision)
    return open_engine(url)


def copied(source: sa.Engine, target: sa.Engine) -> dict[str, int]:
    """Copy every row and column that the target's schema has; return {table: rows}."""
    new, old, counts = sa.MetaData(), sa.MetaData(), {}
    new.reflect(source)
    old.reflect(target)
    with source.connect() as reading, target.begin() as writing:
        for table in old.sorted_tables:
            if table.name not in new.tables or table.name in {"alembic_version", "log_state"}:
                continue
            there = new.tables[table.name]
            common = [there.c[column.name] for column in table.c if column.name in there.c]
            known = {tuple(row) for row in writing.execute(sa.select(*table.primary_key.columns))}
            rows = [
                row
                for row in map(dict, reading.execute(sa.select(*common)).mappings())
                if tuple(row[column.name] for column in table.primary_key.columns) not in known
                and row.get("id") != "~commons"
            ]
            if rows:
                writing.execute(sa.insert(table), rows)
            counts[table.name] = len(rows) + len(known)
    return counts


def counted(engine: sa.Engine, tables) -> dict[str, int]:
    with engine.connect() as connection:
        return {
            name: connection.execute(sa.select(sa.func.count()).select_from(sa.table(name))).scalar_one()
            for name in tables
        }


def upgraded(url: str, revision: str, year: Callable[[str], sa.Engine]) -> None:
    old = at(url, revision)
    counts = copied(year(revision), old)
    old.dispose()
    upgrade(url)
    engine = open_engine(url)
    try:
        there = counted(engine, counts)
        there["creator"] -= revision < COMMONS
        assert there == counts
        assert {one.id: one.named for one in audit(engine) if one.state == "broken"} == {}
    finally:
        engine.dispose()


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_store_of_every_released_schema_comes_to_this_one_with_all_its_rows(tmp_path, year, revision):
    upgraded(f"sqlite:///{tmp_path / 'old.db'}", revision, year)


@pytest.mark.postgres
@pytest.mark.parametrize("revision", REVISIONS)
def test_and_on_postgresql_too(empty_postgres_url, year, revision):
    upgraded(empty_postgres_url, revision, year)


def counted_nothing_before(url: str, year: Callable[[str], sa.Engine]) -> None:
    """Answers from before images and time were counted have none, and others can be told apart from now on."""
    old = at(url, "0032_app_uses")
    copied(year("0032_app_uses"), old)
    assert {"images", "milliseconds"}.isdisjoint(
        column["name"] for column in sa.inspect(old).get_columns("event")
    )
    old.dispose()
    upgrade(url)
    engine = open_engine(url)
    try:
        with engine.connect() as connection:
            media = connection.execute(sa.text("SELECT images, milliseconds FROM event")).all()
        assert len(media) > 0
        assert set(media) == {(0, 0)}
        assert all((event.images, event.milliseconds) == (0, 0) for event in usage(engine))
        with engine.connect() as connection, pytest.raises(sa.exc.DatabaseError):
            connection.execute(sa.text("UPDATE event SET images = 1"))
    finally:
        engine.dispose()


def test_answers_from_before_have_no_images_and_no_time(tmp_path, year):
    counted_nothing_before(f"sqlite:///{tmp_path / 'old.db'}", year)


@pytest.mark.postgres
def test_and_none_on_postgresql(empty_postgres_url, year):
    counted_nothing_before(empty_postgres_url, year)

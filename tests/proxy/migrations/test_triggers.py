from __future__ import annotations

import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy.exc import IntegrityError

from proxy.database import open_engine
from proxy.migrations.triggers import append_only


@pytest.fixture
def fact(tmp_path):
    """A table of facts with one row in it, append-only."""
    engine = open_engine(f"sqlite:///{tmp_path / 'facts.db'}")
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE fact (id TEXT PRIMARY KEY, body TEXT)"))
        with Operations.context(MigrationContext.configure(connection)):
            append_only("fact", key="id = NEW.id", columns=("body",))
        connection.execute(sa.text("INSERT INTO fact VALUES ('a', 'said')"))

    def attempt(statement: str) -> list[tuple[str, str]]:
        with engine.begin() as connection:
            connection.execute(sa.text(statement))
            return [
                tuple(row) for row in connection.execute(sa.text("SELECT id, body FROM fact ORDER BY id"))
            ]

    yield attempt
    engine.dispose()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE fact SET body = 'unsaid'",
        "DELETE FROM fact",
        "INSERT OR REPLACE INTO fact VALUES ('a', 'unsaid')",
        "REPLACE INTO fact VALUES ('a', 'unsaid')",
        "INSERT INTO fact VALUES ('a', 'unsaid') ON CONFLICT (id) DO UPDATE SET body = excluded.body",
        "INSERT OR IGNORE INTO fact VALUES ('a', 'unsaid')",
        "INSERT OR IGNORE INTO fact VALUES ('a', NULL)",
    ],
)
def test_what_was_said_cannot_be_unsaid(fact, statement):
    with pytest.raises(IntegrityError):
        fact(statement)


def test_the_same_fact_again_replays_silently(fact):
    assert fact("INSERT OR IGNORE INTO fact VALUES ('a', 'said')") == [("a", "said")]


def test_new_facts_are_welcome(fact):
    assert fact("INSERT INTO fact VALUES ('b', 'too')") == [("a", "said"), ("b", "too")]

"""The triggers themselves; what they let erasing do is tested where people are erased."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations

from proxy.migrations.erasable import Erasable, may_be_erased, take_back
from proxy.migrations.triggers import append_only

GONE = "EXISTS (SELECT 1 FROM gone g WHERE g.id = OLD.id)"


def refused(engine, statement):
    """Whether the store refuses it as a change of history."""
    with engine.connect() as connection:
        try:
            connection.execute(sa.text(statement))
        except sa.exc.DatabaseError as error:
            return "append-only" in str(error)
        connection.commit()
    return False


def check(url):
    engine = sa.create_engine(url)
    try:
        with engine.begin() as connection, Operations.context(MigrationContext.configure(connection)):
            for made in (
                "CREATE TABLE gone (id TEXT)",
                'CREATE TABLE said (id TEXT, words TEXT, "by" TEXT)',
                "INSERT INTO said VALUES ('a', 'I said', 'x'), ('b', 'she said', 'y')",
                "INSERT INTO gone VALUES ('a')",
            ):
                connection.execute(sa.text(made))
            append_only("said", key="id = NEW.id", columns=("words",))
            may_be_erased(Erasable("said", {"words": "NEW.words = ''"}, GONE))
        assert refused(engine, "UPDATE said SET words = 'another' WHERE id = 'a'")
        assert refused(engine, "UPDATE said SET words = '' WHERE id = 'b'")
        assert refused(engine, """UPDATE said SET words = '', "by" = 'z' WHERE id = 'a'""")
        assert refused(engine, "DELETE FROM said WHERE id = 'a'")
        assert not refused(engine, "UPDATE said SET words = '' WHERE id = 'a'")
        with engine.begin() as connection, Operations.context(MigrationContext.configure(connection)):
            take_back("said")
        assert refused(engine, "UPDATE said SET words = '' WHERE id = 'a'")
        assert refused(engine, "DELETE FROM said WHERE id = 'a'")
    finally:
        engine.dispose()


def test_only_what_is_said_may_go_and_only_of_whom_is_gone(tmp_path):
    check(f"sqlite:///{tmp_path / 'said.db'}")


@pytest.mark.postgres
def test_and_on_postgresql_too(empty_postgres_url):
    check(empty_postgres_url)

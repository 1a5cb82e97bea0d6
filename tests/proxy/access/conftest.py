"""The registry's own schema, alone: migration 0001 on a fresh store, no other chapter's tables."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations

import proxy.access.store
import proxy.catalogue.store  # noqa: F401  both chapters' tables belong to the registry's migration
from proxy.clock import base32
from proxy.database import open_engine

MIGRATION = Path(__file__).parents[3] / "proxy/migrations/versions/0001_registry.py"
NOW_US = 1_790_000_000_000_000


class FrozenClock:
    def __init__(self) -> None:
        self.us = NOW_US

    def now_us(self) -> int:
        return self.us

    def monotonic_s(self) -> float:
        return self.us / 1e6


class CountingIds:
    def __init__(self) -> None:
        self.last = 0

    def new(self, prefix: str) -> str:
        self.last += 1
        return f"{prefix}_{base32(self.last)}"


def migrate(engine: sa.Engine) -> None:
    spec = importlib.util.spec_from_file_location("registry_migration", MIGRATION)
    assert spec is not None
    assert spec.loader is not None
    migration = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(migration)
    with engine.begin() as connection, Operations.context(MigrationContext.configure(connection)):
        migration.upgrade()


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'registry.db'}"


@pytest.fixture
def engine(store_url: str) -> Iterator[sa.Engine]:
    engine = open_engine(store_url)
    migrate(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def second_engine(engine: sa.Engine, store_url: str) -> Iterator[sa.Engine]:
    """Another process's way into the same store."""
    second = open_engine(store_url)
    yield second
    second.dispose()


@pytest.fixture
def postgres_engine(postgres_url: str) -> Iterator[sa.Engine]:
    engine = open_engine(postgres_url)
    migrate(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
def ids() -> CountingIds:
    return CountingIds()

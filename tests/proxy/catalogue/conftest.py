from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa

from proxy.catalogue.store import Catalogue
from proxy.catalogue.works import NewWork
from tests.fakes import CountingIds, FrozenClock
from tests.stores import clock, engine, ids, postgres_engine, second_engine, store_url

__all__ = ["clock", "engine", "ids", "postgres_engine", "second_engine", "store_url"]


@pytest.fixture
def catalogue(engine: sa.Engine, clock: FrozenClock, ids: CountingIds) -> Catalogue:
    return Catalogue(engine, clock=clock, ids=ids)


@pytest.fixture
def new_work() -> Callable[..., NewWork]:
    def make(ref: str, *, text: str = "", creator: str = "ada", **more: object) -> NewWork:
        return NewWork(ref, creator, f"The {ref}", text or f"Once there was a {ref}.", **more)

    return make

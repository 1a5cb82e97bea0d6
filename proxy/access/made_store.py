"""Which app made what at which backend, in the store: every worker knows, and a restart forgets nothing.

A row an id and app. Backends that number their answers from one give the same id to several apps: each of
them then has its own. Rows end some time after the backend would have forgotten the thing itself, because a
table that only grows is an outage in the making.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Field, SQLModel

from proxy.errors import Unavailable

PRUNED_AT_ONCE = 1_000  # a transaction of some milliseconds, between requests


class MadeRow(SQLModel, table=True):
    """One thing that an app made: an answer that is kept, a file, a batch."""

    __tablename__: ClassVar[Any] = "made"
    id: str = Field(primary_key=True, sa_type=sa.String)
    app_id: str = Field(primary_key=True, sa_type=sa.String)
    backend: str = Field(sa_type=sa.String)
    until_us: int = Field(sa_type=sa.BigInteger, index=True)


_made = SQLModel.metadata.tables["made"]


@dataclass(frozen=True, slots=True)
class Made:
    """A thing at a backend, and the app that made it. until_us: when we may forget it."""

    id: str
    app_id: str
    backend: str
    until_us: int


class MadeThings:
    """All that is known of them. Calls block on the store; they raise Unavailable when it is away."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def note(self, things: Sequence[Made]) -> None:
        """Keep these; what is known already is known anew."""
        rows = {
            (thing.id, thing.app_id): {
                "id": thing.id,
                "app_id": thing.app_id,
                "backend": thing.backend,
                "until_us": thing.until_us,
            }
            for thing in things
        }
        if not rows:
            return
        # In one order everywhere, so that two workers never wait for each other.
        ordered = [rows[key] for key in sorted(rows)]
        dialect = sqlite if self._engine.dialect.name == "sqlite" else postgresql
        insert = dialect.insert(_made)
        newer = {"backend": insert.excluded.backend, "until_us": insert.excluded.until_us}
        statement = insert.on_conflict_do_update(index_elements=["id", "app_id"], set_=newer)
        with _asking(), self._engine.begin() as connection:
            connection.execute(statement, ordered)

    def find(self, ids: Sequence[str]) -> list[Made]:
        """Return what is known of these ids, by whichever app."""
        with _asking(), self._engine.connect() as connection:
            rows = connection.execute(sa.select(_made).where(_made.c.id.in_(list(ids)))).all()
        return [Made(row.id, row.app_id, row.backend, row.until_us) for row in rows]

    def prune(self, *, now_us: int) -> int:
        """Forget what has ended, the oldest PRUNED_AT_ONCE; return how many."""
        old = (
            sa.select(_made.c.id, _made.c.app_id)
            .where(_made.c.until_us < now_us)
            .order_by(_made.c.until_us)
            .limit(PRUNED_AT_ONCE)
        )
        with _asking(), self._engine.begin() as connection:
            keys = [tuple(row) for row in connection.execute(old)]
            if not keys:
                return 0
            these = sa.tuple_(_made.c.id, _made.c.app_id).in_(keys)
            return connection.execute(sa.delete(_made).where(these, _made.c.until_us < now_us)).rowcount


@contextlib.contextmanager
def _asking() -> Generator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        raise Unavailable(
            "whose this is cannot be asked of the store", remedy="try again shortly", code="store_unavailable"
        ) from error

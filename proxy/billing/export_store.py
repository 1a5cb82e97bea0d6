"""Statements read one after the other, however many there are: what an export of a period walks through.

By pages of ids, so that no cursor and no transaction stays open while somebody prints a hundred thousand
documents, and so that a page is all that is ever in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from proxy.billing.statements import Statement
from proxy.billing.store import StatementRow

PAGE: Final = 50  # statements in memory at once: 150 MB where each has ten thousand lines
_statement = StatementRow.metadata.tables[str(StatementRow.__tablename__)]


def _of(query: sa.Select[*tuple[Any, ...]], label: str, creator: str) -> sa.Select[*tuple[Any, ...]]:
    if label:
        query = query.where(_statement.c.period_label == label)
    return query.where(_statement.c.creator_id == creator) if creator else query


def count(engine: sa.Engine, *, label: str = "", creator: str = "") -> int:
    """Return how many statements there are: of a period, of a creator, or all."""
    with engine.connect() as connection:
        query = _of(sa.select(sa.func.count()).select_from(_statement), label, creator)
        return int(connection.execute(query).scalar_one())


def each(engine: sa.Engine, *, label: str = "", creator: str = "") -> Iterator[Statement]:
    """Yield them in the order of their ids."""
    after = ""
    while True:
        query = _of(sa.select(_statement.c.id, _statement.c.body), label, creator)
        page = query.where(_statement.c.id > after).order_by(_statement.c.id).limit(PAGE)
        with engine.connect() as connection:
            rows: list[Any] = list(connection.execute(page))
        for row in rows:
            yield msgspec.json.decode(row[1], type=Statement)
        if len(rows) < PAGE:
            return
        after = rows[-1][0]

"""Statements read one after the other, however many there are: what an export of a period walks through.

By pages of ids, so that no cursor and no transaction stays open while somebody prints a hundred thousand
documents. In memory are a page of them and the ids of all: 10 MB for a hundred thousand. Lists of them, for
who asks over HTTP, are read a page at a time too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import sqlalchemy as sa

from proxy.billing.kept import unpacked
from proxy.billing.statement import Statement
from proxy.billing.store import PeriodRow, StatementRow, StatementSummary
from proxy.errors import BadRequest

PAGE: Final = 50  # statements in memory at once: 150 MB where each has ten thousand lines
_statement = StatementRow.metadata.tables[str(StatementRow.__tablename__)]
_period = PeriodRow.metadata.tables[str(PeriodRow.__tablename__)]


def _of(query: sa.Select[*tuple[Any, ...]], label: str, creator: str) -> sa.Select[*tuple[Any, ...]]:
    if label:
        query = query.where(_statement.c.period_label == label)
    return query.where(_statement.c.creator_id == creator) if creator else query


def ids_of(engine: sa.Engine, *, label: str = "", creator: str = "") -> list[str]:
    """Return the ids of a period's statements, of a creator's, or of all, sorted."""
    with engine.connect() as connection:
        found = connection.execute(_of(sa.select(_statement.c.id), label, creator)).scalars()
        return sorted(str(one) for one in found)  # sorted here: a store would sort all of them for each page


def each(engine: sa.Engine, *, label: str = "", creator: str = "") -> Iterator[Statement]:
    """Yield them in the order of their ids."""
    return some(engine, ids_of(engine, label=label, creator=creator))


def some(engine: sa.Engine, ids: Sequence[str]) -> Iterator[Statement]:
    """Yield the statements of these ids, in their order."""
    for start in range(0, len(ids), PAGE):
        page = ids[start : start + PAGE]
        query = sa.select(_statement.c.id, _statement.c.body).where(_statement.c.id.in_(page))
        with engine.connect() as connection:
            bodies: dict[str, str] = {str(row[0]): str(row[1]) for row in connection.execute(query)}
        for one in page:
            yield unpacked(bodies[one])


def listed(
    engine: sa.Engine, *, label: str = "", creator: str = "", after: str = "", limit: int
) -> list[StatementSummary]:
    """Return `limit` statements at most, behind the one `after`: newest period first, then by creator.

    Raises BadRequest when `after` is none of these.
    """
    place = (_period.c.seq, _statement.c.creator_id, _statement.c.id)
    joined = _statement.join(_period, _statement.c.period_label == _period.c.label)
    names = ("id", "period_label", "creator_id", "currency", "opening", "earned", "closing")  # no body: MB
    query = _of(sa.select(*(_statement.c[name] for name in names)).select_from(joined), label, creator)
    with engine.connect() as connection:
        if after:
            its = _of(sa.select(*place).select_from(joined).where(_statement.c.id == after), label, creator)
            last = connection.execute(its).one_or_none()
            if last is None:
                raise BadRequest("`cursor` is none of ours", remedy="pass next_cursor as it came")
            seq, creator_id, statement_id = last
            behind = sa.tuple_(*place[1:]) > sa.tuple_(sa.literal(creator_id), sa.literal(statement_id))
            query = query.where(sa.or_(place[0] < seq, sa.and_(place[0] == seq, behind)))
        rows = connection.execute(query.order_by(place[0].desc(), place[1], place[2]).limit(limit)).all()
    return [
        StatementSummary(
            id=row.id,
            period=row.period_label,
            creator=row.creator_id,
            currency=row.currency,
            opening_grains=row.opening,
            earned_grains=row.earned,
            closing_grains=row.closing,
        )
        for row in rows
    ]

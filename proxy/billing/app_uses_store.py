"""What each app asked for, by day and model, for the people who build it: summed as answers settle.

The prices are those of the answers, as they were metered; what a period charges is settled by its close.
Rows are added by whoever sums uses (`daily_store`), in the same transaction and up to the same mark.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from proxy.clock import iso_utc, parse_time_us
from proxy.metering import store as metering
from proxy.metering.usage import MeteredEvent

ROWS_MAX: Final = 2_000  # of one month: thirty days of sixty models
DAY_US: Final = 86_400_000_000
_NUMBERS: Final = ("answers", "cut", "failed", "input_tokens", "output_tokens", "grains", "unpriced")


class AppUseRow(SQLModel, table=True):
    """What one app asked one model for on one day. unpriced: answers whose model had no price."""

    __tablename__: ClassVar[Any] = "app_use"
    app_id: str = Field(primary_key=True, sa_type=sa.String)
    day: str = Field(primary_key=True, sa_type=sa.String)
    model: str = Field(primary_key=True, sa_type=sa.String)
    currency: str = Field(primary_key=True, sa_type=sa.String)
    answers: int = Field(sa_type=sa.BigInteger)
    cut: int = Field(sa_type=sa.BigInteger)
    failed: int = Field(sa_type=sa.BigInteger)
    input_tokens: int = Field(sa_type=sa.BigInteger)
    output_tokens: int = Field(sa_type=sa.BigInteger)
    grains: int = Field(sa_type=sa.BigInteger)
    unpriced: int = Field(sa_type=sa.BigInteger)


table = SQLModel.metadata.tables["app_use"]
_event = metering.event
# What is read of an answer to be summed here.
COLUMNS: Final[tuple[sa.ColumnElement[Any], ...]] = tuple(
    _event.c[name] for name in ("outcome", "input_tokens", "output_tokens", "price_grains", "currency")
)


@dataclass(frozen=True, slots=True)
class AppUse:
    """A row of a month. what: a day or a model. Amounts are in `currency`."""

    what: str
    currency: str
    answers: int
    cut: int
    failed: int
    input_tokens: int
    output_tokens: int
    grains: int
    unpriced: int


def sums_of(rows: Iterable[Any]) -> list[dict[str, Any]]:
    """Return the rows that these answers add. rows: app_id, occurred_us, model, and COLUMNS."""
    sums: dict[tuple[str, str, str, str], dict[str, int]] = defaultdict(lambda: dict.fromkeys(_NUMBERS, 0))
    for row in rows:
        one = sums[row.app_id, iso_utc(row.occurred_us)[:10], row.model, row.currency]
        one["answers"] += 1
        one["cut"] += row.outcome == "cut"
        one["failed"] += row.outcome == "failed"
        one["input_tokens"] += row.input_tokens
        one["output_tokens"] += row.output_tokens
        one["grains"] += row.price_grains or 0
        one["unpriced"] += row.price_grains is None
    return [
        {"app_id": app, "day": day, "model": model, "currency": currency} | numbers
        for (app, day, model, currency), numbers in sorted(sums.items())
    ]


def month_of_app(engine: sa.Engine, app_id: str, month: str) -> tuple[list[AppUse], list[AppUse]]:
    """Return what an app asked for in a month ("2026-11"), by day and by model, the dearest model first."""

    def by(column: Any, order: Any) -> list[AppUse]:
        sums = [sa.func.sum(table.c[name]).label(name) for name in _NUMBERS]
        query = sa.select(column.label("what"), table.c.currency, *sums).group_by(column, table.c.currency)
        query = query.where(
            table.c.app_id == app_id, table.c.day >= f"{month}-01", table.c.day <= f"{month}-31"
        )
        with engine.connect() as connection:
            rows = connection.execute(query.order_by(*order).limit(ROWS_MAX)).all()
        return [
            AppUse(str(row.what), str(row.currency), *(int(getattr(row, name)) for name in _NUMBERS))
            for row in rows
        ]

    with metering.store_errors():
        days = by(table.c.day, (table.c.day, table.c.currency))
        models = by(table.c.model, (sa.func.sum(table.c.grains).desc(), table.c.model, table.c.currency))
    return days, models


def last_answers(engine: sa.Engine, app_id: str, limit: int) -> list[MeteredEvent]:
    """Return an app's last answers, newest first, of the last day that has any which were summed.

    One day only, because answers are found by their time: an app that has not asked for months must not have
    everybody else's months read.
    """
    newest = sa.select(sa.func.max(table.c.day)).where(table.c.app_id == app_id)
    with metering.store_errors(), engine.connect() as connection:
        day = connection.execute(newest).scalar()
        if day is None:
            return []
        begin_us = parse_time_us(str(day))
        of_day = sa.select(_event.c.id).where(
            _event.c.app_id == app_id,
            _event.c.occurred_us >= begin_us,
            _event.c.occurred_us < begin_us + DAY_US,
        )
        newest_first = of_day.order_by(_event.c.occurred_us.desc(), _event.c.id.desc()).limit(limit)
        ids = [str(one) for one in connection.execute(newest_first).scalars()]
    found = {one.id: one for one in metering.answers_of(engine, ids)}
    return [found[one] for one in ids if one in found]

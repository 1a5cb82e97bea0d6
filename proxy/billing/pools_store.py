"""Declared revenue in the store: who said what an app earned in a period, and who stood for it; append-only.

An amount that is too small takes from every creator of the app and nobody could see it from their statement.
So one person declares it and another approves it, and a period is not closed while a declaration of it waits.
What was approved stays; a mistake is corrected by another declaration, which may be negative. Approving and
closing take the same turn, so a pool is in the close of its period or is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, ClassVar, Final, Literal

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from proxy.access.store import AppRow
from proxy.billing.money import EXPONENTS, GRAINS_PER_MINOR, parse
from proxy.billing.pools import PoolTold, Revenue
from proxy.billing.store import PeriodRow
from proxy.catalogue.ownership import NAME_OF_DECIDER_MAX, REASON_CHARACTERS_MAX, checked_words
from proxy.clock import Clock, Ids, base32
from proxy.database import money_turn, take_money_turn
from proxy.errors import BadRequest, Conflict, NotFound

KINDS: Final = ("subscription", "ads", "other")
USERS_MAX: Final = 10**10  # more than there are people


class RevenueRow(SQLModel, table=True):
    """One declaration; append-only."""

    __tablename__: ClassVar[Any] = "pool_revenue"
    id: str = Field(primary_key=True, sa_type=sa.String)
    app_id: str = Field(sa_type=sa.String, foreign_key="app.id")
    period_label: str = Field(sa_type=sa.String, index=True)
    kind: str = Field(sa_type=sa.String)
    amount: int = Field(sa_type=sa.BigInteger)
    currency: str = Field(sa_type=sa.String)
    users: int | None = Field(sa_type=sa.BigInteger)
    why: str = Field(sa_type=sa.String)
    by: str = Field(sa_type=sa.String)
    at_us: int = Field(sa_type=sa.BigInteger)


class RevenueDecisionRow(SQLModel, table=True):
    """What became of a declaration; one row each, so that it is decided once."""

    __tablename__: ClassVar[Any] = "pool_revenue_decision"
    pool_revenue_id: str = Field(primary_key=True, sa_type=sa.String, foreign_key="pool_revenue.id")
    outcome: str = Field(sa_type=sa.String)
    by: str = Field(sa_type=sa.String)
    at_us: int = Field(sa_type=sa.BigInteger)


_tables = SQLModel.metadata.tables
_revenue, _decision = _tables["pool_revenue"], _tables["pool_revenue_decision"]
_app, _period = _tables[str(AppRow.__tablename__)], _tables[str(PeriodRow.__tablename__)]


class Pools:
    """Declaring revenue, approving it, taking it back. by: who acts; nobody approves what they declared."""

    def __init__(self, engine: sa.Engine, *, clock: Clock, ids: Ids, by: str, currency: str) -> None:
        self._engine, self._clock, self._ids, self._currency = engine, clock, ids, currency
        self._by = checked_words(by, "name of who acts", NAME_OF_DECIDER_MAX)

    def declare(
        self,
        app: str,
        label: str,
        amount: str,
        *,
        kind: str = "subscription",
        users: int | None = None,
        why: str = "",
        key: str = "",
    ) -> Revenue:
        """Keep a declaration of an app (id or name), in whole minor units. key: names one to be made once.

        Raises NotFound, BadRequest, Conflict.
        """
        grains = _amount(amount, self._currency)
        if kind not in KINDS:
            raise BadRequest(f"there is no revenue '{kind}'", remedy=f"use {', '.join(KINDS)}", code="pool")
        if users is not None and not 0 <= users <= USERS_MAX:
            raise BadRequest(f"{users} users", remedy=f"give 0 to {USERS_MAX}", code="pool")
        said = checked_words(why, "reason", REASON_CHARACTERS_MAX, needed=False)
        with money_turn(self._engine) as connection:
            app_id = _app_id(connection, app)
            _refuse_closed(connection, label)
            row: dict[str, Any] = {
                "id": _keyed(self._by, key) if key else self._ids.new("rev"),
                "app_id": app_id,
                "period_label": label,
                "kind": kind,
                "amount": grains,
                "currency": self._currency,
                "users": users,
                "why": said,
                "by": self._by,
                "at_us": self._clock.now_us(),
            }
            known = [one for one in revenues_now(connection, label, app_id) if one.id == row["id"]]
            if known:
                return _again(known[0], row)
            if key and connection.execute(sa.select(_revenue.c.id).where(_revenue.c.id == row["id"])).first():
                raise _other_key()
            connection.execute(sa.insert(_revenue), [row])
            return _load(connection, row["id"])

    def decide(self, revenue_id: str, outcome: Literal["approved", "withdrawn"]) -> tuple[Revenue, bool]:
        """Approve or take back a declaration; return (it, whether that is new).

        Raises Conflict for whoever declared it (code "pool_same_person"), when it was decided otherwise, and
        when its period is closed.
        """
        with money_turn(self._engine) as connection:
            known = _load(connection, revenue_id)
            if known.outcome == outcome:
                return known, False
            if known.outcome:
                raise Conflict(
                    f"{revenue_id} was {known.outcome} by {known.decided_by}",
                    remedy="declare a correction, which may be negative",
                    code="pool_decided",
                )
            _refuse_closed(connection, known.period)
            if outcome == "approved" and known.by == self._by:
                raise Conflict(
                    f"{self._by} declared {revenue_id} and can't approve it",
                    remedy="somebody else approves it (--by NAME)",
                    code="pool_same_person",
                )
            row = {"pool_revenue_id": revenue_id, "outcome": outcome, "by": self._by}
            connection.execute(sa.insert(_decision), [row | {"at_us": self._clock.now_us()}])
            return _load(connection, revenue_id), True


def revenues(engine: sa.Engine, label: str = "", app: str = "") -> list[Revenue]:
    """Return every declaration, of one period or app or of all, oldest first."""
    with engine.connect() as connection:
        return revenues_now(connection, label, app)


def revenues_now(connection: sa.Connection, label: str = "", app: str = "") -> list[Revenue]:
    """The same within a transaction."""
    query = _known()
    if label:
        query = query.where(_revenue.c.period_label == label)
    if app:
        query = query.where(_revenue.c.app_id == app)
    return [_made(row) for row in connection.execute(query.order_by(_revenue.c.at_us, _revenue.c.id))]


def refuse_changed(connection: sa.Connection, label: str, pools: Iterable[PoolTold]) -> None:
    """Raise Conflict where a revenue was approved while its period was being computed; within the close.

    The turn is taken here too: whoever approves next finds the period closed.
    """
    take_money_turn(connection)
    known = {one.id for one in revenues_now(connection, label) if one.outcome == "approved"}
    if known != {id_ for pool in pools for id_ in pool.declared}:
        raise Conflict(
            f"revenue was approved while {label} was being computed",
            remedy="close it again: it will be in it",
            code="close_raced",
        )


def _known() -> sa.Select[Any]:
    decided = (_decision.c.outcome.label("outcome"), _decision.c.by.label("decided_by"))
    joined = _revenue.outerjoin(_decision, _decision.c.pool_revenue_id == _revenue.c.id)
    return sa.select(*_revenue.c, *decided).select_from(joined)


def _made(row: Any) -> Revenue:
    return Revenue(
        id=row.id,
        app=row.app_id,
        period=row.period_label,
        kind=row.kind,
        amount_grains=row.amount,
        currency=row.currency,
        users=row.users,
        why=row.why,
        by=row.by,
        at_us=row.at_us,
        outcome=row.outcome or "",
        decided_by=row.decided_by or "",
    )


def _load(connection: sa.Connection, revenue_id: str) -> Revenue:
    row = connection.execute(_known().where(_revenue.c.id == revenue_id)).first()
    if row is None:
        raise NotFound(f"there is no revenue '{revenue_id}'", remedy="`endcredits pools list` shows them")
    return _made(row)


def _app_id(connection: sa.Connection, app: str) -> str:
    """Return the id of an app by id or name; an id wins over a name like it."""
    query = sa.select(_app.c.id).where(sa.or_(_app.c.id == app, _app.c.name == app))
    found = connection.execute(query.order_by(sa.case((_app.c.id == app, 0), else_=1)).limit(1)).scalar()
    if found is None:
        raise NotFound(f"there is no app '{app}'", remedy="`endcredits keys list` shows them by name")
    return str(found)


def _keyed(by: str, key: str) -> str:
    digest = hashlib.sha256(f"pool|{by}|{key}".encode()).digest()
    return "rev_" + base32(int.from_bytes(digest[:17], "big") >> 6)


def _again(known: Revenue, row: dict[str, Any]) -> Revenue:
    said = (known.kind, known.amount_grains, known.users, known.why)
    if said != (row["kind"], row["amount"], row["users"], row["why"]):
        raise _other_key()
    return known


def _other_key() -> Conflict:
    return Conflict(
        "this Idempotency-Key names another declaration",
        remedy="use a new key for a new declaration",
        code="idempotency_key",
    )


def _refuse_closed(connection: sa.Connection, label: str) -> None:
    if connection.execute(sa.select(_period.c.label).where(_period.c.label == label)).first():
        raise Conflict(
            f"period {label} is closed: its pools are divided",
            remedy="declare it for the period that is closed next",
            code="pool_period_closed",
        )


def _amount(text: str, currency: str) -> int:
    try:
        grains = parse(text, currency)
    except (ValueError, OverflowError) as error:
        raise BadRequest(f"revenue: {error}", remedy='write an amount like "9317.83"', code="pool") from error
    if grains % GRAINS_PER_MINOR:
        raise BadRequest(
            f"'{text}' is not a whole number of minor units",
            remedy=f"{currency} has {EXPONENTS[currency]} digits after the point",
            code="pool",
        )
    return grains

"""Limits of keys and apps in the store, and budgets that cannot be raced.

A request that may cost reserves the most it can cost, in one statement that adds only where it still fits:
however many workers ask at once, no reservation makes what is spent and held exceed the budget. When the
answer is metered, the reservation becomes what it cost. One whose worker died is settled from its metered
event by `sweep`, or given back when a day has brought none.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from typing import Any, ClassVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Field, SQLModel

from proxy.access.limits import Limits
from proxy.clock import Clock
from proxy.database import RegistryChange, append_registry, registry_turn
from proxy.errors import BadRequest, NotFound, Unavailable

PATTERNS_MAX = 1_000  # of an allow-list; every request looks through it
HOLD_US_MAX = 86_400_000_000  # an answer takes no day, and neither does carrying its event
SWEPT_AT_ONCE = 1_000


class KeyLimitRow(SQLModel, table=True):
    """What one key may use, when that is not everything for ever."""

    __tablename__: ClassVar[Any] = "key_limit"
    key_id: str = Field(primary_key=True, sa_type=sa.String, foreign_key="key.id")
    models: str = Field(sa_type=sa.Text)
    expires_us: int | None = Field(default=None, sa_type=sa.BigInteger)


class AppLimitRow(SQLModel, table=True):
    """How much one app may use, when that is not as much as it likes."""

    __tablename__: ClassVar[Any] = "app_limit"
    app_id: str = Field(primary_key=True, sa_type=sa.String, foreign_key="app.id")
    requests_per_min: int = Field(sa_type=sa.BigInteger)
    tokens_per_min: int = Field(sa_type=sa.BigInteger)
    budget_grains: int | None = Field(default=None, sa_type=sa.BigInteger)
    currency: str = Field(sa_type=sa.String)
    origins: str = Field(sa_type=sa.Text)
    known_endpoints_only: bool = Field(sa_type=sa.Boolean)
    audited: bool = Field(
        default=False, sa_column=sa.Column(sa.Boolean, nullable=False, server_default=sa.false())
    )


class BudgetMonthRow(SQLModel, table=True):
    """One app's month: what was spent, and what answers in flight may still cost."""

    __tablename__: ClassVar[Any] = "budget_month"
    app_id: str = Field(primary_key=True, sa_type=sa.String, foreign_key="app.id")
    month: str = Field(primary_key=True, sa_type=sa.String)
    spent_grains: int = Field(sa_type=sa.BigInteger)
    held_grains: int = Field(sa_type=sa.BigInteger)


class BudgetHoldRow(SQLModel, table=True):
    """One answer in flight; its id is the answer's."""

    __tablename__: ClassVar[Any] = "budget_hold"
    id: str = Field(primary_key=True, sa_type=sa.String)
    app_id: str = Field(sa_type=sa.String, foreign_key="app.id")
    month: str = Field(sa_type=sa.String)
    grains: int = Field(sa_type=sa.BigInteger)
    at_us: int = Field(sa_type=sa.BigInteger, index=True)


_tables = SQLModel.metadata.tables
_key_limit, _app_limit = _tables["key_limit"], _tables["app_limit"]
_month, _hold = _tables["budget_month"], _tables["budget_hold"]
_strings = ("id", "role", "app_id", "creator_id", "name", "hash")
_key = sa.table("key", *(sa.column(c, sa.String) for c in _strings), sa.column("revoked_us", sa.BigInteger))
_app = sa.table("app", sa.column("id", sa.String), sa.column("name", sa.String))
_event = sa.table("event", sa.column("id", sa.String), sa.column("price_grains", sa.BigInteger))


# -- reading
# ----------------------------------------------------------------------------------------------------


def living_keys(*, digest: str | None = None, key_id: str | None = None) -> sa.Select[Any]:
    """Return the statement for keys that are not revoked, with their limits: all, or the one named."""
    statement = (
        sa.select(
            _key,
            _key_limit.c.models,
            _key_limit.c.expires_us,
            *(column for column in _app_limit.c if column.name != "app_id"),
        )
        .outerjoin(_key_limit, _key_limit.c.key_id == _key.c.id)
        .outerjoin(_app_limit, _app_limit.c.app_id == _key.c.app_id)
        .where(_key.c.revoked_us.is_(None))
    )
    if digest is not None:
        statement = statement.where(_key.c.hash == digest)
    return statement if key_id is None else statement.where(_key.c.id == key_id)


def limits_in(row: Any) -> Limits:
    """Return the limits in a row of `living_keys`."""
    return Limits(
        models=tuple(msgspec.json.decode(row.models, type=list[str])) if row.models else (),
        expires_us=row.expires_us,
        requests_per_min=row.requests_per_min or 0,
        tokens_per_min=row.tokens_per_min or 0,
        budget_grains=row.budget_grains,
        currency=row.currency or "",
        origins=tuple(msgspec.json.decode(row.origins, type=list[str])) if row.origins else (),
        known_endpoints_only=bool(row.known_endpoints_only),
        audited=bool(row.audited),
    )


def app_limits(engine: sa.Engine, name: str) -> tuple[str, Limits]:
    """Return an app's id and limits by its name or id. Raises NotFound."""
    with engine.connect() as connection:
        app_id = _app_called(connection, name)
        return app_id, _limits_of(connection, app_id)


def _limits_of(connection: sa.Connection, app_id: str) -> Limits:
    keyless = (sa.literal("").label("models"), sa.null().label("expires_us"))
    statement = sa.select(_app_limit, *keyless).where(_app_limit.c.app_id == app_id)
    row = connection.execute(statement).one_or_none()
    return Limits() if row is None else limits_in(row)


def spent(engine: sa.Engine, app_id: str, month: str) -> tuple[int, int]:
    """Return (grains spent, grains held by answers in flight) of an app's month."""
    with engine.connect() as connection:
        row = connection.execute(
            sa.select(_month.c.spent_grains, _month.c.held_grains).where(
                _month.c.app_id == app_id, _month.c.month == month
            )
        ).one_or_none()
    return (0, 0) if row is None else (row.spent_grains, row.held_grains)


def _app_called(connection: sa.Connection, name: str) -> str:
    found = (
        connection.execute(sa.select(_app.c.id).where(sa.or_(_app.c.id == name, _app.c.name == name)))
        .scalars()
        .first()
    )
    if found is None:
        raise NotFound(f"there is no app '{name}'", remedy="`endcredits apps list` shows them")
    return str(found)


# -- setting
# ----------------------------------------------------------------------------------------------------


def limit_app(
    engine: sa.Engine, name: str, change: Callable[[Limits], Limits], *, clock: Clock, actor: str = "operator"
) -> tuple[str, Limits]:
    """Change an app's limits; every worker acts on them within a second. Returns its id and what holds now.

    Raises NotFound for an app that does not exist.
    """
    with registry_turn(engine) as connection:
        app_id = _app_called(connection, name)
        limits = change(_limits_of(connection, app_id))
        row = {
            "app_id": app_id,
            "requests_per_min": limits.requests_per_min,
            "tokens_per_min": limits.tokens_per_min,
            "budget_grains": limits.budget_grains,
            "currency": limits.currency,
            "origins": msgspec.json.encode(limits.origins).decode(),
            "known_endpoints_only": limits.known_endpoints_only,
            "audited": limits.audited,
        }
        connection.execute(sa.delete(_app_limit).where(_app_limit.c.app_id == app_id))
        connection.execute(sa.insert(_app_limit), [row])
        append_registry(connection, [RegistryChange("app_limited", row)], actor=actor, at_us=clock.now_us())
    return app_id, limits


def limit_key(
    engine: sa.Engine,
    key_id: str,
    *,
    clock: Clock,
    models: Sequence[str] | None = None,
    expires_us: int | None = None,
    actor: str = "operator",
) -> None:
    """Set a key's models, or its end, or both; what is None stays.

    Raises NotFound for a key that does not exist, BadRequest for a list that is too long.
    """
    with registry_turn(engine) as connection:
        set_key_limits(connection, key_id, models=models, expires_us=expires_us, actor=actor, clock=clock)


def set_key_limits(
    connection: sa.Connection,
    key_id: str,
    *,
    models: Sequence[str] | None,
    expires_us: int | None,
    actor: str,
    clock: Clock,
) -> None:
    """The same inside a registry turn."""
    if models is not None and (len(models) > PATTERNS_MAX or not all(models)):
        raise BadRequest("the models are too many or one has no name", remedy="use patterns like gpt-*")
    if connection.execute(sa.select(_key.c.id).where(_key.c.id == key_id)).one_or_none() is None:
        raise NotFound(f"there is no key '{key_id}'", remedy="`endcredits keys list` shows their ids")
    before = connection.execute(sa.select(_key_limit).where(_key_limit.c.key_id == key_id)).one_or_none()
    row = {
        "key_id": key_id,
        "models": before.models if before else "[]",
        "expires_us": before.expires_us if before else None,
    }
    if models is not None:
        row["models"] = msgspec.json.encode(models).decode()
    if expires_us is not None:
        row["expires_us"] = expires_us
    connection.execute(sa.delete(_key_limit).where(_key_limit.c.key_id == key_id))
    connection.execute(sa.insert(_key_limit), [row])
    append_registry(connection, [RegistryChange("key_limited", row)], actor=actor, at_us=clock.now_us())


# -- budgets
# ----------------------------------------------------------------------------------------------------


class Budgets:
    """Every app's months. All calls block on the store; they raise Unavailable when it is away."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def reserve(
        self, hold_id: str, app_id: str, *, month: str, grains: int, budget_grains: int, now_us: int
    ) -> bool:
        """Hold `grains` for an answer; False when they do not fit any more.

        A reservation of 0 fits while the budget is not used up.
        """
        place = {"app_id": app_id, "month": month}
        fits = _month.c.spent_grains + _month.c.held_grains + max(grains, 1) <= budget_grains
        with self._turn() as connection:
            connection.execute(self._insert_month({**place, "spent_grains": 0, "held_grains": 0}))
            taken = connection.execute(
                sa.update(_month)
                .where(_month.c.app_id == app_id, _month.c.month == month, fits)
                .values(held_grains=_month.c.held_grains + grains)
            )
            if taken.rowcount != 1:
                return False
            connection.execute(
                sa.insert(_hold), [{"id": hold_id, **place, "grains": grains, "at_us": now_us}]
            )
        return True

    def settle(self, hold_id: str, grains: int | None) -> bool:
        """Turn a reservation into what the answer cost; None: all that was held. False: there is none."""
        with self._turn() as connection:
            return self._settle(connection, hold_id, grains)

    def sweep(self, *, now_us: int) -> int:
        """Settle reservations whose answer is in the store, give back those a day old; return how many."""
        old = _hold.c.at_us < now_us - HOLD_US_MAX
        statement = (
            sa.select(_hold.c.id, _event.c.id.label("event"), _event.c.price_grains)
            .outerjoin(_event, _event.c.id == _hold.c.id)
            .where(sa.or_(_event.c.id.is_not(None), old))
            .limit(SWEPT_AT_ONCE)
        )
        with self._turn() as connection:
            rows = connection.execute(statement).all()
            for row in rows:
                self._settle(connection, row.id, 0 if row.event is None else row.price_grains)
        return len(rows)

    def _settle(self, connection: sa.Connection, hold_id: str, grains: int | None) -> bool:
        held = connection.execute(
            sa.delete(_hold)
            .where(_hold.c.id == hold_id)
            .returning(_hold.c.app_id, _hold.c.month, _hold.c.grains)
        ).one_or_none()
        if held is None:
            return False
        cost = held.grains if grains is None else grains
        connection.execute(
            sa.update(_month)
            .where(_month.c.app_id == held.app_id, _month.c.month == held.month)
            .values(held_grains=_month.c.held_grains - held.grains, spent_grains=_month.c.spent_grains + cost)
        )
        return True

    def _turn(self) -> Any:
        return _writing(self._engine)

    def _insert_month(self, row: dict[str, Any]) -> Any:
        dialect = sqlite if self._engine.dialect.name == "sqlite" else postgresql
        return dialect.insert(_month).values(row).on_conflict_do_nothing()


@contextlib.contextmanager
def _writing(engine: sa.Engine) -> Generator[sa.Connection]:
    """Give a transaction that writes from the start: SQLite lets two read, and then one of them fails."""
    try:
        with engine.begin() as connection:
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection
    except SQLAlchemyError as error:
        cause = "the app's budget cannot be asked of the store"
        raise Unavailable(cause, remedy="try again shortly", code="store_unavailable") from error

"""Adjustments in the store: what was proposed, by whom approved, and the booking, once.

Whoever takes out of an account takes a turn, and looks at what is there within it: neither a creator's
account nor the common one can be taken below nothing. What is booked is written with its reason in the same
transaction, and told by the creator's next statement.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final

import msgspec
import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from proxy.access.store import AppRow
from proxy.billing import adjustments, ledger, movements_store, store
from proxy.billing.adjustments import Adjustment, Event, Kind
from proxy.billing.statement import canonical
from proxy.catalogue.ownership import NAME_OF_DECIDER_MAX, REASON_CHARACTERS_MAX, checked_words
from proxy.catalogue.works import COMMONS
from proxy.clock import Clock
from proxy.database import money_turn
from proxy.errors import BadRequest, Conflict, NotFound

LISTED_MAX: Final = 500  # the newest; a book with more corrections than that has another problem


class AdjustmentRow(SQLModel, table=True):
    """One adjustment as it was proposed, its body canonical JSON; append-only."""

    __tablename__: ClassVar[Any] = "adjustment"
    id: str = Field(primary_key=True, sa_type=sa.String)
    creator_id: str = Field(sa_type=sa.String, foreign_key="creator.id", index=True)
    proposed_us: int = Field(sa_type=sa.BigInteger)
    body: str = Field(sa_type=sa.Text)


class AdjustmentEventRow(SQLModel, table=True):
    """What happened to an adjustment; append-only."""

    __tablename__: ClassVar[Any] = "adjustment_event"
    adjustment_id: str = Field(primary_key=True, sa_type=sa.String, foreign_key="adjustment.id")
    seq: int = Field(primary_key=True, sa_type=sa.BigInteger)
    kind: str = Field(sa_type=sa.String)
    by: str = Field(sa_type=sa.String)
    reason: str = Field(sa_type=sa.Text)
    at_us: int = Field(sa_type=sa.BigInteger)


_tables = SQLModel.metadata.tables
_adjustment, _event = _tables["adjustment"], _tables["adjustment_event"]
_transfer, _statement, _creator, _period, _app = (
    _tables[name] for name in ("transfer", "statement", "creator", "period", str(AppRow.__tablename__))
)


class Adjustments:
    """Correcting, step by step; every step done twice is done once. by: who acts."""

    def __init__(self, engine: sa.Engine, *, clock: Clock, by: str) -> None:
        self._engine = engine
        self._clock = clock
        self._by = checked_words(by, "name of who acts", NAME_OF_DECIDER_MAX)

    def propose(
        self, *, corrects: str, creator: str, currency: str, grains: int, other: str, reason: str
    ) -> tuple[Adjustment, Kind]:
        """Return (the adjustment, its state): booked when it gives, proposed when it takes.

        other: its other side, as adjustments.account_of reads it. Raises BadRequest for what names nothing,
        NotFound for what is not there, Conflict when the other side has not that much.
        """
        one = adjustments.made(
            corrects=corrects,
            creator=creator,
            currency=currency,
            grains=grains,
            account=adjustments.account_of(other),
            reason=checked_words(reason, "reason", REASON_CHARACTERS_MAX),
            by=self._by,
            now_us=self._clock.now_us(),
        )
        with money_turn(self._engine) as connection:
            known = _found(connection, one.id)
            if known is not None:
                return known, adjustments.state_of(_events(connection, one.id))
            self._check(connection, one, other)
            row = {"id": one.id, "creator_id": creator, "proposed_us": one.proposed_us}
            connection.execute(sa.insert(_adjustment), [row | {"body": canonical(one).decode()}])
            self._happened(connection, one, (), "proposed", one.reason)
            if one.takes:
                return one, "proposed"
            self._book(connection, one, 1)
        return one, "booked"

    def approve(self, adjustment_id: str) -> tuple[Adjustment, bool]:
        """Book what takes from a creator. Return (it, whether it was not booked yet).

        Raises Conflict for whoever proposed it, and when less is owed than it takes: nothing is then booked.
        """
        with money_turn(self._engine) as connection:
            one, events = _load(connection, adjustment_id)
            if not adjustments.may_approve(one, events, self._by):
                return one, False
            self._book(connection, one, len(events))
        return one, True

    def reject(self, adjustment_id: str, reason: str) -> bool:
        """Say that it is not booked; False when that was said already."""
        said = checked_words(reason, "reason", REASON_CHARACTERS_MAX)
        with money_turn(self._engine) as connection:
            one, events = _load(connection, adjustment_id)
            if not adjustments.may_reject(one, events):
                return False
            self._happened(connection, one, events, "rejected", said)
        return True

    def _book(self, connection: sa.Connection, one: Adjustment, events: int) -> None:
        source = ledger.payee(one.creator) if one.takes else one.account
        if source.startswith("liab:"):
            there = store.balances(self._engine, source).get((source, one.currency), 0)
            if there < abs(one.grains):
                raise Conflict(
                    f"{one.id} takes {abs(one.grains)} grains of {source}, which has {there}",
                    remedy="what was paid out stays paid: propose up to what is there",
                    code="adjustment_too_much",
                )
        now_us = self._clock.now_us()
        movements_store.book_noted(
            connection,
            [adjustments.transfer(one, now_us)],
            currency=one.currency,
            corrects=one.corrects,
            reason=one.reason,
        )
        self._happened(connection, one, (None,) * events, "booked", "")

    def _check(self, connection: sa.Connection, one: Adjustment, other: str) -> None:
        transfer, statement, line = adjustments.corrected(one.corrects)
        if transfer:
            _must_be(connection, _transfer.c.id == transfer, f"no transfer {transfer}")
        else:
            found = connection.execute(
                sa.select(_statement.c.body).where(_statement.c.id == statement)
            ).scalar()
            lines = len(store.statement(self._engine, statement).lines) if found else 0
            if found is None or line > lines:
                raise NotFound(
                    f"{one.corrects} is not there",
                    remedy="`endcredits statements list` shows statements; lines are counted from 1",
                )
        _must_be(
            connection,
            sa.and_(_creator.c.id == one.creator, _creator.c.id != COMMONS),
            f"no creator {one.creator}",
        )
        kind, _, name = other.partition(":")
        if kind == "app":
            _must_be(connection, _app.c.id == name, f"no app {name}")
        if kind == "common":
            label = name.partition(":")[0]
            _must_be(connection, _period.c.label == label, f"no period {label} is closed")
        currencies = set(connection.execute(sa.select(_period.c.currency).distinct()).scalars())
        if one.currency not in currencies:
            raise BadRequest(
                f"no period was closed in {one.currency}", remedy="give the currency of what it corrects"
            )

    def _happened(
        self, connection: sa.Connection, one: Adjustment, before: Sequence[object], kind: Kind, reason: str
    ) -> None:
        row = {
            "adjustment_id": one.id,
            "seq": len(before) + 1,
            "kind": kind,
            "by": self._by,
            "reason": reason,
            "at_us": self._clock.now_us(),
        }
        connection.execute(sa.insert(_event), [row])


def adjustment(engine: sa.Engine, adjustment_id: str) -> tuple[Adjustment, list[Event]]:
    """Return one with what happened to it, oldest first. Raises NotFound."""
    with engine.connect() as connection:
        return _load(connection, adjustment_id)


def listed(
    engine: sa.Engine, *, creator: str = "", before: tuple[int, str] | None = None, limit: int = LISTED_MAX
) -> list[tuple[Adjustment, list[Event]]]:
    """Return adjustments (of one creator, or all), newest first; before: (proposed_us, id) of one of them."""
    query = sa.select(_adjustment.c.id).order_by(_adjustment.c.proposed_us.desc(), _adjustment.c.id.desc())
    if creator:
        query = query.where(_adjustment.c.creator_id == creator)
    if before is not None:
        query = query.where(sa.tuple_(_adjustment.c.proposed_us, _adjustment.c.id) < sa.tuple_(*before))
    with engine.connect() as connection:
        names = connection.execute(query.limit(limit)).scalars().all()
        return [_load(connection, str(name)) for name in names]


def _must_be(connection: sa.Connection, which: sa.ColumnElement[bool], cause: str) -> None:
    if connection.execute(sa.select(sa.literal(1)).where(which)).first() is None:
        raise NotFound(cause)


def _found(connection: sa.Connection, adjustment_id: str) -> Adjustment | None:
    body = connection.execute(sa.select(_adjustment.c.body).where(_adjustment.c.id == adjustment_id)).scalar()
    return None if body is None else msgspec.json.decode(body, type=Adjustment)


def _events(connection: sa.Connection, adjustment_id: str) -> list[Event]:
    query = sa.select(_event).where(_event.c.adjustment_id == adjustment_id).order_by(_event.c.seq)
    return [
        Event(seq=row.seq, kind=row.kind, by=row.by, reason=row.reason, at_us=row.at_us)
        for row in connection.execute(query)
    ]


def _load(connection: sa.Connection, adjustment_id: str) -> tuple[Adjustment, list[Event]]:
    one = _found(connection, adjustment_id)
    if one is None:
        raise NotFound(f"no adjustment {adjustment_id}", remedy="`endcredits adjustments list` shows them")
    return one, _events(connection, adjustment_id)

"""Payout batches in the store: what was proposed, by whom approved, what the bank answered, and the bookings.

Everything that happens to a batch is an event that is never changed, written in the same transaction as what
it books. Whoever takes out of what creators are owed takes a turn (`money_turn`), so two operators at once
are one after the other, and the second finds it done. A transfer's id is a hash of its payment: it can't be
booked twice even then.

An export is written down before its file is: after a crash between the two the same file is made again, and
nobody can cancel what a bank may have.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Final

import msgspec
import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from proxy.billing import booking_store, ledger, payouts, store
from proxy.billing.payees_store import payees_on
from proxy.billing.payouts import Batch, Debtor, Event, Kind, Payment, Rules, Told
from proxy.billing.periods_store import not_final
from proxy.billing.statement import canonical
from proxy.catalogue.ownership import NAME_OF_DECIDER_MAX, REASON_CHARACTERS_MAX, checked_words
from proxy.clock import Clock, Ids
from proxy.database import money_turn
from proxy.errors import BadRequest, Conflict, NotFound

ROWS_AT_ONCE: Final = 1_000  # one INSERT's parameters stay small on both engines
LISTED_MAX: Final = 100  # a batch's body may have megabytes; who wants older ones asks for the next page
KEY_CHARACTERS_MAX: Final = 255  # of an idempotency key: a UUID has 36
_PAYEE: Final = ledger.payee("")


class PayoutBatchRow(SQLModel, table=True):
    """One batch as it was proposed, its body canonical JSON; append-only."""

    __tablename__: ClassVar[Any] = "payout_batch"
    id: str = Field(primary_key=True, sa_type=sa.String)
    rail: str = Field(sa_type=sa.String)
    currency: str = Field(sa_type=sa.String)
    created_us: int = Field(sa_type=sa.BigInteger)
    body: str = Field(sa_type=sa.Text)


class PayoutRow(SQLModel, table=True):
    """One payment of a batch, to be found by its id or its creator; append-only."""

    __tablename__: ClassVar[Any] = "payout"
    id: str = Field(primary_key=True, sa_type=sa.String)
    batch_id: str = Field(sa_type=sa.String, foreign_key="payout_batch.id", index=True)
    creator_id: str = Field(sa_type=sa.String, index=True)


class PayoutEventRow(SQLModel, table=True):
    """What happened to a batch, or to one payment of it; append-only."""

    __tablename__: ClassVar[Any] = "payout_event"
    batch_id: str = Field(primary_key=True, sa_type=sa.String, foreign_key="payout_batch.id")
    seq: int = Field(primary_key=True, sa_type=sa.BigInteger)
    kind: str = Field(sa_type=sa.String)
    payout_id: str = Field(sa_type=sa.String)
    detail: str = Field(sa_type=sa.String)
    by: str = Field(sa_type=sa.String)
    at_us: int = Field(sa_type=sa.BigInteger)


_tables = SQLModel.metadata.tables
_batch, _payout, _event = _tables["payout_batch"], _tables["payout"], _tables["payout_event"]


class Payouts:
    """Paying out, step by step. by: who acts; the one who created a batch can't approve it.

    Every method may be called again after any failure: what is done already stays as it is.
    """

    def __init__(self, engine: sa.Engine, *, clock: Clock, ids: Ids, by: str) -> None:
        self._engine = engine
        self._clock = clock
        self._ids = ids
        self._by = checked_words(by, "name of who acts", NAME_OF_DECIDER_MAX)

    def create(
        self, rules: Rules, debtor: Debtor, *, dry_run: bool = False, key: str = ""
    ) -> tuple[Batch, bool]:
        """Return (batch, whether it is new). A batch that would pay nobody is not kept, nor is a dry run's.

        The open batch of this rail that proposes the same is returned as it is, and so is the one that was
        created under `key` before, whatever became of it. Raises Conflict when one is open that proposes
        something else, or when the key was used for another rail.
        """
        own_id = payouts.batch_id(self._by, _checked_key(key)) if key else ""
        with money_turn(self._engine) as connection:
            known_batch = _found(connection, own_id) if own_id else None
            if known_batch is not None:
                return _same_asked(known_batch, rules), False
            owed, drafts = self._owed()
            known = payees_on(connection, {who for who, _ in owed}, rules.day, rules.currency)
            waiting = self._waiting(connection, rules)
            batch_id = waiting.id if waiting else own_id or self._ids.new("pob")
            payments, unpaid = payouts.plan(batch_id, rules, owed, known, drafts)
            if waiting is not None and not dry_run:
                if waiting.payments == payments:
                    return waiting, False
                raise Conflict(
                    f"{waiting.id} waits for approval and proposes something else",
                    remedy=f"`endcredits payouts approve {waiting.id}`, or cancel it, then create again",
                    code="payouts_open",
                )
            batch = Batch(
                id=batch_id,
                rail=rules.rail,
                currency=rules.currency,
                day=rules.day.isoformat(),
                created_by=self._by,
                created_us=self._clock.now_us(),
                debtor=debtor,
                payments=payments,
                unpaid=unpaid,
            )
            if payments and not dry_run:
                self._keep(connection, batch)
        return batch, bool(payments) and not dry_run

    def approve(self, batch_id: str) -> tuple[Batch, bool]:
        """Take its payments out of what creators are owed. Return (batch, whether it was not approved yet).

        Raises Conflict for whoever created it, and when something changed since: nothing is then booked.
        """
        with money_turn(self._engine) as connection:
            batch, events = _load(connection, batch_id)
            if not payouts.may_approve(batch, events, self._by):
                return batch, False
            day = payouts.day_of(batch)
            creators = {payment.creator for payment in batch.payments}
            known = payees_on(connection, creators, day, batch.currency)
            changed = payouts.changed(batch, payouts.payable(*self._owed()), known)
            if changed:
                creator, what = changed[0]
                raise Conflict(
                    f"{creator} {what}, and {len(changed) - 1} more payments are not as they were planned",
                    remedy=f"`endcredits payouts cancel {batch_id}` and create another",
                    code="payouts_changed",
                )
            now_us = self._clock.now_us()
            self._happened(connection, batch, events, "approved", now_us)
            booking_store.book(connection, payouts.pending(batch, now_us), batch.currency)
        return batch, True

    def cancel(self, batch_id: str, reason: str) -> bool:
        """Take back a batch that no file was written of; what was approved is owed to creators again."""
        said = checked_words(reason, "reason", REASON_CHARACTERS_MAX)
        with money_turn(self._engine) as connection:
            batch, events = _load(connection, batch_id)
            if not payouts.may_cancel(batch, events):
                return False
            now_us = self._clock.now_us()
            if payouts.state_of(events) == "approved":
                back = [
                    transfer
                    for one in batch.payments
                    for transfer in payouts.returned(batch, one, now_us, was_settled=False)
                ]
                booking_store.book(connection, back, batch.currency)
            self._happened(connection, batch, events, "cancelled", now_us, detail=said)
        return True

    def export(self, batch_id: str, made: Callable[[Batch, int], bytes]) -> bytes:
        """Return the batch's file, written down as exported before anybody has it.

        made: gives the file of a batch approved at that time; again the same bytes. Raises Conflict unless it
        is approved, when the bank has answered already, and when the file would be another than last time.
        """
        with self._engine.connect() as connection:
            batch, events = _load(connection, batch_id)
        payouts.may_export(batch, events)
        content = made(batch, next(event.at_us for event in events if event.kind == "approved"))
        digest = hashlib.sha256(content).hexdigest()
        with money_turn(self._engine) as connection:
            batch, events = _load(connection, batch_id)
            payouts.may_export(batch, events)
            before = next((event.detail for event in events if event.kind == "exported"), "")
            if not before:
                self._happened(connection, batch, events, "exported", self._clock.now_us(), detail=digest)
            elif before != digest:
                raise Conflict(
                    f"{batch_id} was exported as another file (sha256 {before[:12]}, now {digest[:12]})",
                    remedy="give the bank the first file: two files with one id are for a person to look at",
                    code="payouts_file_differs",
                )
        return content

    def settle(self, batch_id: str, wanted: Iterable[str] = (), *, ref: str = "") -> list[Payment]:
        """Book that the bank has paid `wanted`, or all that are on their way; return what was new.

        ref: the bank's own reference, kept with each.
        """
        return self.answer(batch_id, paid=tuple(wanted) or None, ref=ref)[0]

    def give_back(self, payment_id: str, reason: str) -> bool:
        """Book that a payment came back: all of it is owed to its creator again. False when that is done."""
        found, _ = payment(self._engine, payment_id)
        return bool(self.answer(found.id, returned={payment_id: reason})[1])

    def answer(
        self,
        batch_id: str,
        *,
        paid: Collection[str] | None = (),
        returned: Mapping[str, str] = MappingProxyType({}),
        ref: str = "",
    ) -> tuple[list[Payment], list[Payment]]:
        """Book what the bank did: (payments settled, payments returned) that were not known yet, in one go.

        paid: those it paid, None for all on their way that are not `returned`; returned: {payment: why}.
        """
        why = {
            name: checked_words(reason, "reason", REASON_CHARACTERS_MAX) for name, reason in returned.items()
        }
        said = checked_words(ref, "bank's reference", REASON_CHARACTERS_MAX, needed=False)
        if paid and not why.keys().isdisjoint(paid):
            raise Conflict("one payment cannot be both paid and returned", code="payouts_answer")
        with money_turn(self._engine) as connection:
            batch, events = _load(connection, batch_id)
            states = payouts.payment_states(batch, events)
            back = payouts.to_return(batch, events, why)
            settled = [
                one
                for one in (payouts.to_settle(batch, events, paid or ()) if paid is None or paid else ())
                if one.id not in why
            ]
            now_us = self._clock.now_us()
            transfers = [transfer for one in settled for transfer in payouts.settled(batch, one, now_us)]
            for one in back:
                was_settled = states[one.id] == "settled"
                transfers += payouts.returned(batch, one, now_us, was_settled=was_settled)
            booking_store.book(connection, transfers, batch.currency)
            self._happened(connection, batch, events, "settled", now_us, settled, detail=said)
            self._happened(connection, batch, [*events, *settled], "returned", now_us, back, details=why)
        return settled, back

    def _owed(self) -> tuple[dict[tuple[str, str], int], dict[tuple[str, str], int]]:
        """Return {(creator, currency): grains} owed, and what of it is of periods that are not final.

        Read by another connection, in this order: nobody else can take out of what is owed while this turn
        lasts, and a period that is closed in between holds back more, never less.
        """
        owed = {
            (code.removeprefix(_PAYEE), currency): grains
            for (code, currency), grains in store.balances(self._engine, _PAYEE).items()
        }
        return owed, not_final(self._engine, self._clock.now_us())

    def _waiting(self, connection: sa.Connection, rules: Rules) -> Batch | None:
        done = sa.exists().where(
            _event.c.batch_id == _batch.c.id, _event.c.kind.in_(("approved", "cancelled"))
        )
        query = sa.select(_batch.c.body).where(
            _batch.c.rail == rules.rail, _batch.c.currency == rules.currency, ~done
        )
        body = connection.execute(query).scalar()
        return None if body is None else msgspec.json.decode(body, type=Batch)

    def _keep(self, connection: sa.Connection, batch: Batch) -> None:
        row = {
            "id": batch.id,
            "rail": batch.rail,
            "currency": batch.currency,
            "created_us": batch.created_us,
            "body": canonical(batch).decode(),
        }
        connection.execute(sa.insert(_batch), [row])
        rows = [{"id": one.id, "batch_id": batch.id, "creator_id": one.creator} for one in batch.payments]
        _insert(connection, _payout, rows)
        self._happened(connection, batch, (), "created", batch.created_us)

    def _happened(
        self,
        connection: sa.Connection,
        batch: Batch,
        events: Sequence[object],
        kind: Kind,
        now_us: int,
        payments: Sequence[Payment] | None = None,
        *,
        detail: str = "",
        details: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Write it down behind `events`, once for the batch or once for each of `payments`."""
        about = [""] if payments is None else [one.id for one in payments]
        rows: list[dict[str, Any]] = [
            {
                "batch_id": batch.id,
                "seq": len(events) + 1 + place,
                "kind": kind,
                "payout_id": name,
                "detail": details.get(name, detail),
                "by": self._by,
                "at_us": now_us,
            }
            for place, name in enumerate(about)
        ]
        _insert(connection, _event, rows)


def batches(
    engine: sa.Engine, *, before: tuple[int, str] | None = None, limit: int = LISTED_MAX
) -> list[tuple[Batch, list[Event]]]:
    """Return batches with what happened to them, newest first; before: (created_us, id) of one of them."""
    query = sa.select(_batch.c.id).order_by(_batch.c.created_us.desc(), _batch.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(sa.tuple_(_batch.c.created_us, _batch.c.id) < sa.tuple_(*before))
    with engine.connect() as connection:
        return [_load(connection, str(name)) for name in connection.execute(query).scalars().all()]


def batch(engine: sa.Engine, batch_id: str) -> tuple[Batch, list[Event]]:
    """Return one batch with what happened to it, oldest first. Raises NotFound."""
    with engine.connect() as connection:
        return _load(connection, batch_id)


def payment(engine: sa.Engine, payment_id: str) -> tuple[Batch, Payment]:
    """Return a payment and the batch that it is of. Raises NotFound."""
    query = sa.select(_payout.c.batch_id).where(_payout.c.id == payment_id)
    with engine.connect() as connection:
        batch_id = connection.execute(query).scalar()
        found = None if batch_id is None else _found(connection, str(batch_id))
    one = next((one for one in found.payments if one.id == payment_id), None) if found else None
    if found is None or one is None:
        raise NotFound(f"no payment {payment_id}", remedy="`endcredits payouts show BATCH` lists them")
    return found, one


def of_creator(
    engine: sa.Engine, creator: str, *, before: tuple[int, str] | None = None, limit: int = LISTED_MAX
) -> list[Told]:
    """Return a creator's payments, newest first; before: (created_us, batch) of one of them."""
    query = (
        sa.select(_payout.c.batch_id)
        .join_from(_payout, _batch, _payout.c.batch_id == _batch.c.id)
        .where(_payout.c.creator_id == creator)
        .order_by(_batch.c.created_us.desc(), _batch.c.id.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(sa.tuple_(_batch.c.created_us, _batch.c.id) < sa.tuple_(*before))
    with engine.connect() as connection:
        found = [_load(connection, str(name)) for name in connection.execute(query).scalars().all()]
    return [one for batch, events in found for one in payouts.told(batch, events, creator)]


def all_of_creator(engine: sa.Engine, creator: str) -> Iterator[Told]:
    """Give every payment of a creator, newest first."""
    before: tuple[int, str] | None = None
    while page := of_creator(engine, creator, before=before):
        yield from page
        before = page[-1].created_us, page[-1].batch


def _checked_key(key: str) -> str:
    if len(key) > KEY_CHARACTERS_MAX or not (key.isascii() and key.isprintable()):
        raise BadRequest(
            "this cannot be an idempotency key",
            remedy=f"send 1 to {KEY_CHARACTERS_MAX} printable ASCII characters, like a UUID",
            code="idempotency_key",
        )
    return key


def _same_asked(batch: Batch, rules: Rules) -> Batch:
    if (batch.rail, batch.currency) != (rules.rail, rules.currency):
        raise Conflict(
            f"under this idempotency key {batch.id} was created, which pays {batch.currency} by {batch.rail}",
            remedy="send another key for another batch",
            code="idempotency_key",
        )
    return batch


def _found(connection: sa.Connection, batch_id: str) -> Batch | None:
    body = connection.execute(sa.select(_batch.c.body).where(_batch.c.id == batch_id)).scalar()
    return None if body is None else msgspec.json.decode(body, type=Batch)


def _load(connection: sa.Connection, batch_id: str) -> tuple[Batch, list[Event]]:
    batch = _found(connection, batch_id)
    if batch is None:
        raise NotFound(f"no payout batch {batch_id}", remedy="`endcredits payouts list` shows them")
    query = sa.select(_event).where(_event.c.batch_id == batch_id).order_by(_event.c.seq)
    events = [
        Event(
            seq=row.seq, kind=row.kind, payment=row.payout_id, detail=row.detail, by=row.by, at_us=row.at_us
        )
        for row in connection.execute(query)
    ]
    return batch, events


def _insert(connection: sa.Connection, table: sa.Table, rows: Sequence[dict[str, Any]]) -> None:
    for start in range(0, len(rows), ROWS_AT_ONCE):
        connection.execute(sa.insert(table), rows[start : start + ROWS_AT_ONCE])

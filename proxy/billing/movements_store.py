"""Where creators' balances stood when statements last told of them, and what was booked since.

A transfer that a close books carries the period's label; any other carries none until a close tells of it in
`reported_transfer`. So an opening balance is read without a lock: what is paid out while a close computes is
not in it, is not in the moves either, and is told by the next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from proxy.billing import booking_store, ledger
from proxy.billing.ledger import Transfer
from proxy.billing.movements import Move
from proxy.billing.store import AccountRow, EntryRow, ReportedRow, TransferRow


class TransferNoteRow(SQLModel, table=True):
    """What a transfer that no close booked is about, and why, as a statement tells it; append-only."""

    __tablename__: ClassVar[Any] = "transfer_note"
    transfer_id: str = Field(primary_key=True, sa_type=sa.String, foreign_key="transfer.id")
    corrects: str = Field(sa_type=sa.String)
    reason: str = Field(sa_type=sa.Text)


_tables = AccountRow.metadata.tables
_account, _entry, _transfer, _reported, _note = (
    _tables[str(row.__tablename__)]
    for row in (AccountRow, EntryRow, TransferRow, ReportedRow, TransferNoteRow)
)
_PAYEE = ledger.payee("")
_signed = sa.case((_entry.c.side == _account.c.normal, _entry.c.amount), else_=-_entry.c.amount)
_told = sa.or_(_transfer.c.period_label != "", sa.exists().where(_reported.c.transfer_id == _transfer.c.id))


def _payees(*columns: Any, currency: str, told: bool) -> sa.Select[*tuple[Any, ...]]:
    return (
        sa.select(*columns)
        .join_from(_entry, _account, _entry.c.account_id == _account.c.id)
        .join(_transfer, _transfer.c.id == _entry.c.transfer_id)
        .where(
            _account.c.code.startswith(_PAYEE, autoescape=True),
            _account.c.currency == currency,
            _told if told else ~_told,
        )
    )


def opening(engine: sa.Engine, currency: str) -> dict[str, int]:
    """Return {creator: grains} as the last statements closed with, those who are owed something."""
    query = _payees(_account.c.code, sa.func.sum(_signed), currency=currency, told=True)
    with engine.connect() as connection:
        rows: list[Any] = list(connection.execute(query.group_by(_account.c.code)))
    owed = {str(row[0]).removeprefix(_PAYEE): int(row[1]) for row in rows}
    return {creator: grains for creator, grains in owed.items() if grains}


def unreported(engine: sa.Engine, currency: str) -> dict[str, tuple[Move, ...]]:
    """Return {creator: moves} that no statement has told of, oldest first."""
    notes = (sa.func.coalesce(_note.c.corrects, ""), sa.func.coalesce(_note.c.reason, ""))
    columns = (_transfer.c.id, _transfer.c.kind, _transfer.c.ref, _transfer.c.at_us)
    query = _payees(
        _account.c.code, *columns, sa.func.sum(_signed), *notes, currency=currency, told=False
    ).outerjoin(_note, _note.c.transfer_id == _transfer.c.id)
    found: dict[str, list[Move]] = {}
    with engine.connect() as connection:
        rows: list[Any] = list(
            connection.execute(query.group_by(_account.c.code, *columns, _note.c.corrects, _note.c.reason))
        )
    for row in rows:
        move = Move(
            transfer=str(row[1]),
            kind=str(row[2]),
            ref=str(row[3]),
            at_us=int(row[4]),
            grains=int(row[5]),
            corrects=str(row[6]),
            reason=str(row[7]),
        )
        found.setdefault(str(row[0]).removeprefix(_PAYEE), []).append(move)
    return {
        creator: tuple(sorted(moves, key=lambda one: (one.at_us, one.transfer)))
        for creator, moves in sorted(found.items())
    }


def book_noted(
    connection: sa.Connection, transfers: Sequence[Transfer], *, currency: str, corrects: str, reason: str
) -> None:
    """Book transfers with what they are about and why, which the next statements tell."""
    booking_store.book(connection, transfers, currency)
    rows = [{"transfer_id": one.id, "corrects": corrects, "reason": reason} for one in transfers]
    if rows:
        connection.execute(sa.insert(_note), rows)

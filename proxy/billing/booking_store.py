"""Transfers into the store: the accounts they name, themselves, and their entries.

A close books hundreds of thousands of transfers at once, and on SQLite whoever writes keeps all others out.
So what can be done before is: the accounts are entered, a few thousand at a time, and the rows are made and
laid into a file. What remains for the one transaction is to insert them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
import sqlalchemy as sa
from sqlmodel import SQLModel

from proxy.billing.closing_files import Booked, booked_rows, by_id
from proxy.billing.ledger import Transfer, normal_side
from proxy.billing.spill import Spilled
from proxy.billing.tables import AccountRow, EntryRow, TransferRow
from proxy.database import insert_rows

ENTRIES_AT_ONCE: Final = 20_000  # of transfers booked together: some MB
ACCOUNTS_KEPT_MAX: Final = 1 << 19  # ids of accounts that one close remembers: 150 MB of names at most
CODE_BYTES: Final = 64  # of an account that ids of ours name
IN_MAX: Final = 5_000  # names in one statement; both engines take more than twice that
_ACCOUNT: Final = ("code", "currency", "normal")
_TRANSFER: Final = ("id", "kind", "currency", "at_us", "period_label", "ref")
_ENTRY: Final = ("transfer_id", "ord", "account_id", "side", "amount")

_account, _transfer, _entry = (
    SQLModel.metadata.tables[str(row.__tablename__)] for row in (AccountRow, TransferRow, EntryRow)
)


class Rows(msgspec.Struct, array_like=True, gc=False):
    """Some transfers as rows of their two tables."""

    transfers: list[tuple[str, str, str, int, str, str]]
    entries: list[tuple[str, int, int, str, int]]


def book(connection: sa.Connection, transfers: Sequence[Transfer], currency: str) -> None:
    """Book transfers of one currency in a transaction. Raises IntegrityError for one that is booked."""
    for some in _gathered(map(booked_rows, transfers)):
        ids = _entered(connection, {entry.account for one in some for entry in one.entries}, currency)
        insert(connection, _rows(some, lambda codes, ids=ids: [ids[code] for code in codes]))


def prepared(
    engine: sa.Engine, transfers: Sequence[Transfer], currency: str, folder: Path | None
) -> Sequence[Rows]:
    """Return the rows of transfers in the order of their ids, in a file in `folder`, for `insert`.

    Their accounts are in the store then, each with nothing on it until it is booked.
    """
    from proxy.billing.numbers import Found  # noqa: PLC0415  who only serves has no numpy, and closes nothing

    made = Spilled(msgspec.msgpack.encode, msgspec.msgpack.Decoder(Rows).decode, folder)

    def entered(codes: set[str]) -> dict[str, int]:
        with engine.begin() as connection:
            return _entered(connection, codes, currency)

    known = Found(entered, CODE_BYTES, ACCOUNTS_KEPT_MAX)
    for some in _gathered(by_id(transfers)):
        made.append(_rows(some, known.of_all))
    return made


def insert(connection: sa.Connection, rows: Rows) -> None:
    """Insert what `prepared` made. Raises IntegrityError for a transfer that is booked."""
    insert_rows(connection, _transfer, _TRANSFER, rows.transfers)
    insert_rows(connection, _entry, _ENTRY, rows.entries, at_once=ENTRIES_AT_ONCE)


def _gathered(booked: Iterable[Booked]) -> Iterator[list[Booked]]:
    """Yield transfers in runs of some ENTRIES_AT_ONCE entries."""
    some: list[Booked] = []
    entries = 0
    for one in booked:
        some.append(one)
        entries += len(one.entries)
        if entries >= ENTRIES_AT_ONCE:
            yield some
            some, entries = [], 0
    if some:
        yield some


def _rows(some: Sequence[Booked], ids_of: Callable[[Sequence[str]], Sequence[int]]) -> Rows:
    """Return their rows. ids_of: accounts' by their codes."""
    next_id = iter(ids_of([entry.account for one in some for entry in one.entries])).__next__
    entries = [
        (one.row[0], place, next_id(), entry.side, entry.grains)
        for one in some
        for place, entry in enumerate(one.entries)
    ]
    return Rows([one.row for one in some], entries)


def _entered(connection: sa.Connection, codes: Iterable[str], currency: str) -> dict[str, int]:
    """Return the ids of accounts, entering those that are new."""
    wanted = sorted(codes)
    found = _account_ids(connection, wanted, currency)
    new = [code for code in wanted if code not in found]
    if new:
        rows = ((code, currency, normal_side(code)) for code in new)
        insert_rows(connection, _account, _ACCOUNT, rows, pass_over=True)  # another may have been first
        found |= _account_ids(connection, new, currency)
    return found


def _account_ids(connection: sa.Connection, codes: Sequence[str], currency: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for start in range(0, len(codes), IN_MAX):
        some = list(codes[start : start + IN_MAX])
        # To the driver as it is: making such a statement takes SQLAlchemy longer than answering it the store.
        if connection.dialect.name == "sqlite":
            asked, given = f"currency = ? AND code IN ({', '.join('?' * len(some))})", (currency, *some)
        else:
            asked, given = "currency = %s AND code = ANY(%s)", (currency, some)
        rows = connection.exec_driver_sql(f"SELECT code, id FROM account WHERE {asked}", given)  # noqa: S608  marks
        found.update((str(code), int(number)) for code, number in rows)
    return found

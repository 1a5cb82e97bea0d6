"""How a closing's transfers and statements lie in a temporary file while it is being made.

A statement lies as the bytes that the store will hold (kept.py), behind a line of what the store's columns
say of it, so that nobody looks for that between a hundred lines. A transfer lies in two lines: what the
manifest covers, as it covers it (`statements.booked`), and the rest; so the manifest is taken of a file
without reading any transfer back.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from proxy.billing.kept import packed, unpacked
from proxy.billing.ledger import Entry, Transfer
from proxy.billing.spill import Spilled
from proxy.billing.statement import Statement, canonical


class Side(msgspec.Struct, frozen=True, gc=False):
    """An entry that was checked when it was made, and lay in a file since."""

    account: str
    side: str
    grains: int


class Headed(NamedTuple):
    """A statement as it goes into the store. told: the transfers that it tells of."""

    id: str
    period: str
    creator: str
    currency: str
    opening_grains: int
    earned_grains: int
    closing_grains: int
    lines_sha256: str
    told: list[str]
    body: bytes


class Booked(NamedTuple):
    """A transfer as it goes into the store. row: id, kind, currency, time, period, ref."""

    row: tuple[str, str, str, int, str, str]
    entries: Sequence[Entry | Side]


_booked = msgspec.json.Decoder(tuple[str, str, tuple[Entry, ...]])
_sides = msgspec.json.Decoder(tuple[str, str, list[Side]])
_ID = slice(2, 34)  # of what lies in the file: 32 hexadecimal digits behind `["`
_head = msgspec.json.Decoder(tuple[str, str, str, str, int, int, int, str, list[str]])
_head_of = operator.attrgetter(*Headed._fields[:-2])
_rest = msgspec.json.Decoder(tuple[str, int, str, str])


def spilled_transfers(folder: Path | None) -> Spilled[Transfer]:
    """Return an empty sequence of transfers whose file lies in `folder`, None for the system's own place."""
    return Spilled(_lines, _transfer, folder)


def spilled_statements(folder: Path | None) -> Spilled[Statement]:
    """Return an empty sequence of statements likewise."""
    return Spilled(_headed, _statement, folder)


def bodies(statements: Sequence[Statement]) -> Iterator[bytes]:
    """Yield what the store holds of each statement."""
    if isinstance(statements, Spilled):
        return (said.partition(b"\n")[2] for said in statements.raw())
    return map(packed, statements)


def headed(statements: Sequence[Statement]) -> Iterator[Headed]:
    """Yield statements as they go into the store, those in a file without reading their lines."""
    every = statements.raw() if isinstance(statements, Spilled) else map(_headed, statements)
    for said in every:
        head, _, body = said.partition(b"\n")
        yield Headed(*_head.decode(head), body)


def by_id(transfers: Sequence[Transfer]) -> Iterator[Booked]:
    """Yield transfers in the order of their ids, in which a store's index takes them page by page.

    Ids are hashes: in any other order nearly each is another page, and of millions most are not in memory.
    """
    if isinstance(transfers, Spilled):
        ids = [said[_ID] for said in transfers.raw()]
        order = sorted(range(len(ids)), key=ids.__getitem__)
        yield from map(_unchecked, transfers.raw(order))
    else:
        yield from map(booked_rows, sorted(transfers, key=lambda one: one.id))


def booked_rows(one: Transfer) -> Booked:
    """Return a transfer as it goes into the store."""
    return Booked((one.id, one.kind, one.currency, one.at_us, one.period, one.ref), one.entries)


def _unchecked(said: bytes) -> Booked:
    covered, _, rest = said.partition(b"\n")
    transfer_id, currency, entries = _sides.decode(covered)
    kind, at_us, period, ref = _rest.decode(rest)
    return Booked((transfer_id, kind, currency, at_us, period, ref), entries)


def _headed(statement: Statement) -> bytes:
    told = [move.transfer for move in statement.moves]
    return canonical([*_head_of(statement), told]) + b"\n" + packed(statement)


def _statement(said: bytes) -> Statement:
    return unpacked(said.partition(b"\n")[2])


def _lines(transfer: Transfer) -> bytes:
    covered = canonical([transfer.id, transfer.currency, transfer.entries])
    return covered + b"\n" + canonical([transfer.kind, transfer.at_us, transfer.period, transfer.ref])


def _transfer(said: bytes) -> Transfer:
    covered, _, rest = said.partition(b"\n")
    transfer_id, currency, entries = _booked.decode(covered)
    kind, at_us, period, ref = _rest.decode(rest)
    return Transfer(transfer_id, kind, currency, at_us, period, ref, entries)

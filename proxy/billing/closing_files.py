"""How a closing's transfers and statements lie in a temporary file while it is being made.

A statement lies as the bytes that the store will hold (kept.py). A transfer lies in two lines: what the
manifest covers, as it covers it (`statements.booked`), and the rest; so the manifest is taken of a file
without reading any transfer back.
"""

from __future__ import annotations

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


class Booked(NamedTuple):
    """A transfer as it goes into the store. row: id, kind, currency, time, period, ref."""

    row: tuple[str, str, str, int, str, str]
    entries: Sequence[Entry | Side]


_booked = msgspec.json.Decoder(tuple[str, str, tuple[Entry, ...]])
_sides = msgspec.json.Decoder(tuple[str, str, list[Side]])
_ID = slice(2, 34)  # of what lies in the file: 32 hexadecimal digits behind `["`
_rest = msgspec.json.Decoder(tuple[str, int, str, str])


def spilled_transfers(folder: Path | None) -> Spilled[Transfer]:
    """Return an empty sequence of transfers whose file lies in `folder`, None for the system's own place."""
    return Spilled(_lines, _transfer, folder)


def spilled_statements(folder: Path | None) -> Spilled[Statement]:
    """Return an empty sequence of statements likewise."""
    return Spilled(packed, unpacked, folder)


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


def _lines(transfer: Transfer) -> bytes:
    covered = canonical([transfer.id, transfer.currency, transfer.entries])
    return covered + b"\n" + canonical([transfer.kind, transfer.at_us, transfer.period, transfer.ref])


def _transfer(said: bytes) -> Transfer:
    covered, _, rest = said.partition(b"\n")
    transfer_id, currency, entries = _booked.decode(covered)
    kind, at_us, period, ref = _rest.decode(rest)
    return Transfer(transfer_id, kind, currency, at_us, period, ref, entries)

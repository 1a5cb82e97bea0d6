"""Another key for accounts and tax numbers: the newest of each is sealed anew, and the old key is destroyed.

History stays as it is: what was sealed under the old key is not touched and can never be opened again, so a
new key also forgets every account that was ever replaced. Each creator's newest account is entered once more
under the new key, as verified as it was. Everybody who enters accounts waits meanwhile; a kill leaves both
keys in the folder, and running it again ends what was begun.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlmodel import SQLModel

from proxy.billing import payouts, payouts_store
from proxy.billing.payees import NONCE_BYTES
from proxy.billing.payees_store import PayeeAccountRow, PayeeVerifiedRow
from proxy.billing.tax_numbers_store import TaxNumberRow, sealed_about
from proxy.clock import Clock
from proxy.database import money_turn
from proxy.errors import Conflict, Problem
from proxy.keyfile import secret_file

BY: Final = "another key"
OLD, NEXT = ".old", ".next"  # behind the key file's name, while the store is being sealed anew

_tables = SQLModel.metadata.tables
_account, _verified, _number = (
    _tables[str(row.__tablename__)] for row in (PayeeAccountRow, PayeeVerifiedRow, TaxNumberRow)
)
About = Callable[[str, int], bytes]


def reseal(engine: sa.Engine, key_file: Path, *, clock: Clock) -> int:
    """Seal everything that is in use under a new key, and destroy the old one; return how much it was.

    Raises Conflict while a payment is under way, whose file may be wanted again; Problem where something does
    not open with the key that is there.
    """
    _refuse_under_way(engine)
    old_file, next_file = (key_file.with_name(key_file.name + end) for end in (OLD, NEXT))
    secret_file(key_file)
    if not old_file.exists():
        os.link(key_file, old_file)
    count = 0
    with money_turn(engine) as connection:
        old = old_file.read_bytes()
        if key_file.read_bytes() == old:
            secret_file(next_file)
            next_file.replace(key_file)
        new = key_file.read_bytes()
        for row in _newest(connection, _account):
            if _again(connection, _account, row, _account_about, old, new, clock.now_us()):
                _as_verified(connection, row, clock.now_us())
                count += 1
        for row in _newest(connection, _number):
            count += _again(connection, _number, row, sealed_about, old, new, clock.now_us())
    old_file.unlink()
    return count


def _account_about(creator: str, version: int) -> bytes:
    return f"{creator}|{version}".encode()  # as payees.seal binds it


def _again(
    connection: sa.Connection, table: sa.Table, row: Any, about: About, old: bytes, new: bytes, now_us: int
) -> bool:
    """Enter a row once more under the new key; False where it is under it already."""
    sealed, bound = bytes(row.sealed), about(row.creator_id, row.version)
    if _opened(sealed, new, bound) is not None:
        return False
    plain = _opened(sealed, old, bound)
    if plain is None:
        raise Problem(
            f"what is sealed of {row.creator_id} does not open with the key that is there",
            remedy="restore the key under which it was entered, or enter it again; nothing was changed",
            code="payees_key",
        )
    nonce = os.urandom(NONCE_BYTES)
    anew = nonce + AESGCM(new).encrypt(nonce, plain, about(row.creator_id, row.version + 1))
    values = dict(row._mapping)  # noqa: SLF001  public, says its manual
    values |= {"version": row.version + 1, "sealed": anew, "by": BY, "at_us": now_us}
    connection.execute(sa.insert(table), [values])
    return True


def _opened(sealed: bytes, key: bytes, bound: bytes) -> bytes | None:
    try:
        return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], bound)
    except InvalidTag:
        return None


def _as_verified(connection: sa.Connection, row: Any, now_us: int) -> None:
    mine = sa.and_(_verified.c.creator_id == row.creator_id, _verified.c.version == row.version)
    by = connection.execute(sa.select(_verified.c.by).where(mine)).scalar()
    if by is not None:
        values = {"creator_id": row.creator_id, "version": row.version + 1, "by": by, "at_us": now_us}
        connection.execute(sa.insert(_verified), [values])


def _newest(connection: sa.Connection, table: sa.Table) -> list[Any]:
    last = sa.select(table.c.creator_id, sa.func.max(table.c.version).label("version"))
    last_of = last.group_by(table.c.creator_id).subquery()
    same = sa.and_(table.c.creator_id == last_of.c.creator_id, table.c.version == last_of.c.version)
    rows = connection.execute(sa.select(table).join_from(table, last_of, same).order_by(table.c.creator_id))
    return [row for row in rows if row.sealed]


def _refuse_under_way(engine: sa.Engine) -> None:
    for batch, events in _batches(engine):
        if {"planned", "pending"} & set(payouts.payment_states(batch, events).values()):
            raise Conflict(
                f"{batch.id} is under way",
                remedy="settle or cancel it first: its file may be wanted again, with these accounts",
                code="payees_key_in_use",
            )


def _batches(engine: sa.Engine) -> Iterator[tuple[payouts.Batch, list[payouts.Event]]]:
    before: tuple[int, str] | None = None
    while found := payouts_store.batches(engine, before=before):
        yield from found
        last = found[-1][0]
        before = (last.created_us, last.id)

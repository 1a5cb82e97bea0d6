"""What waits in escrow as unclaimed, of works that somebody was named for since: what a close may let go.

Whether somebody was named is asked between two numbers of the registry: that of the last period that was
closed while no claim on the work was open, and that of now. Money that is older than the rule, of a work that
has no unclaimed part any more, is looked at by the split of the first period it came from.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import msgspec
import sqlalchemy as sa
from sqlmodel import SQLModel

from proxy.billing import ledger, store
from proxy.billing.escrow import unclaimed_ppm
from proxy.billing.money import PPM
from proxy.billing.statement import UNCLAIMED, SplitSet, Unclaimed

NOBODY: Final = SplitSet(0, ((UNCLAIMED, PPM),))

_tables = SQLModel.metadata.tables
_period, _transfer, _entry, _account = (_tables[name] for name in ("period", "transfer", "entry", "account"))


class _Basis(msgspec.Struct):
    registry_seq: int


class _Body(msgspec.Struct):
    basis: _Basis


def unclaimed(engine: sa.Engine, currency: str, registry_seq: int) -> dict[str, Unclaimed]:
    """Return {work: what waits unclaimed}, those of which the registry names somebody since it came there."""
    prefix = ledger.unclaimed("")
    there = {
        code.removeprefix(prefix): grains
        for (code, held), grains in store.balances(engine, prefix).items()
        if held == currency and grains > 0
    }
    closed = _closed(engine, currency) if there else {}
    if not closed:
        return {}
    now = store.splits_of(engine, there, registry_seq)
    before = _before(engine, there, list(closed.values()))
    found: dict[str, Unclaimed] = {}
    for work, grains in sorted(there.items()):
        was, still = before.get(work, NOBODY), unclaimed_ppm(now.get(work, NOBODY).parties)
        if still and still >= unclaimed_ppm(was.parties):
            continue
        labels = [label for label in reversed(closed) if label in _came_in(engine, work, currency)]
        if not unclaimed_ppm(was.parties) and labels:
            was = store.splits_of(engine, [work], closed[labels[0]]).get(work, NOBODY)
        if unclaimed_ppm(was.parties) > still:
            found[work] = Unclaimed(grains, was.parties, tuple(labels))
    return found


def _before(engine: sa.Engine, works: Collection[str], numbers: list[int]) -> dict[str, SplitSet]:
    """Return each work's split at the newest of these numbers (newest first) without an open claim on it."""
    found: dict[str, SplitSet] = {}
    left = set(works)
    for number in numbers:
        free = left - store.claimed_works(engine, number)
        found |= store.splits_of(engine, free, number)
        left -= free
        if not left:
            break
    return found


def _closed(engine: sa.Engine, currency: str) -> dict[str, int]:
    """Return {label: the registry's number it was closed at}, newest first."""
    query = sa.select(_period.c.label, _period.c.totals).where(_period.c.currency == currency)
    with engine.connect() as connection:
        return {
            str(label): msgspec.json.decode(body, type=_Body).basis.registry_seq
            for label, body in connection.execute(query.order_by(_period.c.seq.desc()))
        }


def _came_in(engine: sa.Engine, work: str, currency: str) -> set[str]:
    """Return the labels of the periods whose money is, or was, in a work's escrow."""
    query = (
        sa.select(_transfer.c.period_label)
        .join_from(_transfer, _entry, _entry.c.transfer_id == _transfer.c.id)
        .join(_account, _account.c.id == _entry.c.account_id)
        .where(
            _account.c.code == ledger.unclaimed(work),
            _account.c.currency == currency,
            _entry.c.side == "C",
        )
        .distinct()
    )
    with engine.connect() as connection:
        return {str(label) for label in connection.execute(query).scalars()}

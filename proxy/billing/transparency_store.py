"""What the books hold for everybody to see: sums by what they are for, and nobody's name.

Accounts are named by what they are for, so what stands where is asked of their codes: what creators are owed,
what waits for somebody to claim it, what claims and disputes hold, what no registered work accounts for, what
was paid out. A sum over all of a kind shows nothing of one person once there are several.
"""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from proxy.billing import store
from proxy.billing.tables import AccountRow, EntryRow

UNCLAIMED, CLAIMED, DISPUTED = "liab:escrow:unclaimed:", "liab:escrow:claimed:", "liab:escrow:dispute:"
COMMON, OWED, PAID_OUT = "liab:common:", "liab:payee:", "asset:cash:"
_account = AccountRow.metadata.tables[str(AccountRow.__tablename__)]
_entry = EntryRow.metadata.tables[str(EntryRow.__tablename__)]
_grown = sa.case((_entry.c.side == _account.c.normal, _entry.c.amount), else_=-_entry.c.amount)


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What stands in the books now, in grains of one currency.

    common_grains: by reason, what belongs to no registered work ("unattributed", "no_text", ...).
    paid_out_grains: what left by a bank, less what came back; a credit there, so it is told as positive.
    """

    currency: str
    owed_grains: int
    unclaimed_grains: int
    claimed_grains: int
    disputed_grains: int
    common_grains: dict[str, int]
    paid_out_grains: int


def standing(engine: sa.Engine) -> list[Standing]:
    """Return what stands in the books now, by currency."""
    kinds = (UNCLAIMED, CLAIMED, DISPUTED, OWED, PAID_OUT)
    kind = sa.case(*((_account.c.code.startswith(one), one) for one in kinds))
    query = (
        sa.select(kind, _account.c.currency, sa.func.sum(_grown))
        .join_from(_entry, _account, _entry.c.account_id == _account.c.id)
        .where(kind.is_not(None))
        .group_by(kind, _account.c.currency)
    )
    with engine.connect() as connection:
        sums = {(str(row[0]), str(row[1])): int(row[2]) for row in connection.execute(query)}
    common: dict[str, dict[str, int]] = {}
    for (code, currency), grains in store.balances(engine, COMMON).items():
        reasons, reason = common.setdefault(currency, {}), code.rpartition(":")[2]
        reasons[reason] = reasons.get(reason, 0) + grains
    return [
        Standing(
            currency=currency,
            owed_grains=sums.get((OWED, currency), 0),
            unclaimed_grains=sums.get((UNCLAIMED, currency), 0),
            claimed_grains=sums.get((CLAIMED, currency), 0),
            disputed_grains=sums.get((DISPUTED, currency), 0),
            common_grains=dict(sorted(common.get(currency, {}).items())),
            paid_out_grains=-sums.get((PAID_OUT, currency), 0),
        )
        for currency in sorted({currency for _, currency in sums} | common.keys())
    ]

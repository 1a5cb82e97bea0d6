"""What moves a creator's balance between two closes, as a statement tells it: payouts, holds, corrections.

A close books what was earned. Everything else on `liab:payee` is booked when it happens, belongs to no period
then, and is told by the next close, each transfer in exactly one statement. So a statement's opening is what
the one before it closed with, whatever was paid out meanwhile, and the rows between them make the difference.

KINDS says which row a kind of transfer is told under. A kind that is not there cannot be told, and a close
that meets one refuses rather than to print a sum that does not add up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

import msgspec

# kind of transfer: (field of the statement without `_grains`, side of the equation closing = opening + ...).
KINDS: Final[Mapping[str, tuple[str, int]]] = MappingProxyType(
    {
        "payout": ("paid", -1),
        "payout_tax": ("withheld", -1),
        "payout_return": ("returned", 1),
        "payout_tax_return": ("returned", 1),
        "distribution": ("distributed", 1),
        "adjustment": ("adjustments", 1),
        "dispute_hold": ("held", -1),
        "dispute_release": ("released", 1),
        "dispute_award": ("released", 1),
    }
)


class Move(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One transfer on a creator's account. grains: what it adds to what they are owed, negative if paid out.

    ref: what it was for (a payment, a case); at_us: when it was booked. corrects: what of an earlier period
    it is about (a statement, a line of one, a transfer), reason: why, in somebody's words; both may be "".
    """

    transfer: str
    kind: str
    ref: str
    at_us: int
    grains: int
    corrects: str = ""
    reason: str = ""


def sums(moves: Iterable[Move]) -> dict[str, int]:
    """Return {"paid_grains": ..., ...}, each as its row prints it: what was paid and withheld is positive.

    Raises ValueError for a kind of transfer that no row tells of.
    """
    result: dict[str, int] = {}
    for move in moves:
        if move.kind not in KINDS:
            raise ValueError(f"no row of a statement tells of a transfer '{move.kind}' ({move.transfer})")
        name, sign = KINDS[move.kind]
        result[f"{name}_grains"] = result.get(f"{name}_grains", 0) + sign * move.grains
    return result

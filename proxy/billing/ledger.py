"""Double entry, as values: a transfer that does not balance cannot be made.

Money moves between accounts named by what they are for; an account's kind is its code's first word, and a
balance is the sum of its entries, never a number that somebody sets. A transfer's id is a hash of what it
books, so booking the same thing twice is booking it once. Corrections are new transfers; nothing is changed.

The codes, with who they name: asset:receivable:{app} what an app owes; liab:work:{work}:v{version} a work's
money on its way to the parties of that split; liab:payee:{creator} what a creator is owed;
liab:escrow:unclaimed:{work} the part of a split nobody has claimed; liab:escrow:claimed:{work} what an open
claim holds (with :{creator} after it, what that creator's own app brought); liab:common:{period}:{reason}
money for use that no registered work explains, or that may not be paid, by reason; income:platform:{app};
liab:payout:{batch} approved and on its way to payees; liab:tax:{regime} withheld from payouts for a tax
authority; asset:cash:{rail} what left by a bank, and came back; liab:pool:{app}:{period} creators' part of
revenue that an app declared, on its way to what its users used.
liab:escrow:dispute:{case} what an open dispute holds; expense:subsidy
what the platform pays to correct a mistake out of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from proxy.billing.money import GRAINS_MAX

CLAIMED: Final = "liab:escrow:claimed:"
OF_WORK: Final = "liab:work:"  # of every work, whatever its split
Side = Literal["D", "C"]
NORMAL: Final[dict[str, Side]] = {"asset": "D", "expense": "D", "liab": "C", "income": "C"}
_KINDS: Final = tuple(f"{kind}:" for kind in NORMAL)


class Unbalanced(Exception):
    """Our own mistake: entries whose debits and credits differ. Nothing is booked."""

    def __init__(self, what: str, currency: str, excess_grains: int) -> None:
        super().__init__(f"{what}: debits exceed credits by {excess_grains} grains {currency}")
        self.excess_grains = excess_grains


def receivable(app: str) -> str:
    """Return the account of what an app owes."""
    return f"asset:receivable:{app}"


def of_work(work: str, split_version: int) -> str:
    """Return the account through which a work's money reaches the parties of one split."""
    return f"{OF_WORK}{work}:v{split_version}"


def payee(creator: str) -> str:
    """Return the account of what a creator is owed."""
    return f"liab:payee:{creator}"


def unclaimed(work: str) -> str:
    """Return the account of a work's unclaimed part."""
    return f"liab:escrow:unclaimed:{work}"


def claimed(work: str, own_app_of: str = "") -> str:
    """Return the account of what claims hold of a work; by itself what a creator's own app brought."""
    return f"{CLAIMED}{work}:{own_app_of}" if own_app_of else f"{CLAIMED}{work}"


def claim_of(account: str) -> tuple[str, str]:
    """Return (work, creator whose own app it was, or "") of an account that claims hold."""
    work, _, own_app_of = account.removeprefix(CLAIMED).partition(":")
    return work, own_app_of


def disputed(case: str) -> str:
    """Return the account of what an open dispute holds."""
    return f"liab:escrow:dispute:{case}"


def subsidy() -> str:
    """Return the account of what the platform pays out of its own, and what corrections give back to it."""
    return "expense:subsidy"


def common(period: str, reason: str) -> str:
    """Return the account of a period's money that belongs to no one yet, by reason."""
    return f"liab:common:{period}:{reason}"


def platform(app: str) -> str:
    """Return the account of what the platform keeps of an app's charge."""
    return f"income:platform:{app}"


def payout(batch: str) -> str:
    """Return the account of what a payout batch has taken out and the bank has not yet answered for."""
    return f"liab:payout:{batch}"


def tax(regime: str) -> str:
    """Return the account of what was withheld from payouts for a tax authority."""
    return f"liab:tax:{regime}"


def cash(rail: str) -> str:
    """Return the account of money that left, or came back, by a rail; what fills it is not booked here."""
    return f"asset:cash:{rail}"


def pool(app: str, period: str) -> str:
    """Return the account of creators' part of an app's declared revenue; 0 after the period's close."""
    return f"liab:pool:{app}:{period}"


def normal_side(code: str) -> Side:
    """Return the side on which an account grows. Raises ValueError for a code of no known kind."""
    kind, _, rest = code.partition(":")
    if kind not in NORMAL or not rest:
        raise ValueError(f"'{code}' is no account code; it begins with {', '.join(NORMAL)} and a colon")
    return NORMAL[kind]


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One side of a transfer: a positive amount on one account."""

    account: str
    side: Side
    grains: int

    def __post_init__(self) -> None:
        """Refuse an account of no known kind, and an amount that is none."""
        if not self.account.startswith(_KINDS) or self.account[-1] == ":":  # the shorter look, for millions
            normal_side(self.account)
        if not 0 < self.grains <= GRAINS_MAX:
            raise ValueError(f"an entry of {self.grains} grains on {self.account}")


class Transfer(msgspec.Struct, frozen=True):
    """Money moving between accounts of one currency; one that does not balance cannot exist."""

    id: str
    kind: str
    currency: str
    at_us: int
    period: str
    ref: str
    entries: tuple[Entry, ...]

    def __post_init__(self) -> None:
        """Refuse what does not balance."""
        excess = sum([entry.grains if entry.side == "D" else -entry.grains for entry in self.entries])
        if excess or not self.entries:
            raise Unbalanced(f"transfer {self.kind} {self.ref}", self.currency, excess)


def transfer_id(kind: str, source: str) -> str:
    """Return the id of booking `source`: 16 bytes of sha256(kind|source) in hex, the same every time."""
    return hashlib.sha256(f"{kind}|{source}".encode()).hexdigest()[:32]


def balances(transfers: Iterable[Transfer]) -> dict[tuple[str, str], int]:
    """Return {(account, currency): grains on its normal side} of these transfers."""
    result: dict[tuple[str, str], int] = {}
    for transfer in transfers:
        for entry in transfer.entries:
            key = (entry.account, transfer.currency)
            signed = entry.grains if entry.side == normal_side(entry.account) else -entry.grains
            result[key] = result.get(key, 0) + signed
    return result

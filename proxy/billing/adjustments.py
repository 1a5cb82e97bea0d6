"""Corrections of what an earlier period booked: linked to what they correct, told by the next statement.

A closed period never changes. What was wrong with it is put right by a transfer of its own that names what it
corrects and why, between the creator's account and one of

    common:PERIOD:REASON   money of a period that belongs to nobody
    app:APP                what the app owes: it owes more, or less
    platform               the platform's own money (expense:subsidy)

Giving to a creator is booked when it is proposed: to leave the house it still needs two people in a payout.
Taking from one waits until a second person approves, and never takes more than is still owed: what was paid
out stays paid. An adjustment's id is a hash of what it says, so proposing it twice is proposing it once.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from proxy.billing import ledger
from proxy.billing.ledger import Entry, Transfer, transfer_id
from proxy.billing.money import checked
from proxy.billing.payouts import same_person
from proxy.clock import base32
from proxy.errors import BadRequest, Conflict

KIND: Final = "adjustment"
PLATFORM: Final = "platform"
Kind = Literal["proposed", "booked", "rejected"]
_COMMON: Final = re.compile(r"common:([A-Za-z0-9._-]{1,40}):([a-z_]{1,40})", re.ASCII)
_APP: Final = re.compile(r"app:([A-Za-z0-9._-]{1,60})", re.ASCII)
_TRANSFER: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_LINE: Final = re.compile(r"(stm_[a-z2-7]{26})(?:/([1-9][0-9]{0,8}))?", re.ASCII)


class Adjustment(msgspec.Struct, frozen=True, kw_only=True):
    """What one person proposes; it never changes. grains: what it gives to the creator, negative if it takes.

    corrects: a transfer's id, a statement's, or a line's of one: stm_.../3. account: its other side.
    """

    id: str
    corrects: str
    creator: str
    currency: str
    grains: int
    account: str
    reason: str
    proposed_by: str
    proposed_us: int

    @property
    def takes(self) -> bool:
        """Whether the creator is owed less by it."""
        return self.grains < 0


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened to an adjustment."""

    seq: int
    kind: Kind
    by: str
    reason: str
    at_us: int


def account_of(text: str) -> str:
    """Return the account that `text` names: common:PERIOD:REASON, app:APP or platform. Raises BadRequest."""
    if text == PLATFORM:
        return ledger.subsidy()
    if found := _COMMON.fullmatch(text):
        return ledger.common(*found.groups())
    if found := _APP.fullmatch(text):
        return ledger.receivable(found[1])
    raise BadRequest(
        f"'{text}' names no other side of an adjustment",
        remedy="write common:PERIOD:REASON, app:APP or platform",
        code="adjustment_account",
    )


def corrected(text: str) -> tuple[str, str, int]:
    """Return (transfer, statement, line) that `text` names, "" and 0 for the rest. Raises BadRequest."""
    if _TRANSFER.fullmatch(text):
        return text, "", 0
    if found := _LINE.fullmatch(text):
        return "", found[1], int(found[2] or 0)
    raise BadRequest(
        f"'{text}' names nothing that was booked",
        remedy="write a transfer's id, a statement's, or a line of one as stm_.../3",
        code="adjustment_corrects",
    )


def made(
    *,
    corrects: str,
    creator: str,
    currency: str,
    grains: int,
    account: str,
    reason: str,
    by: str,
    now_us: int,
) -> Adjustment:
    """Return the adjustment, its id the hash of what it says. Raises BadRequest for one of nothing."""
    if not grains:
        raise BadRequest("an adjustment of nothing", remedy="give an amount", code="adjustment_amount")
    said = "|".join(("adjustment", corrects, creator, currency, str(checked(grains)), account, reason))
    digest = hashlib.sha256(said.encode()).digest()
    return Adjustment(
        id="adj_" + base32(int.from_bytes(digest[:17], "big") >> 6),
        corrects=corrects,
        creator=creator,
        currency=currency,
        grains=grains,
        account=account,
        reason=reason,
        proposed_by=by,
        proposed_us=now_us,
    )


def state_of(events: Sequence[Event]) -> Kind:
    """Return what became of an adjustment."""
    return events[-1].kind if events else "proposed"


def may_approve(one: Adjustment, events: Sequence[Event], by: str) -> bool:
    """Return whether approving books it: False when it is booked. Raises Conflict where it may not be."""
    state = state_of(events)
    if state == "rejected":
        raise Conflict(f"{one.id} was rejected", remedy="propose another", code="adjustment_rejected")
    if state == "booked":
        return False
    if same_person(one.proposed_by, by):
        raise Conflict(
            f"{one.id} takes from a creator and was proposed by {one.proposed_by}",
            remedy="another person approves it",
            code="adjustment_second_person",
        )
    return True


def may_reject(one: Adjustment, events: Sequence[Event]) -> bool:
    """Return whether rejecting it does something. Raises Conflict when it is booked."""
    state = state_of(events)
    if state == "booked":
        raise Conflict(
            f"{one.id} is booked", remedy="correct it by another adjustment", code="adjustment_booked"
        )
    return state != "rejected"


def transfer(one: Adjustment, at_us: int) -> Transfer:
    """Return what is booked: between the creator's account and the other side."""
    payee = ledger.payee(one.creator)
    debit, credit = (payee, one.account) if one.takes else (one.account, payee)
    entries = (Entry(debit, "D", abs(one.grains)), Entry(credit, "C", abs(one.grains)))
    return Transfer(transfer_id(KIND, one.id), KIND, one.currency, at_us, "", one.id, entries)

"""Paying out, decided without a store or a clock: who is paid how much, who is not and why, and what then.

A payment takes whole minor units out of what a creator is owed; the rest simply stays. Nothing leaves by
itself: one person creates a batch, another approves it, and only then is there a file for the bank. What the
bank answered is booked after it, payment by payment: settled, or returned to what the creator is owed.

    batch    created -> approved -> exported, or cancelled before it is exported
    payment  planned -> pending -> settled, returned (also after it was settled), or cancelled with its batch

A payment's id is a hash of its batch and creator and goes to the bank as EndToEndId, so no creator can be
paid twice by a batch, however often it is exported.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

import msgspec

from proxy.billing import ledger
from proxy.billing.ledger import Entry, Transfer, transfer_id
from proxy.billing.money import GRAINS_PER_MINOR, PPM, checked
from proxy.billing.payees import Rail, TaxProfile, withholding
from proxy.clock import base32
from proxy.errors import Conflict
from proxy.settings import WithholdingRow

PAYMENTS_MAX: Final = (
    50_000  # of one batch: a bank's file beyond is refused by most; create the next one after
)
SEPA_CURRENCY: Final = "EUR"
# In the order they are asked; the first that holds is told.
REASONS: Final = {
    "other_currency": "owed in another currency than the batch pays",
    "no_details": "no account is entered",
    "unverified": "nobody has checked yet whose account it is",
    "held": "payouts are held",
    "rail_currency": "SEPA pays euros only: this can be paid in another way",
    "other_rail": "paid in another way",
    "draft": "earned in a period on which creators may still comment",
    "below_minimum": "below the minimum: it is carried",
    "no_tax_form": "the withholding table has no row for the tax form given, or for none",
    "tax_country": "the withholding table has no row for the country of the tax form",
    "nothing_left": "nothing would be left after what is withheld",
    "batch_full": "the batch is full: the next one pays it",
    "nothing_owed": "nothing is owed",
}
Kind = Literal["created", "approved", "exported", "cancelled", "settled", "returned"]
BatchState = Literal["created", "approved", "exported", "cancelled"]
PaymentState = Literal["planned", "pending", "settled", "returned", "cancelled"]


class Payment(msgspec.Struct, frozen=True, kw_only=True):
    """One creator's part of a batch, in minor units. gross = withheld + net. id: also its EndToEndId."""

    id: str
    creator: str
    account_version: int
    last4: str
    gross_minor: int
    withheld_minor: int
    net_minor: int
    regime: str
    form: str
    rate_ppm: int

    def __post_init__(self) -> None:
        """Refuse what does not add up."""
        parts = self.withheld_minor + self.net_minor
        if self.gross_minor != parts or self.net_minor <= 0 or self.withheld_minor < 0:
            raise ValueError(f"payment {self.id}: {self.gross_minor} is not its parts")
        checked(self.gross_minor * GRAINS_PER_MINOR)


class Unpaid(msgspec.Struct, frozen=True, kw_only=True):
    """Whoever is owed something and is not paid, and why. grains stay in their account."""

    creator: str
    currency: str
    reason: str
    grains: int


class Debtor(msgspec.Struct, frozen=True, kw_only=True):
    """The account that a SEPA file asks to pay from, as it was when the batch was created."""

    name: str = ""
    iban: str = ""
    bic: str = ""


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """What one person proposes to pay and another approves; it never changes. day: ISO date, UTC."""

    id: str
    rail: Rail
    currency: str
    day: str
    created_by: str
    created_us: int
    debtor: Debtor
    payments: tuple[Payment, ...]
    unpaid: tuple[Unpaid, ...]

    @property
    def net_minor(self) -> int:
        """What the file asks the bank to pay."""
        return sum(payment.net_minor for payment in self.payments)


@dataclass(frozen=True, slots=True)
class Payee:
    """What is known of a creator who is owed something. hold: why they are not to be paid now, or "".

    verified: an operator entered the account, or has checked whose it is.
    """

    account_version: int = 0
    rail: Rail | None = None
    last4: str = ""
    minimum_grains: int = 0
    tax: TaxProfile | None = None
    hold: str = ""
    verified: bool = True


NOBODY: Final = Payee()
NO_DRAFTS: Final[Mapping[tuple[str, str], int]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for every payment of a batch. minimum_grains: below it nobody is paid."""

    rail: Rail
    currency: str
    day: dt.date
    minimum_grains: int
    withholding: tuple[WithholdingRow, ...] = ()


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened to a batch, or (settled, returned) to one payment of it."""

    seq: int
    kind: Kind
    payment: str
    detail: str
    by: str
    at_us: int


def payment_id(batch: str, creator: str) -> str:
    """Return the id under which a batch pays a creator: 30 characters that every bank's file may hold."""
    digest = hashlib.sha256(f"payment|{batch}|{creator}".encode()).digest()
    return "ecp-" + base32(int.from_bytes(digest[:17], "big") >> 6)


def batch_id(by: str, key: str) -> str:
    """Return the id of the batch that `by` creates under an idempotency key: asking again finds it."""
    digest = hashlib.sha256(f"batch|{by}|{key}".encode()).digest()
    return "pob_" + base32(int.from_bytes(digest[:17], "big") >> 6)


def plan(
    batch: str,
    rules: Rules,
    owed: Mapping[tuple[str, str], int],
    payees: Mapping[str, Payee],
    drafts: Mapping[tuple[str, str], int] = NO_DRAFTS,
) -> tuple[tuple[Payment, ...], tuple[Unpaid, ...]]:
    """Return who would be paid, and who not; owed: {(creator, currency): grains}, order does not matter.

    Everybody who is owed more than nothing is in one of the two; who owes something is in neither. drafts:
    what of it is of periods that are not final, which is not paid yet.
    """
    payments: list[Payment] = []
    unpaid: list[Unpaid] = []
    for (creator, currency), grains in sorted(owed.items()):
        if grains <= 0:
            continue
        found = (
            "other_currency"
            if currency != rules.currency
            else "batch_full"
            if len(payments) == PAYMENTS_MAX
            else _payment(
                batch,
                rules,
                creator,
                grains,
                payees.get(creator, NOBODY),
                drafted=drafts.get((creator, currency), 0),
            )
        )
        if isinstance(found, Payment):
            payments.append(found)
        else:
            unpaid.append(Unpaid(creator=creator, currency=currency, reason=found, grains=grains))
    return tuple(payments), tuple(unpaid)


def payable(
    owed: Mapping[tuple[str, str], int], drafts: Mapping[tuple[str, str], int]
) -> dict[tuple[str, str], int]:
    """Return what of `owed` is of final periods; less than nothing where drafts were already held back."""
    return {key: grains - drafts.get(key, 0) for key, grains in owed.items()}


def _payment(
    batch: str, rules: Rules, creator: str, grains: int, payee: Payee, *, drafted: int
) -> Payment | str:
    """One creator's payment, or the reason why there is none."""
    if payee.rail is None:
        return "no_details"
    if payee.hold or not payee.verified:
        return "held" if payee.hold else "unverified"
    if payee.rail != rules.rail:
        return "other_rail"
    if payee.rail == "sepa" and rules.currency != SEPA_CURRENCY:
        return "rail_currency"
    least = max(rules.minimum_grains, payee.minimum_grains, GRAINS_PER_MINOR)
    if grains - drafted < least:
        return "below_minimum" if grains < least else "draft"
    gross = (grains - drafted) // GRAINS_PER_MINOR
    kept = withholding(rules.withholding, payee.tax, rules.day)
    if isinstance(kept, str):
        return kept
    withheld = gross * kept.rate_ppm // PPM  # cut: the odd cent is the creator's
    if withheld == gross:
        return "nothing_left"
    return Payment(
        id=payment_id(batch, creator),
        creator=creator,
        account_version=payee.account_version,
        last4=payee.last4,
        gross_minor=gross,
        withheld_minor=withheld,
        net_minor=gross - withheld,
        regime=kept.regime if withheld else "",
        form=kept.form,
        rate_ppm=kept.rate_ppm,
    )


def changed(
    batch: Batch, owed: Mapping[tuple[str, str], int], payees: Mapping[str, Payee]
) -> list[tuple[str, str]]:
    """Return (creator, what) for payments that can't be approved any more as they were planned."""
    found: list[tuple[str, str]] = []
    for payment in batch.payments:
        payee = payees.get(payment.creator, NOBODY)
        if payee.account_version != payment.account_version:
            found.append((payment.creator, "has another account now"))
        elif payee.hold:
            found.append((payment.creator, "is held now"))
        elif owed.get((payment.creator, batch.currency), 0) < payment.gross_minor * GRAINS_PER_MINOR:
            found.append((payment.creator, "is owed less now"))
    return found


# What a batch has become


def state_of(events: Sequence[Event]) -> BatchState:
    """Return a batch's state, from its events in the order they happened."""
    state: BatchState = "created"
    for event in events:
        if event.kind in ("approved", "exported", "cancelled"):
            state = event.kind
    return state


def payment_states(batch: Batch, events: Sequence[Event]) -> dict[str, PaymentState]:
    """Return {payment: state}."""
    whole: dict[BatchState, PaymentState] = {"created": "planned", "cancelled": "cancelled"}
    state = whole.get(state_of(events), "pending")
    states: dict[str, PaymentState] = {payment.id: state for payment in batch.payments}
    for event in events:
        if event.kind in ("settled", "returned"):
            states[event.payment] = event.kind
    return states


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """One payment as its creator sees it.

    detail: the bank's reference, why it came back or was cancelled; created_us: when its batch was made;
    at_us: when it came to stand as it does.
    """

    batch: str
    rail: Rail
    currency: str
    day: str
    state: PaymentState
    detail: str
    created_us: int
    at_us: int
    payment: Payment


def told(batch: Batch, events: Sequence[Event], creator: str) -> list[Told]:
    """Return a creator's payment of this batch as it stands, or nothing."""
    states = payment_states(batch, events)
    made: list[Told] = []
    for one in batch.payments:
        if one.creator != creator:
            continue
        last = next(event for event in reversed(events) if event.payment in {"", one.id})
        said = last.detail if last.kind in {"settled", "returned", "cancelled"} else ""
        made.append(
            Told(
                batch=batch.id,
                rail=batch.rail,
                currency=batch.currency,
                day=batch.day,
                state=states[one.id],
                detail=said,
                created_us=batch.created_us,
                at_us=last.at_us,
                payment=one,
            )
        )
    return made


def day_of(batch: Batch) -> dt.date:
    """Return the day for which a batch was planned."""
    return dt.date.fromisoformat(batch.day)


def may_approve(batch: Batch, events: Sequence[Event], by: str) -> bool:
    """Return whether approving it does something: False when it is done already.

    Raises Conflict where it may not be: by whoever created it, or when it was cancelled.
    """
    state = state_of(events)
    if state == "cancelled":
        raise Conflict(f"{batch.id} was cancelled", remedy="create another batch", code="payouts_cancelled")
    if state != "created":
        return False
    if same_person(batch.created_by, by):
        raise Conflict(
            f"{batch.id} was created by {batch.created_by}, who cannot approve it",
            remedy="another person approves it, under their own name (--by)",
            code="payouts_second_person",
        )
    return True


def same_person(one: str, other: str) -> bool:
    """Return whether two names mean one operator: neither case nor spaces make another person."""
    return " ".join(one.split()).casefold() == " ".join(other.split()).casefold()


def may_cancel(batch: Batch, events: Sequence[Event]) -> bool:
    """Return whether cancelling it does something. Raises Conflict when a bank may have its file."""
    state = state_of(events)
    if state == "exported":
        raise Conflict(
            f"{batch.id} was exported: a bank may have its file",
            remedy="`endcredits payouts return PAYMENT` for each that the bank did not make",
            code="payouts_exported",
        )
    return state != "cancelled"


def may_export(batch: Batch, events: Sequence[Event]) -> None:
    """Raise Conflict unless its file may be written, for the first time or again."""
    state = state_of(events)
    if state in {"created", "cancelled"}:
        raise Conflict(
            f"{batch.id} is {state}, not approved",
            remedy="a second person runs `endcredits payouts approve`"
            if state == "created"
            else "`endcredits payouts create` proposes another batch",
            code="payouts_not_approved",
        )
    if any(event.kind in {"settled", "returned"} for event in events):
        raise Conflict(
            f"the bank has answered to {batch.id} already",
            remedy="what came back is paid by the next batch",
            code="payouts_answered",
        )


def to_settle(batch: Batch, events: Sequence[Event], wanted: Iterable[str]) -> list[Payment]:
    """Return which of `wanted` are to be booked as paid (none of them: all that are pending).

    What is settled already is left out. Raises Conflict for one that is returned, or not on its way.
    """
    states = payment_states(batch, events)
    asked = frozenset(wanted)
    _known(batch, asked)
    if state_of(events) != "exported":
        raise Conflict(
            f"{batch.id} was never exported: no bank can have paid it",
            remedy="`endcredits payouts export` first",
            code="payouts_not_exported",
        )
    for name in asked:
        if states[name] == "returned":
            raise Conflict(f"{name} was returned", remedy="the next batch pays it", code="payouts_returned")
    return [one for one in batch.payments if states[one.id] == "pending" and (not asked or one.id in asked)]


def to_return(batch: Batch, events: Sequence[Event], names: Iterable[str]) -> list[Payment]:
    """Return which of these are to be booked back; what is returned already is left out.

    Raises Conflict when the batch never left.
    """
    asked = frozenset(names)
    _known(batch, asked)
    states = payment_states(batch, events)
    open_ones = [one for one in batch.payments if one.id in asked and states[one.id] != "returned"]
    if open_ones and state_of(events) != "exported":
        raise Conflict(
            f"{batch.id} was never exported: nothing of it can come back",
            remedy="`endcredits payouts cancel` takes the whole batch back",
            code="payouts_not_exported",
        )
    return open_ones


def _known(batch: Batch, names: Iterable[str]) -> None:
    unknown = sorted(set(names) - {payment.id for payment in batch.payments})
    if unknown:
        raise Conflict(
            f"{batch.id} has no payment {unknown[0][:40]}",
            remedy="`endcredits payouts show` lists them",
            code="payouts_unknown",
        )


# What is booked


def pending(batch: Batch, at_us: int) -> list[Transfer]:
    """Return what approving books: out of what creators are owed, on its way, and kept for tax."""
    made: list[Transfer] = []
    for one in batch.payments:
        net, tax = one.net_minor * GRAINS_PER_MINOR, one.withheld_minor * GRAINS_PER_MINOR
        payee = ledger.payee(one.creator)
        made.append(_move("payout", batch, one, at_us, payee, ledger.payout(batch.id), net))
        if tax:
            made.append(_move("payout_tax", batch, one, at_us, payee, ledger.tax(one.regime), tax))
    return made


def settled(batch: Batch, one: Payment, at_us: int) -> list[Transfer]:
    """Return what is booked when the bank has paid."""
    cash = ledger.cash(batch.rail)
    net = one.net_minor * GRAINS_PER_MINOR
    return [_move("payout_settled", batch, one, at_us, ledger.payout(batch.id), cash, net)]


def returned(batch: Batch, one: Payment, at_us: int, *, was_settled: bool) -> list[Transfer]:
    """Return what is booked when it did not arrive: everything is owed to the creator again, the tax too."""
    source = ledger.cash(batch.rail) if was_settled else ledger.payout(batch.id)
    payee = ledger.payee(one.creator)
    net, tax = one.net_minor * GRAINS_PER_MINOR, one.withheld_minor * GRAINS_PER_MINOR
    made = [_move("payout_return", batch, one, at_us, source, payee, net)]
    if tax:
        made.append(_move("payout_tax_return", batch, one, at_us, ledger.tax(one.regime), payee, tax))
    return made


def _move(
    kind: str, batch: Batch, one: Payment, at_us: int, debit: str, credit: str, grains: int
) -> Transfer:
    entries = (Entry(debit, "D", grains), Entry(credit, "C", grains))
    return Transfer(transfer_id(kind, one.id), kind, batch.currency, at_us, "", one.id, entries)

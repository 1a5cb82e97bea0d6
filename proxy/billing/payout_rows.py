"""Batches, payments and accounts as people and scripts read them: one shape for the commands and for /api.

Amounts stand twice, minor units for machines and exact decimal text for eyes. Of an account nothing is shown
but its rail and last four: the only place with all of it is the file for the bank.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from proxy.billing.declarations_store import WHY, Declaration
from proxy.billing.money import GRAINS_PER_MINOR, decimal_text
from proxy.billing.payees import TaxProfile, in_turn
from proxy.billing.payees_store import KnownAccount
from proxy.billing.paying import Paying, Standing, ToCheck
from proxy.billing.payouts import REASONS, Batch, Event, Payment, Told, payment_states, state_of
from proxy.clock import iso_utc

Row = dict[str, Any]


def masked(last4: str) -> str:
    """Return an account as it is shown."""
    return f"···· {last4}" if last4 else "····"


def batch_row(batch: Batch, events: Sequence[Event]) -> Row:
    """Return one batch in a line; amounts are sums over its payments. Of a dry run there are no events."""
    approved = next((event for event in events if event.kind == "approved"), None)
    states = Counter(payment_states(batch, events).values())
    withheld = sum(one.withheld_minor for one in batch.payments)
    return {
        "id": batch.id,
        "state": state_of(events),
        "rail": batch.rail,
        "currency": batch.currency,
        "day": batch.day,
        "created": iso_utc(batch.created_us),
        "created_by": batch.created_by,
        "approved_by": approved.by if approved else "",
        "payments": len(batch.payments),
        "payment_states": dict(sorted(states.items())),
        "unpaid": len(batch.unpaid),
        "net_minor": batch.net_minor,
        "net": text(batch.net_minor, batch.currency),
        "withheld_minor": withheld,
        "withheld": text(withheld, batch.currency),
    }


def payment_rows(
    batch: Batch, events: Sequence[Event], accounts: Mapping[str, KnownAccount] = MappingProxyType({})
) -> list[Row]:
    """Return a batch's payments with their states.

    accounts: {creator: account} as the batch pays them. Whoever approves sees who entered each, who has
    checked it and when: one person could send somebody's money elsewhere, and the second is to notice.
    """
    states = payment_states(batch, events)
    rows: list[Row] = []
    for one in batch.payments:
        row: Row = {"payment": one.id, "creator": one.creator, "state": states[one.id]}
        row |= _amounts(one, batch.currency)
        account = accounts.get(one.creator)
        if account is not None:
            row["account_version"] = account.version
            row["account_entered_by"] = account.by
            row["account_entered"] = iso_utc(account.at_us)
            row["account_verified_by"] = account.verified_by
        rows.append(row)
    return rows


def unpaid_rows(batch: Batch) -> list[Row]:
    """Return who is owed something and not paid by this batch, and why."""
    return [
        {
            "creator": one.creator,
            "currency": one.currency,
            "owed_grains": one.grains,
            "owed": decimal_text(one.grains, one.currency),
            "reason": one.reason,
            "why": REASONS[one.reason],
        }
        for one in batch.unpaid
    ]


def event_rows(events: Sequence[Event]) -> list[Row]:
    """Return what happened to a batch, oldest first."""
    return [
        {
            "what": event.kind,
            "payment": event.payment,
            "detail": event.detail,
            "by": event.by,
            "at": iso_utc(event.at_us),
        }
        for event in events
    ]


def told_row(told: Told) -> Row:
    """Return one payment as its creator sees it: nobody else is named in it."""
    one = told.payment
    return {
        "payment": one.id,
        "batch": told.batch,
        "state": told.state,
        "day": told.day,
        "rail": told.rail,
        "currency": told.currency,
        **_amounts(one, told.currency),
        "detail": told.detail,
        "at": iso_utc(told.at_us),
    }


def account_row(account: KnownAccount) -> Row:
    """Return where somebody is paid, as it is shown."""
    return {
        "creator": account.creator,
        "version": account.version,
        "rail": account.rail,
        "account": masked(account.last4),
        "minimum_grains": account.minimum_grains,
        "minimum": decimal_text(account.minimum_grains, account.currency),
        "currency": account.currency,
        "entered_by": account.by,
        "entered": iso_utc(account.at_us),
        "verified": bool(account.verified_by),
        "verified_by": account.verified_by,
    }


def standing_row(stands: Standing) -> Row:
    """Return what is owed in one currency and what keeps it from being paid."""
    return {
        "currency": stands.currency,
        "owed_grains": stands.owed_grains,
        "owed": decimal_text(stands.owed_grains, stands.currency),
        "draft_grains": stands.draft_grains,
        "draft": decimal_text(stands.draft_grains, stands.currency),
        "payable_minor": stands.net_minor,
        "payable": text(stands.net_minor, stands.currency),
        "withheld_minor": stands.withheld_minor,
        "withheld": text(stands.withheld_minor, stands.currency),
        "reason": stands.reason,
        "why": stands.why,
    }


def tax_rows(known: Sequence[TaxProfile]) -> list[Row]:
    """Return the tax profiles that hold, by day."""
    return [_tax_row(one) for one in in_turn(known)]


def declaration_row(said: Declaration) -> Row:
    """Return how what a creator declared themselves stands."""
    return {
        "version": said.version,
        "state": said.state,
        **_tax_row(said.profile),
        "why": said.why,
        "why_said": WHY.get(said.why, ""),
        "at": iso_utc(said.at_us),
    }


def payee_row(ways: Paying, creator: str) -> Row:
    """Return all of one creator: their account, what they declared, whether they are held, what is owed."""
    kept = ways.payees(creator)
    known, given = kept.known(creator), ways.declarations(creator).last(creator)
    number = ways.tax_numbers(creator).known(creator)
    return {
        "account": account_row(known[-1]) if known else None,
        "tax_profiles": tax_rows(kept.tax_profiles(creator)),
        "tax_given": declaration_row(given) if given else None,
        "tax_number": {"country": number[0], "last4": number[1]} if number else None,
        "hold": kept.held(creator),
        "owed": [standing_row(one) for one in ways.standing(creator)],
    }


def check_rows(waiting: Sequence[ToCheck]) -> list[Row]:
    """Return what waits for an operator's check, by creator."""
    return [
        {
            "creator": one.creator,
            "account": account_row(one.account) if one.account else None,
            "tax_given": declaration_row(one.declared) if one.declared else None,
        }
        for one in waiting
    ]


def _tax_row(one: TaxProfile) -> Row:
    return {
        "form": one.form,
        "country": one.country,
        "treaty_ppm": one.treaty_ppm,
        "from": one.valid_from.isoformat(),
        "to": one.valid_to.isoformat() if one.valid_to else None,
    }


def text(minor: int, currency: str) -> str:
    """Return minor units as exact decimal text."""
    return decimal_text(minor * GRAINS_PER_MINOR, currency)


def _amounts(one: Payment, currency: str) -> Row:
    return {
        "account": masked(one.last4),
        "gross_minor": one.gross_minor,
        "gross": text(one.gross_minor, currency),
        "withheld_minor": one.withheld_minor,
        "withheld": text(one.withheld_minor, currency),
        "net_minor": one.net_minor,
        "net": text(one.net_minor, currency),
        "regime": one.regime,
        "form": one.form,
        "rate_ppm": one.rate_ppm,
    }

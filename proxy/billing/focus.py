"""What an app is charged, in the columns that cost tools read: FOCUS 1.2, as CSV.

Two documents of a closed period, with the same columns and the same sum. The *invoice* has one row for each
place where an app's money went, as the ledger has it. The *usage* has one row for each day, model, endpoint
and scheme, with answers and what they used. Every mandatory column of FOCUS 1.2 is there; what is ours is in
columns that begin with `x_`, among them each cost in grains, so that a sum is a sum of integers.

Source: FinOps Open Cost and Usage Specification 1.2, "Cost and Usage". docs/money.md, "Usage and invoices of
apps", says how each column is filled, and why some are left out.
"""

from __future__ import annotations

import calendar
import datetime as dt
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from proxy.billing import cells, words
from proxy.billing.locales import month_of
from proxy.billing.money import decimal_text
from proxy.billing.schemes import Rated
from proxy.clock import iso_utc
from proxy.metering.usage import MeteredEvent

VERSION: Final = "1.2"
DAY_US: Final = 86_400_000_000
COLUMNS: Final = (
    "BilledCost", "BillingAccountId", "BillingAccountName", "BillingAccountType", "BillingCurrency",
    "BillingPeriodEnd", "BillingPeriodStart", "ChargeCategory", "ChargeClass", "ChargeDescription",
    "ChargeFrequency", "ChargePeriodEnd", "ChargePeriodStart", "ConsumedQuantity", "ConsumedUnit",
    "ContractedCost", "EffectiveCost", "InvoiceId", "InvoiceIssuerName", "ListCost", "PricingQuantity",
    "PricingUnit", "ProviderName", "PublisherName", "ServiceCategory", "ServiceName", "ServiceSubcategory",
    "x_Period", "x_CostGrains", "x_GoesTo", "x_Scheme", "x_Model", "x_Endpoint", "x_InputTokens",
    "x_OutputTokens", "x_EstimatedRequests", "x_Images", "x_Milliseconds",
)  # fmt: skip
WORKS: Final = "works"
PLATFORM: Final = "platform"


@dataclass(frozen=True, slots=True)
class Frame:
    """What all rows of one app's document share. start_us to end_us: the billing period, end not included."""

    period: str
    app: str
    app_name: str
    currency: str
    start_us: int
    end_us: int
    issuer: str


@dataclass(slots=True)
class Charged:
    """What the ledger charged one app: by where it went, and how much of it came out of its revenue pool."""

    goes_to: dict[str, int] = field(default_factory=dict[str, int])
    pool_grains: int = 0

    @property
    def grains(self) -> int:
        """Everything the app owes for the period."""
        return sum(self.goes_to.values())


@dataclass(slots=True)
class Used:
    """The sums of one row of usage."""

    answers: int = 0
    estimated: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    grains: int = 0
    images: int = 0
    milliseconds: int = 0


# app, day (days since the epoch), model, endpoint, scheme
UseKey = tuple[str, int, str, str, str]


def bounds(label: str, first_us: int, closed_us: int) -> tuple[int, int]:
    """Return a billing period: a month that the label names, else first answer's day to close."""
    month = month_of(label)
    if month is None:
        start = (first_us or closed_us) // DAY_US * DAY_US
        return start, max(closed_us, start + DAY_US)
    days = calendar.monthrange(month.year, month.month)[1]
    start = (month - dt.date(1970, 1, 1)).days
    return start * DAY_US, (start + days) * DAY_US


def add(uses: dict[UseKey, Used], event: MeteredEvent, rated: Rated) -> None:
    """Count one answer and what its app is charged for it; what a pool pays is not known by the answer."""
    key = (event.app_id, event.occurred_us // DAY_US, event.model, event.endpoint, rated.scheme)
    used = uses.get(key)
    if used is None:
        used = uses[key] = Used()
    used.answers += 1
    used.estimated += event.estimated
    used.input_tokens += event.input_tokens
    used.output_tokens += event.output_tokens
    used.images += event.images
    used.milliseconds += event.milliseconds
    used.grains += sum(rated.dues) + sum(grains for _, grains in rated.common) + rated.platform_grains


def invoice_rows(frame: Frame, charged: Charged) -> Iterator[list[str]]:
    """Yield one row for each place where the app's money went."""
    for place, grains in sorted(charged.goes_to.items()):
        yield _row(
            frame, (frame.start_us, frame.end_us), grains, _went(place), category="Purchase", quantity=1,
            unit="Units", more={"x_GoesTo": place},
        )  # fmt: skip


def usage_rows(frame: Frame, charged: Charged, uses: Mapping[UseKey, Used]) -> Iterator[list[str]]:
    """Yield one row for each of the app's uses, oldest day first, and one for what its pool paid."""
    for (_, day, model, endpoint, scheme), used in sorted(uses.items()):
        more = {
            "x_Scheme": scheme,
            "x_Model": model,
            "x_Endpoint": endpoint,
            "x_InputTokens": str(used.input_tokens),
            "x_OutputTokens": str(used.output_tokens),
            "x_EstimatedRequests": str(used.estimated),
            "x_Images": str(used.images),
            "x_Milliseconds": str(used.milliseconds),
        }
        described = f"Credits for answers of {model} ({endpoint}), by {scheme}"
        yield _row(
            frame, (day * DAY_US, (day + 1) * DAY_US), used.grains, described, category="Usage",
            quantity=used.answers, unit="Requests", more=more,
        )  # fmt: skip
    if charged.pool_grains:
        yield _row(
            frame, (frame.start_us, frame.end_us), charged.pool_grains, "Creators' part of declared revenue",
            category="Purchase", quantity=1, unit="Units", more={"x_Scheme": "pool"},
        )  # fmt: skip


def to_csv(rows: Iterable[list[str]]) -> bytes:
    """Return RFC 4180 with a header row, UTF-8, no cell a formula."""
    return cells.to_csv(COLUMNS, rows)


def _went(place: str) -> str:
    if place == WORKS:
        return "To the works that answers drew on"
    if place == PLATFORM:
        return "To the platform"
    return f"To the common account: {words.REASONS.get(place, (place, ''))[0]}"


def _row(
    frame: Frame,
    charge: tuple[int, int],
    grains: int,
    description: str,
    *,
    category: str,
    quantity: int,
    unit: str,
    more: Mapping[str, str],
) -> list[str]:
    cost = decimal_text(grains, frame.currency)
    usage = category == "Usage"
    known = {
        "BilledCost": cost,
        "BillingAccountId": frame.app,
        "BillingAccountName": frame.app_name,
        "BillingAccountType": "App",
        "BillingCurrency": frame.currency,
        "BillingPeriodEnd": _time(frame.end_us),
        "BillingPeriodStart": _time(frame.start_us),
        "ChargeCategory": category,
        "ChargeDescription": description,
        "ChargeFrequency": "Usage-Based" if usage else "Recurring",
        "ChargePeriodEnd": _time(charge[1]),
        "ChargePeriodStart": _time(charge[0]),
        "ConsumedQuantity": str(quantity) if usage else "",
        "ConsumedUnit": unit if usage else "",
        "ContractedCost": cost,
        "EffectiveCost": cost,
        "InvoiceId": f"{frame.period}/{frame.app}",
        "InvoiceIssuerName": frame.issuer,
        "ListCost": cost,
        "PricingQuantity": str(quantity),
        "PricingUnit": unit,
        "ProviderName": frame.issuer,
        "PublisherName": frame.issuer,
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": "Credits to creators",
        "ServiceSubcategory": "Generative AI",
        "x_Period": frame.period,
        "x_CostGrains": str(grains),
        **more,
    }
    return [known.get(column, "") for column in COLUMNS]


def _time(time_us: int) -> str:
    return f"{iso_utc(time_us)[:19]}Z"

"""Metered events rolled up as they stream by: the first half of closing a period.

What stays in memory is one cell per work, app, model, day, scheme and verdict, however many answers there
were; so a period of a million answers costs what its different uses cost. Sums of integers do not depend on
the order of events, nor on how they are cut into batches.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from proxy.access.links import AppLinks
from proxy.billing.prices import PriceTable
from proxy.billing.schemes import Rated, Terms, rate
from proxy.clock import iso_utc
from proxy.errors import Conflict
from proxy.metering.usage import MeteredEvent

DAY_US: Final = 86_400_000_000
MODELS_NAMED_MAX: Final = 50  # in a refusal that a person reads


@dataclass(slots=True)
class Cell:
    """The sums of one rolled-up line."""

    answers: int = 0
    ppm: int = 0
    price: int = 0
    due: int = 0
    rate: int = 0  # of a whole answer, under direct; the highest where it changed within the day


@dataclass(slots=True)
class Charge:
    """What one app is charged, by where it goes."""

    works: dict[str, int] = field(default_factory=dict[str, int])
    common: dict[str, int] = field(default_factory=dict[str, int])
    platform: int = 0

    @property
    def total(self) -> int:
        """Everything the app is asked for."""
        return sum(self.works.values()) + sum(self.common.values()) + self.platform


# work, app, model, day (days since the epoch), scheme, verdict, and whose own app it was ("" for nobody's)
CellKey = tuple[str, str, str, int, str, str, str]


def line_seed(key: CellKey) -> str:
    """Return what names a line in a division: its values joined by bars, the last only where there is one."""
    return "|".join(map(str, key if key[-1] else key[:-1]))


@dataclass(slots=True)
class Rollup:
    """The streaming half: takes rated events one by one; its size follows the keys, not the events."""

    cells: dict[CellKey, Cell] = field(default_factory=dict[CellKey, Cell])
    charges: dict[str, Charge] = field(default_factory=dict[str, Charge])
    outcomes: dict[str, int] = field(default_factory=dict[str, int])
    unscored: dict[str, int] = field(default_factory=dict[str, int])
    masses: dict[str, int] = field(default_factory=dict[str, int])
    unpriced: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    versions: set[str] = field(default_factory=set[str])
    methods: set[str] = field(default_factory=set[str])
    policies: set[str] = field(default_factory=set[str])
    royalties: set[int] = field(default_factory=set[int])
    events: int = 0
    estimated: int = 0
    price: int = 0
    not_charged: int = 0
    first_us: int = 0
    last_us: int = 0

    def add(self, event: MeteredEvent, rated: Rated, own_app_of: str = "") -> None:
        """Count one event and what it pays. own_app_of: whose own app it was, whom it pays nothing."""
        self.events += 1
        self.estimated += event.estimated
        bump(self.outcomes, event.outcome, 1)
        if event.reason:
            bump(self.unscored, event.reason, 1)
        self.first_us = min(self.first_us or event.occurred_us, event.occurred_us)
        self.last_us = max(self.last_us, event.occurred_us)
        if rated.price_version:
            self.versions.add(rated.price_version)
        if event.method:
            self.methods.add(event.method)
        if rated.policy:
            self.policies.add(rated.policy)
        if rated.scheme == "royalty":
            self.royalties.add(rated.royalty_ppm)
        self.price += rated.price_grains
        self.not_charged += rated.not_charged_grains
        bump(self.masses, "unattributed", event.unattributed_ppm)
        charge = self.charges.setdefault(event.app_id, Charge())
        charge.platform += rated.platform_grains
        for reason, grains in rated.common:
            bump(charge.common, reason, grains)
        day = event.occurred_us // DAY_US
        for place, (line, due) in enumerate(zip(event.lines, rated.dues, strict=True)):
            verdict = rated.verdict_of(line)
            whose = own_app_of if verdict == "paid" else ""
            key = (line.work, event.app_id, event.model, day, rated.scheme, verdict, whose)
            cell = self.cells.get(key)
            if cell is None:
                cell = self.cells[key] = Cell()
            cell.answers += 1
            cell.ppm += line.ppm
            cell.price += rated.price_grains
            cell.due += due
            if rated.rates:
                cell.rate = max(cell.rate, rated.rates[place])
            bump(self.masses, verdict, line.ppm)
            if due:
                bump(charge.works, line.work, due)

    def seen_by(self, party: str, keys: Iterable[CellKey]) -> dict[CellKey, Cell]:
        """Return the lines of `keys` as a party sees them: whose own app it was concerns that creator."""
        seen: dict[CellKey, Cell] = {}
        for key in keys:
            cell = self.cells[key]
            line = seen.setdefault((*key[:6], key[6] if key[6] == party else ""), Cell())
            line.answers += cell.answers
            line.ppm += cell.ppm
            line.price += cell.price
            line.due += cell.due
            line.rate = max(line.rate, cell.rate)
        return seen

    @property
    def works(self) -> set[str]:
        """Every work that was used."""
        return {key[0] for key in self.cells}

    def refuse(self, event: MeteredEvent) -> None:
        """Remember an event without a price, for the refusal."""
        count, since = self.unpriced.get(event.model, (0, event.occurred_us))
        self.unpriced[event.model] = (count + 1, min(since, event.occurred_us))


@functools.lru_cache(maxsize=4_096)  # ten years of days
def day_text(day: int) -> str:
    """Return a day since 1970-01-01 as "2026-11-22"."""
    return iso_utc(day * DAY_US)[:10]


def bump(sums: dict[str, int], key: str, by: int) -> None:
    """Add to one of many sums."""
    sums[key] = sums.get(key, 0) + by


NO_LINKS: Final = AppLinks()


def roll_up(
    label: str,
    events: Iterable[MeteredEvent],
    terms: Terms,
    prices: PriceTable,
    links: AppLinks = NO_LINKS,
) -> Rollup:
    """Return the sums of `events`, in any order, each once.

    links: whose own each app was, asked by the registry's number that the event carries.
    Raises Conflict (code "unpriced_models") naming each model that has no price in the terms' currency, with
    how many events and since when; nothing of the period can then be closed.
    """
    rollup = Rollup()
    for event in events:
        rated = rate(event, terms, prices)
        if rated is None:
            rollup.refuse(event)
        else:
            pays_own = terms.at(event.occurred_us).pay_own_apps
            whose = "" if pays_own else links.creator_of(event.app_id, event.registry_seq)
            rollup.add(event, rated, whose)
    if rollup.unpriced:
        raise _unpriced(label, rollup.unpriced, terms.currency)
    return rollup


def _unpriced(label: str, models: dict[str, tuple[int, int]], currency: str) -> Conflict:
    rows = sorted(models.items(), key=lambda item: (-item[1][0], item[0]))
    named = "; ".join(
        f"{model or '(no name)'}: {count} event{'s' if count > 1 else ''} since {iso_utc(since)[:10]}"
        for model, (count, since) in rows[:MODELS_NAMED_MAX]
    )
    more = f"; and {len(rows) - MODELS_NAMED_MAX} more" if len(rows) > MODELS_NAMED_MAX else ""
    return Conflict(
        f"period {label} holds events of models without a price in {currency}: {named}{more}",
        remedy="add each model to a price file in force since then ([billing] prices_dir), or pay it by a "
        "direct rate ([[billing.schemes]])",
        code="unpriced_models",
    )

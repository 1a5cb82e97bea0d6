"""Metered events rolled up as they stream by: the first half of closing a period.

What is summed by work, app, model, day, scheme and verdict goes to uses.py, which keeps it out of memory;
what is summed by app stays here. Sums of integers do not depend on the order of events, nor on how they are
cut into batches.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast

from proxy.access.links import AppLinks
from proxy.billing.pools import Key, PoolTold, PoolUse, Revenue, settle
from proxy.billing.prices import PriceTable
from proxy.billing.schemes import Rated, Terms, rate
from proxy.billing.totals import bump
from proxy.billing.uses import Rest, Uses
from proxy.clock import iso_utc
from proxy.errors import Conflict
from proxy.metering.usage import MeteredEvent

DAY_US: Final = 86_400_000_000
MODELS_NAMED_MAX: Final = 50  # in a refusal that a person reads


@dataclass(slots=True)
class Charge:
    """What one app is charged, by where it goes. due: to works; which, `Uses.charged` tells.

    pool: the part of all this that comes out of its pool.
    """

    due: int = 0
    common: dict[str, int] = field(default_factory=dict[str, int])
    platform: int = 0
    pool: int = 0

    @property
    def total(self) -> int:
        """Everything the app is asked for."""
        return self.due + sum(self.common.values()) + self.platform


@dataclass(slots=True)
class Rollup:
    """The streaming half: takes rated events one by one; its size follows the apps, not the events."""

    uses: Uses = field(default_factory=Uses)
    charges: dict[str, Charge] = field(default_factory=dict[str, Charge])
    outcomes: dict[str, int] = field(default_factory=dict[str, int])
    unscored: dict[str, int] = field(default_factory=dict[str, int])
    masses: dict[str, int] = field(default_factory=dict[str, int])
    unpriced: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    versions: set[str] = field(default_factory=set[str])
    methods: set[str] = field(default_factory=set[str])
    policies: set[str] = field(default_factory=set[str])
    royalties: set[int] = field(default_factory=set[int])
    pool_uses: dict[str, PoolUse] = field(default_factory=dict[str, PoolUse])
    pools: tuple[PoolTold, ...] = ()
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
        charge.due += sum(rated.dues)
        self._count_lines(event, rated, own_app_of)

    def _count_lines(self, event: MeteredEvent, rated: Rated, own_app_of: str) -> None:
        uses, masses, rates = self.uses, self.masses, rated.rates
        day, price = event.occurred_us // DAY_US, rated.price_grains
        rest, last = 0, ""
        shares: list[tuple[Key, int]] = []
        is_pool = rated.scheme == "pool"
        for place, (line, due) in enumerate(zip(event.lines, rated.dues, strict=True)):
            verdict = rated.verdict_of(line)
            if verdict != last:
                whose = own_app_of if verdict == "paid" else ""
                rest = uses.rest((event.app_id, event.model, day, rated.scheme, verdict, whose))
                last = verdict
            uses.add(line.work, rest, line.ppm, price, due, rates[place] if rates else 0)
            masses[verdict] = masses.get(verdict, 0) + line.ppm
            if is_pool:
                whose = own_app_of if verdict == "paid" else ""
                named: Key = (line.work, event.app_id, event.model, day, "pool", verdict, whose)
                shares.append((named if verdict == "paid" else verdict, line.ppm))
        if is_pool:
            if event.unattributed_ppm:
                shares.append((event.reason or "unattributed", event.unattributed_ppm))
            use = self.pool_uses.setdefault(event.app_id, PoolUse())
            use.add(event.subject_digest, event.occurred_us, shares)

    def divide_pools(self, label: str, revenues: Sequence[Revenue], terms: Terms) -> None:
        """Bring what apps declared to the lines of what their users used."""
        told: list[PoolTold] = []
        for pool, divided in settle(label, self.pool_uses, revenues, terms):
            told.append(pool)
            charge = self.charges.setdefault(pool.app, Charge())
            charge.pool += pool.pool_grains
            charge.platform += divided.platform
            for reason, grains in divided.common.items():
                bump(charge.common, reason, grains)
            for (work, *rest), grains in divided.lines.items():
                self.uses.add_due(str(work), self.uses.rest(cast("Rest", tuple(rest))), grains)
                charge.due += grains
        self.pools = tuple(told)
        self.pool_uses.clear()

    def refuse(self, event: MeteredEvent) -> None:
        """Remember an event without a price, for the refusal."""
        count, since = self.unpriced.get(event.model, (0, event.occurred_us))
        self.unpriced[event.model] = (count + 1, min(since, event.occurred_us))


@functools.lru_cache(maxsize=4_096)  # ten years of days
def day_text(day: int) -> str:
    """Return a day since 1970-01-01 as "2026-11-22"."""
    return iso_utc(day * DAY_US)[:10]


NO_LINKS: Final = AppLinks()


def roll_up(
    label: str,
    events: Iterable[MeteredEvent],
    terms: Terms,
    prices: PriceTable,
    links: AppLinks = NO_LINKS,
    *,
    folder: Path | None = None,
    revenues: Sequence[Revenue] = (),
) -> Rollup:
    """Return the sums of `events`, in any order, each once.

    links: whose own each app was, asked by the registry's number that the event carries. folder: where what
    memory should not hold is kept meanwhile. revenues: what was declared for pools of this period.
    Raises Conflict (code "unpriced_models") naming each model that has no price in the terms' currency, with
    how many events and since when, or (pool_undeclared, pool_unapproved) apps whose pool cannot be divided;
    nothing of the period can then be closed.
    """
    rollup = Rollup(Uses(folder))
    for event in events:
        count(rollup, event, terms, prices, links)
    finish(rollup, label, terms, revenues)
    return rollup


def count(rollup: Rollup, event: MeteredEvent, terms: Terms, prices: PriceTable, links: AppLinks) -> None:
    """Rate one event and count it."""
    rated = rate(event, terms, prices)
    if rated is None:
        rollup.refuse(event)
    else:
        pays_own = terms.at(event.occurred_us).pay_own_apps
        whose = "" if pays_own else links.creator_of(event.app_id, event.registry_seq)
        rollup.add(event, rated, whose)


def finish(rollup: Rollup, label: str, terms: Terms, revenues: Sequence[Revenue]) -> None:
    """Divide pools and sum what was counted. Raises Conflict as `roll_up` does."""
    if rollup.unpriced:
        raise _unpriced(label, rollup.unpriced, terms.currency)
    rollup.divide_pools(label, revenues, terms)
    rollup.uses.finish()


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

"""What another policy, or other prices, would have paid: a period computed twice, and nothing written.

Both sides are a close as the close does it, over the same answers, splits and links, so that a difference is
the rules' and nothing else's. What earlier periods held and let go is left out of both. The answers are read
once, a page at a time; sums are kept by work and by account, and statements are let go as soon as they are
summed, so memory follows the works and creators and not the answers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from proxy.access.links import AppLinks
from proxy.billing.money import decimal_text
from proxy.billing.pools import Revenue
from proxy.billing.prices import PriceTable
from proxy.billing.rating import Rater
from proxy.billing.rollup import Rollup, count, finish
from proxy.billing.schemes import Terms
from proxy.billing.statement import Books, Statement
from proxy.billing.statements import close_period
from proxy.billing.totals import Totals
from proxy.billing.uses import Uses
from proxy.metering.log_store import Page

ROWS_MAX: Final = 500  # of creators, of apps: those whose difference is largest
Pair = tuple[int, int]  # as it was, as it would be: grains


@dataclass(frozen=True, slots=True)
class Rules:
    """By what one side is computed. anew: prices that were recorded are not taken, each answer is priced."""

    terms: Terms
    prices: PriceTable
    anew: bool = False


@dataclass(frozen=True, slots=True)
class Paid:
    """What one side comes to. earned: grains by creator; charged: by app."""

    totals: Totals
    earned: Mapping[str, int]
    charged: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Preview:
    """Both sides of a period. is_open: not closed yet; as_booked: a closed one came out as it is booked."""

    period: str
    policy: str
    currency: str
    is_open: bool
    as_booked: bool | None
    before: Paid
    after: Paid
    creators: Mapping[str, str] = field(default_factory=dict[str, str])
    apps: Mapping[str, str] = field(default_factory=dict[str, str])


class _Dropped:
    """Takes transfers, of which the totals tell everything that is asked here, and keeps none."""

    def append(self, _item: object, /) -> None:
        """Let it go."""

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __len__(self) -> int:
        return 0


class _Earned(_Dropped):
    """Takes statements and keeps what each creator earned."""

    def __init__(self) -> None:
        self.by_creator: dict[str, int] = {}

    def append(self, item: Any, /) -> None:
        """Keep the sum of a statement."""
        statement: Statement = item
        self.by_creator[statement.creator] = statement.earned_grains


def rolled_up(
    label: str,
    pages: Iterable[Page],
    sides: Collection[Rules],
    links: AppLinks,
    revenues: Collection[Revenue],
    *,
    folder: Path | None = None,
) -> list[Rollup]:
    """Return the sums of the answers by each of `sides`, in order. Raises Conflict as `roll_up` does."""
    rollups = [Rollup(Uses(folder)) for _ in sides]
    raters = [Rater(one, rules.terms, links) for one, rules in zip(rollups, sides, strict=True)]
    for page in pages:
        for rollup, rater, rules in zip(rollups, raters, sides, strict=True):
            priced = _without_prices(page) if rules.anew else page
            for event in priced.answers(rater.count(priced)):
                count(rollup, event, rules.terms, rules.prices, links)
    for rollup, rules in zip(rollups, sides, strict=True):
        finish(rollup, label, rules.terms, list(revenues))
    return rollups


def paid(label: str, rollup: Rollup, terms: Terms, books: Books, closed_us: int) -> Paid:
    """Return what a close of the roll-up would pay. Raises Unbalanced as a close does."""
    earned = _Earned()
    closing = close_period(
        label=label,
        rollup=rollup,
        terms=terms,
        books=books,
        start_bounds={},
        end_bounds={},
        closed_us=closed_us,
        transfers=_Dropped(),
        statements=earned,
    )
    return Paid(closing.totals, earned.by_creator, closing.charged_by_app)


def _without_prices(page: Page) -> Page:
    version, grains = Page.PRICE_VERSION, Page.PRICE_GRAINS
    rows = [(*row[:version], "", None, *row[grains + 1 :]) for row in page.rows]
    return Page(rows, page.lines)


def told(preview: Preview, rows: int = ROWS_MAX) -> dict[str, Any]:
    """Return a preview as a command, /api and a page show it: the `rows` largest differences of each kind."""
    currency, before, after = preview.currency, preview.before, preview.after

    def amounts(pair: Pair) -> dict[str, Any]:
        told: dict[str, Any] = {}
        for name, grains in zip(("before", "after", "difference"), (*pair, pair[1] - pair[0]), strict=True):
            told |= {f"{name}_grains": grains, name: decimal_text(grains, currency)}
        return told

    def listed(kind: str, pairs: Mapping[str, Pair], names: Mapping[str, str]) -> list[dict[str, Any]]:
        order = sorted(pairs, key=lambda one: (-abs(pairs[one][1] - pairs[one][0]), one))
        return [{kind: one, "name": names.get(one, "")} | amounts(pairs[one]) for one in order[:rows]]

    creators, apps = _paired(before.earned, after.earned), _paired(before.charged, after.charged)
    changes = [then - now for now, then in creators.values()]
    return {
        "period": preview.period,
        "policy": preview.policy,
        "currency": currency,
        "is_open": preview.is_open,
        "as_booked": preview.as_booked,
        "events": before.totals.events,
        "accounts": [
            {"account": name} | amounts(pair)
            for name, pair in _paired(_accounts(before.totals), _accounts(after.totals)).items()
        ],
        "creators": listed("creator", creators, preview.creators),
        "apps": listed("app", apps, preview.apps),
        "counts": {
            "creators": len(creators),
            "apps": len(apps),
            "gain": sum(one > 0 for one in changes),
            "lose": sum(one < 0 for one in changes),
            "same": sum(one == 0 for one in changes),
        },
    }


def _paired(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, Pair]:
    names = dict.fromkeys((*before, *after))
    return {name: (before.get(name, 0), after.get(name, 0)) for name in names}


def _accounts(totals: Totals) -> dict[str, int]:
    """Return where money comes from and goes: charged = the rest together."""
    told = {
        "charged": totals.charged_grains,
        "creators": totals.creators_grains,
        "escrow": totals.escrow_grains,
        "platform": totals.platform_grains,
    }
    return told | {f"common:{reason}": grains for reason, grains in sorted(totals.common_grains.items())}

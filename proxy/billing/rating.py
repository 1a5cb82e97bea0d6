"""Many answers rated at once: plain royalties as columns, to the grain what schemes.py says one by one.

Most answers of a period are plain: their price was recorded, they pay a part of it, and none of their works
asks for more. What schemes.py computes for each of those is integer arithmetic and a largest remainder, and
over columns of a page of answers that costs a tenth. Everything else (direct rates, pools, floors, own apps,
unpriced and failed answers, amounts near 64 bits) is left to schemes.py, answer by answer.

The rule is one: `rate` and `Rollup.add` are what this must equal, and the tests compare the two.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import numpy as np
import numpy.typing as npt

from proxy.access.links import AppLinks
from proxy.billing.money import PPM, apportion
from proxy.billing.policies import medium_of
from proxy.billing.pools import Revenue
from proxy.billing.prices import PriceTable
from proxy.billing.rollup import DAY_US, NO_LINKS, Charge, Rollup, count, finish
from proxy.billing.schemes import HELD, UNATTRIBUTED, Terms
from proxy.billing.totals import bump
from proxy.billing.uses import Uses
from proxy.metering.log_store import Page

Integers = npt.NDArray[np.int64]
VERDICTS: Final = ("paid", "free", "prohibited")
_VERDICT_PLACE: Final = {verdict: place for place, verdict in enumerate(VERDICTS)}
# A price times a million stays below 2**63, and so do sums of a page of such prices.
PRICE_MAX: Final = 9 * 10**12
CLASSES_MAX: Final = 1 << 20  # of answers that differ in nothing but time, tokens and works: then begin anew
_DAY_BITS: Final = 22  # days up to the year 13000
# app, model, endpoint, outcome, estimated, price version, currency, reason, method
_said = operator.itemgetter(
    Page.APP, Page.MODEL, Page.ENDPOINT, Page.OUTCOME, Page.ESTIMATED, Page.PRICE_VERSION, Page.CURRENCY,
    Page.REASON, Page.METHOD,
)  # fmt: skip
_Said = tuple[str, str, str, str, bool, str, str, str, str]
_measured = operator.itemgetter(Page.OCCURRED_US, Page.PRICE_GRAINS, Page.UNATTRIBUTED_PPM)


@dataclass(frozen=True, slots=True)
class _Class:
    """Answers that say the same, and the terms they are paid by. royalty_ppm: -1 where they are not plain."""

    said: _Said
    terms: Terms
    royalty_ppm: int


def roll_up_pages(
    label: str,
    pages: Iterable[Page],
    terms: Terms,
    prices: PriceTable,
    links: AppLinks = NO_LINKS,
    *,
    folder: Path | None = None,
    revenues: Sequence[Revenue] = (),
) -> Rollup:
    """Return what `roll_up` returns of the pages' answers, and raise as it does."""
    rollup = Rollup(Uses(folder))
    rater = Rater(rollup, terms, links)
    for page in pages:
        for event in page.answers(rater.count(page)):
            count(rollup, event, terms, prices, links)
    finish(rollup, label, terms, revenues)
    return rollup


class Rater:
    """Counts the plain answers of pages into a roll-up."""

    def __init__(self, rollup: Rollup, terms: Terms, links: AppLinks) -> None:
        self._rollup, self._terms, self._links = rollup, terms, links
        self._since = np.array([since_us for since_us, _ in terms.later], np.int64)
        self._classes: list[_Class] = []
        self._places: dict[tuple[_Said, int], int] = {}
        self._royalties = np.zeros(0, np.int64)

    def count(self, page: Page) -> list[int]:
        """Count the page's plain answers; return the places of the others, in order."""
        if not page.rows:
            return []
        measured = [_measured(row) for row in page.rows]
        occurred = np.array([one[0] for one in measured], np.int64)
        price = np.array(
            [-1 if one[1] is None or one[1] > PRICE_MAX else one[1] for one in measured], np.int64
        )
        unattributed = np.array([one[2] for one in measured], np.int64)
        classes = self._classify(page, occurred)
        positions = np.array([row[Page.IDX] for row in page.rows], np.int64)
        line_positions, works, ppms, verdicts = zip(*page.lines, strict=True) if page.lines else ((),) * 4
        of = np.searchsorted(positions, np.array(line_positions, np.int64))
        ppm = np.array(ppms, np.int64)
        verdict = np.array([_VERDICT_PLACE[one] for one in verdicts], np.int64)
        royalty = self._royalties[classes]
        mass = unattributed.copy()
        np.add.at(mass, of, ppm)
        plain = (royalty >= 0) & (price >= 0) & (mass == PPM)
        if (floors := self._terms.asked.floors) and len(of):
            owners = self._terms.asked.owners
            asks = np.array([work in floors or owners.get(work, "") in floors for work in works], np.bool_)
            plain[of[asks]] = False
        base = np.where(plain, price * np.maximum(royalty, 0) // PPM, 0)
        parts = self._divided(page, base, of, ppm, unattributed, works)
        lines = plain[of]
        self._sum_up(
            classes[plain], occurred[plain], price[plain], unattributed[plain], parts[len(of) :][plain]
        )
        if lines.any():
            of, ppm, verdict = of[lines], ppm[lines], verdict[lines]
            part = parts[: len(lines)][lines]
            self._sum_up_lines(classes[of], verdict, ppm, part)
            named = works if lines.all() else [works[place] for place in _list(np.flatnonzero(lines))]
            rests = self._rests(classes[of], verdict, occurred[of] // DAY_US)
            due = np.where(verdict == 0, part, 0)
            self._rollup.uses.add_columns(named, rests, ppm, price[of], due)
        return _list(np.flatnonzero(~plain))

    def _classify(self, page: Page, occurred: Integers) -> Integers:
        """Return each answer's class by number, entering those not met before."""
        if len(self._classes) > CLASSES_MAX:
            self._classes.clear()
            self._places.clear()
            self._royalties = np.zeros(0, np.int64)
        intervals = np.searchsorted(self._since, occurred, side="right")
        said = cast("Iterable[_Said]", map(_said, page.rows))
        keys = list(zip(said, _list(intervals), strict=True))
        for key in dict.fromkeys(keys):
            if key not in self._places:
                self._places[key] = len(self._classes)
                self._classes.append(self._class(*key))
        if len(self._royalties) != len(self._classes):
            self._royalties = np.array([one.royalty_ppm for one in self._classes], np.int64)
        return np.array([self._places[key] for key in keys], np.int64)

    def _class(self, said: _Said, interval: int) -> _Class:
        held = self._terms.later[interval - 1][1] if interval else self._terms
        app, model, endpoint, outcome, _, _, currency, _, _ = said
        chosen = held.chosen(app, model, medium_of(endpoint))
        is_own = not held.pay_own_apps and app in self._links.history
        is_plain = (
            chosen.scheme == "royalty"
            and outcome != "failed"
            and currency == self._terms.currency
            and not is_own
        )
        return _Class(said, held, chosen.royalty_ppm if is_plain else -1)

    def _divided(
        self,
        page: Page,
        base: Integers,
        of: Integers,
        ppm: Integers,
        unattributed: Integers,
        works: tuple[str, ...],
    ) -> Integers:
        """Return each answer's `base` divided: the parts of all lines, then of all that is unattributed."""
        count = len(base)
        answer = np.concatenate([of, np.arange(count)])
        weight = np.concatenate([ppm, unattributed])
        exact = base[answer] * weight
        parts = exact // PPM
        remainder = exact - parts * PPM
        left = base.copy()
        np.subtract.at(left, answer, parts)
        # By answer, then the largest remainder first: a remainder is below 2**20.
        # Which of equal remainders is first does not matter: where they meet at the cut, names decide.
        order = np.argsort(answer << 20 | (PPM - remainder))
        first = np.searchsorted(answer[order], np.arange(count))
        rank = np.arange(len(order)) - first[answer[order]]
        lucky = order[rank < left[answer[order]]]
        parts[lucky] += 1
        sorted_remainder = np.append(remainder[order], -1)
        owed = np.flatnonzero(left > 0)
        cut = first[owed] + left[owed]
        bounds = np.append(first, len(order))
        tied = owed[(cut < bounds[owed + 1]) & (sorted_remainder[cut - 1] == sorted_remainder[cut])]
        for place in _list(tied):
            mine = order[bounds[place] : bounds[place + 1]]
            keys = [works[one] if one < len(works) else UNATTRIBUTED for one in _list(mine)]
            said = page.rows[place][Page.ID]
            parts[mine] = apportion(int(base[place]), _list(weight[mine]), said, keys.__getitem__)
        return parts

    def _sum_up(
        self, classes: Integers, occurred: Integers, price: Integers, unattributed: Integers, rest: Integers
    ) -> None:
        """Count answers by class. rest: what of each royalty no work explains."""
        roll = self._rollup
        if not len(classes):
            return
        roll.first_us = min(roll.first_us or int(occurred[0]), int(occurred.min()))
        roll.last_us = max(roll.last_us, int(occurred.max()))
        met, place = _groups(classes)
        columns = (np.ones_like(price), price, unattributed, rest)
        sums: list[list[int]] = [_by(place, len(met), column) for column in columns]
        for at, one in enumerate(self._classes[number] for number in met):
            answers, grains, ppm, left = (column[at] for column in sums)
            app, _, _, outcome, estimated, version, _, reason, method = one.said
            roll.events += answers
            roll.estimated += answers if estimated else 0
            bump(roll.outcomes, outcome, answers)
            if reason:
                bump(roll.unscored, reason, answers)
            for seen, value in (
                (roll.versions, version),
                (roll.methods, method),
                (roll.policies, one.terms.policy),
            ):
                if value:
                    seen.add(value)
            roll.royalties.add(one.royalty_ppm)
            roll.price += grains
            bump(roll.masses, "unattributed", ppm)
            charge = roll.charges.setdefault(app, Charge())
            if reason in HELD or one.terms.unattributed == "common":
                if left:
                    bump(charge.common, reason or "unattributed", left)
            elif one.terms.unattributed == "platform":
                charge.platform += left
            else:
                roll.not_charged += left

    def _sum_up_lines(self, classes: Integers, verdict: Integers, ppm: Integers, part: Integers) -> None:
        """Count lines by class and verdict: what paid works are due, and where the rest goes."""
        roll = self._rollup
        met, place = _groups(classes * len(VERDICTS) + verdict)
        masses, parts = _by(place, len(met), ppm), _by(place, len(met), part)
        for key, mass, grains in zip(met, masses, parts, strict=True):
            number, kind = divmod(key, len(VERDICTS))
            charge = roll.charges[self._classes[number].said[0]]
            bump(roll.masses, VERDICTS[kind], mass)
            if VERDICTS[kind] == "paid":
                charge.due += grains
            elif grains:
                bump(charge.common, VERDICTS[kind], grains)

    def _rests(self, classes: Integers, verdict: Integers, day: Integers) -> Integers:
        """Return, by line, the number of what it says beside its work."""
        met, place = _groups((classes * len(VERDICTS) + verdict) << _DAY_BITS | day)
        numbers: list[int] = []
        for key in met:
            number, kind = divmod(key >> _DAY_BITS, len(VERDICTS))
            app, model = self._classes[number].said[:2]
            rest = (app, model, key & (1 << _DAY_BITS) - 1, "royalty", VERDICTS[kind], "")
            numbers.append(self._rollup.uses.rest(rest))
        return np.array(numbers, np.int64)[place]


def _groups(keys: Integers) -> tuple[list[int], Integers]:
    """Return the different keys, and which of them each is."""
    met, place = np.unique(keys, return_inverse=True)
    return _list(met), place


def _by(place: Integers, count: int, column: Integers) -> list[int]:
    """Return the exact sums of a column by place; the page's bounds keep them below 64 bits."""
    sums = np.zeros(count, np.int64)
    np.add.at(sums, place, column)
    return _list(sums)


def _list(column: Integers) -> list[int]:
    return cast("list[int]", column.tolist())

"""What is out of the ordinary in a closed period: whose part is very large, who is paid by one app, who grew.

Pay by measured use can be farmed: ask for one's own works through an app that nobody has linked, or write
what every answer says. Neither can be seen in one answer; both show in sums. Nothing here is proof, and
nothing is withheld by it: it names what a person should look at, and in words why.

Pure: it is fed the statements of a period one by one and keeps one sum for each creator, work and app.
Parts are in ppm of what creators earned, rounded down; there are no fractions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from proxy.billing.money import PPM, decimal_text, parse
from proxy.billing.statement import OWN_APP, Statement
from proxy.billing.totals import Totals, bump
from proxy.errors import SettingsError
from proxy.settings import Concentration


class Flag(msgspec.Struct, frozen=True, kw_only=True):
    """Something to look at. kind: as below; subject: a creator's or work's id, "" for the period itself."""

    kind: str
    subject: str
    name: str
    reason: str


class CreatorRow(msgspec.Struct, frozen=True, kw_only=True):
    """One creator's part of a period. growth_ppm: of what they earned the period before; None without one."""

    creator: str
    name: str
    earned_grains: int
    part_ppm: int
    works: int
    top_app: str
    top_app_ppm: int
    previous_grains: int
    growth_ppm: int | None
    registered: int


class WorkRow(msgspec.Struct, frozen=True, kw_only=True):
    """One work's part of a period, over all its parties."""

    work: str
    title: str
    earned_grains: int
    part_ppm: int
    apps: int
    top_app: str
    top_app_ppm: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A period's concentration: sums, the largest creators and works, and what to look at."""

    label: str
    previous: str
    currency: str
    creators_grains: int
    own_app_grains: int
    creators: int
    works: int
    apps: int
    herfindahl_creators_ppm: int
    herfindahl_works_ppm: int
    works_registered: int
    top_creators: tuple[CreatorRow, ...]
    top_works: tuple[WorkRow, ...]
    flags: tuple[Flag, ...]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The operator's [concentration], its amount read once."""

    least_grains: int
    rules: Concentration

    @classmethod
    def from_settings(cls, rules: Concentration, currency: str) -> Thresholds:
        """Compile `rules`. Raises SettingsError for an amount that cannot be read."""
        try:
            least = parse(rules.least_earned, currency)
        except (ValueError, OverflowError) as error:
            raise SettingsError(
                f"concentration.least_earned: {error}", remedy='write an amount like "10"'
            ) from error
        return cls(least, rules)


@dataclass(slots=True)
class _Sums:
    """What one creator or one work earned, by app."""

    name: str = ""
    by_app: dict[str, int] = field(default_factory=dict[str, int])
    works: set[str] = field(default_factory=set[str])

    @property
    def earned(self) -> int:
        return sum(self.by_app.values())

    @property
    def top(self) -> tuple[str, int]:
        """The app that paid most, and its part in ppm; ties by name, so that a report is the same twice."""
        named = [name for name in self.by_app if name]  # what a decided claim let go is of no one app
        if not self.earned or not named:
            return "", 0
        app = min(named, key=lambda name: (-self.by_app[name], name))
        return app, self.by_app[app] * PPM // self.earned


@dataclass(slots=True)
class Tally:
    """Feed it every statement of one period with `add`."""

    creators: dict[str, _Sums] = field(default_factory=dict[str, _Sums])
    works: dict[str, _Sums] = field(default_factory=dict[str, _Sums])
    app_names: dict[str, str] = field(default_factory=dict[str, str])
    apps: set[str] = field(default_factory=set[str])

    def add(self, statement: Statement) -> None:
        """Take one creator's statement in."""
        person = self.creators.setdefault(statement.creator, _Sums(statement.name))
        self.app_names.update(statement.app_names)
        for line in statement.lines:
            if line.net_grains:
                bump(person.by_app, line.app, line.net_grains)
                person.works.add(line.work)
                if line.app:
                    self.apps.add(line.app)
                work = self.works.setdefault(line.work, _Sums(line.title))
                bump(work.by_app, line.app, line.net_grains)


def tally(statements: Iterable[Statement]) -> Tally:
    """Return the sums of a period's statements, in any order."""
    result = Tally()
    for statement in statements:
        result.add(statement)
    return result


def report(
    label: str,
    totals: Totals,
    period: Tally,
    thresholds: Thresholds,
    *,
    currency: str,
    previous: str = "",
    before: Mapping[str, int] | None = None,
    registered: Mapping[str, int] | None = None,
) -> Report:
    """Return what is concentrated in a period.

    previous, before: the period before and {creator: what they earned in it}; registered: {creator: works
    registered since then}.
    """
    made = _Report(label, period, thresholds, currency, previous, before or {}, registered or {})
    return made.report(totals)


@dataclass(frozen=True, slots=True)
class _Report:
    label: str
    period: Tally
    thresholds: Thresholds
    currency: str
    previous: str
    before: Mapping[str, int]
    registered: Mapping[str, int]

    def report(self, totals: Totals) -> Report:
        rules = self.thresholds.rules
        earned = {who: sums.earned for who, sums in self.period.creators.items()}
        by_work = {work: sums.earned for work, sums in self.period.works.items()}
        creators = [self._creator(who, earned) for who in _largest_first(earned)]
        works = [self._work(work, by_work) for work in _largest_first(by_work)]
        spread = _herfindahl(earned)
        flags = [*self._of_period(spread), *self._of_creators(creators), *self._of_works(works)]
        return Report(
            label=self.label,
            previous=self.previous,
            currency=self.currency,
            creators_grains=sum(earned.values()),
            own_app_grains=totals.common_grains.get(OWN_APP, 0),
            creators=sum(1 for grains in earned.values() if grains),
            works=len(works),
            apps=len(self.period.apps),
            herfindahl_creators_ppm=spread,
            herfindahl_works_ppm=_herfindahl(by_work),
            works_registered=sum(self.registered.values()),
            top_creators=tuple(creators[: rules.top_rows]),
            top_works=tuple(works[: rules.top_rows]),
            flags=tuple(flags),
        )

    def _creator(self, who: str, earned: Mapping[str, int]) -> CreatorRow:
        sums, total = self.period.creators[who], sum(earned.values())
        app, app_ppm = sums.top
        old = self.before.get(who, 0)
        return CreatorRow(
            creator=who,
            name=sums.name,
            earned_grains=earned[who],
            part_ppm=earned[who] * PPM // total if total else 0,
            works=len(sums.works),
            top_app=app,
            top_app_ppm=app_ppm,
            previous_grains=old,
            growth_ppm=earned[who] * PPM // old if old else None,
            registered=self.registered.get(who, 0),
        )

    def _work(self, work: str, earned: Mapping[str, int]) -> WorkRow:
        sums, total = self.period.works[work], sum(earned.values())
        app, app_ppm = sums.top
        return WorkRow(
            work=work,
            title=sums.name,
            earned_grains=earned[work],
            part_ppm=earned[work] * PPM // total if total else 0,
            apps=len(sums.by_app),
            top_app=app,
            top_app_ppm=app_ppm,
        )

    def _of_period(self, spread: int) -> list[Flag]:
        most = self.thresholds.rules.herfindahl_ppm
        if spread <= most:
            return []
        reason = (
            f"the sum of squared parts of creators is {percent(spread)}; over {percent(most)} few earn most"
        )
        return [Flag(kind="period", subject="", name=self.label, reason=reason)]

    def _of_creators(self, rows: list[CreatorRow]) -> list[Flag]:
        rules, flags = self.thresholds.rules, list[Flag]()
        for row in rows:
            if row.earned_grains < self.thresholds.least_grains:
                continue
            reasons: list[tuple[str, str]] = []
            if row.part_ppm > rules.creator_ppm:
                reasons.append(("large_part", f"earned {percent(row.part_ppm)} of what all creators earned"))
            if row.top_app_ppm > rules.one_app_ppm and len(self.period.apps) > 1:
                app = self._app(row.top_app)
                reasons.append(("one_app", f"{percent(row.top_app_ppm)} of it comes from one app, {app}"))
            if row.growth_ppm is not None and row.growth_ppm > rules.growth_ppm:
                times, tenth = divmod(row.growth_ppm * 10 // PPM, 10)
                reasons.append(("growth", f"earned {times}.{tenth} times as much as in {self.previous}"))
            if self.previous and row.growth_ppm is None and row.part_ppm > rules.creator_ppm:
                reasons.append(("newcomer", f"earned nothing in {self.previous}"))
            flags += [
                Flag(
                    kind=kind,
                    subject=row.creator,
                    name=row.name,
                    reason=self._with_sum(why, row.earned_grains),
                )
                for kind, why in reasons
            ]
        return flags

    def _of_works(self, rows: list[WorkRow]) -> list[Flag]:
        rules, flags = self.thresholds.rules, list[Flag]()
        for row in rows:
            if row.earned_grains < self.thresholds.least_grains:
                continue
            reasons: list[tuple[str, str]] = []
            if row.part_ppm > rules.work_ppm:
                reasons.append(("large_work", f"earned {percent(row.part_ppm)} of what all works earned"))
            if len(self.period.apps) == 1:
                pass  # where one app asks for everything, that it does says nothing of a work
            elif row.apps == 1:
                reasons.append(("work_of_one_app", f"is used by one app only, {self._app(row.top_app)}"))
            elif row.top_app_ppm > rules.one_app_ppm:
                app = self._app(row.top_app)
                reasons.append(
                    ("work_mostly_one_app", f"{percent(row.top_app_ppm)} of it comes from one app, {app}")
                )
            flags += [
                Flag(
                    kind=kind, subject=row.work, name=row.title, reason=self._with_sum(why, row.earned_grains)
                )
                for kind, why in reasons
            ]
        return flags

    def _app(self, app: str) -> str:
        return self.period.app_names.get(app, app)

    def _with_sum(self, why: str, grains: int) -> str:
        return f"{why} ({decimal_text(grains, self.currency)} {self.currency})"


def percent(part_ppm: int) -> str:
    """Return a part as "41.2 %", cut and not rounded."""
    return f"{part_ppm // 10_000}.{part_ppm % 10_000 // 1_000} %"


def _herfindahl(parts: Mapping[str, int]) -> int:
    """Return the sum of squared parts in ppm: all of it when one has all, a tenth when ten share alike."""
    total = sum(parts.values())
    return sum(part * part for part in parts.values()) * PPM // (total * total) if total else 0


def _largest_first(parts: Mapping[str, int]) -> list[str]:
    return sorted((name for name, grains in parts.items() if grains), key=lambda name: (-parts[name], name))

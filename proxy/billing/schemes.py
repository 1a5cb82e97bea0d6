"""What one answer pays, by the rules in force when it was given: a pure function of event, terms and prices.

Three schemes. *royalty* gives the works a fixed part of the answer's price, divided by share. *direct* pays
each work its rate times its share, whatever the answer cost. *pool* pays nothing by the answer: its shares
count when a declared revenue is divided at the close (pools.py). Which one holds is decided per app, model
and medium, first match, by the policy of that time (policies.py). A work may ask for a floor price.

Every grain of a royalty is named: what a paid work earned, and for the rest the reason it went elsewhere. A
work used against its creator's will earns nothing and nobody profits: its part goes to the common account as
"prohibited". docs/money.md, "What one answer pays", is the normative text.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from proxy.billing.floors import NOTHING_ASKED, Asked
from proxy.billing.money import PPM, allocate, checked, parse
from proxy.billing.policies import Agenda, Policy, medium_of, of_settings
from proxy.billing.prices import PriceTable
from proxy.errors import SettingsError
from proxy.metering.usage import Line, MeteredEvent
from proxy.settings import Billing, PoolRule

SchemeName = Literal["royalty", "direct", "pool"]
_Match = Callable[[str], re.Match[str] | None]
UNATTRIBUTED: Final = "~unattributed"  # no work's id begins with a tilde
BELOW_FLOOR: Final = "below_floor"  # the verdict of a use that pays less than its work asks for
# Answers that were given but never scored: their money is held in the common account under the reason, in
# every mode, because saying "no work was used" would be a guess.
HELD: Final = frozenset({"not_attributed", "cut_by_crash"})
CHOICES_KEPT_MAX: Final = 4_096  # apps by models by media that were looked up; clients choose models' names
RATES_KEPT_MAX: Final = 65_536  # works by models by media likewise


@dataclass(frozen=True, slots=True)
class Rated:
    """What one answer pays. `dues` follow the event's lines; every other grain has its reason.

    price_grains: what the answer cost, 0 under direct and pool, where it plays no part. not_charged_grains:
    the unattributed part of a royalty that the app is not asked for; told, never booked. policy: the id of
    the rules. rates: of a whole answer, by line, under direct. royalty_ppm: under royalty, else 0.
    below_floor: works that are paid nothing here, because this use pays less than they ask for.
    """

    scheme: SchemeName
    price_grains: int
    price_version: str
    dues: tuple[int, ...]
    common: tuple[tuple[str, int], ...] = ()
    platform_grains: int = 0
    not_charged_grains: int = 0
    policy: str = ""
    rates: tuple[int, ...] = ()
    royalty_ppm: int = 0
    below_floor: frozenset[str] = frozenset()

    def verdict_of(self, line: Line) -> str:
        """Return what a line says of this use: as metered, or that its floor was not reached."""
        return BELOW_FLOOR if line.work in self.below_floor else line.verdict


@dataclass(frozen=True, slots=True)
class Chosen:
    """What holds for one app, model and medium."""

    scheme: SchemeName
    royalty_ppm: int


@dataclass(frozen=True, slots=True)
class Terms:
    """One policy, amounts read once, and whatever policies followed it.

    pay_own_apps: whether a creator's own app earns them anything. later: (from when, terms), oldest first;
    `at` returns what holds at a time. asked: what works ask for by themselves. policy_seq: up to which
    activation policies were read.
    """

    currency: str
    royalty_ppm: int
    unattributed: Literal["common", "platform", "not_charged"]
    chosen: Callable[[str, str, str], Chosen]
    rate_of: Callable[[str, str, str], int]
    pool_of: Callable[[str], PoolRule]
    pay_own_apps: bool = False
    floor: Literal["exclude", "top_up"] = "exclude"
    floor_max_grains: int = 0
    policy: str = ""
    later: tuple[tuple[int, Terms], ...] = ()
    asked: Asked = NOTHING_ASKED
    policy_seq: int = 0

    def at(self, occurred_us: int) -> Terms:
        """Return the terms in force at a time."""
        held = self
        for since_us, terms in self.later:
            if since_us > occurred_us:
                break
            held = terms
        return held

    @classmethod
    def from_settings(cls, billing: Billing) -> Terms:
        """Compile `billing` as the only policy. Raises SettingsError for an amount that cannot be read."""
        return cls.of(of_settings(billing))

    @classmethod
    def of_agenda(cls, agenda: Agenda, asked: Asked = NOTHING_ASKED) -> Terms:
        """Compile a default and all policies that follow it.

        Raises SettingsError for an amount that cannot be read, and for policies in different currencies.
        """
        later = tuple((since_us, cls.of(policy, asked)) for since_us, policy in agenda.dated)
        first = cls.of(agenda.default, asked, later, agenda.seq)
        for _, terms in later:
            if terms.currency != first.currency:
                raise SettingsError(
                    f"policy {terms.policy} is in {terms.currency}, [billing] currency is {first.currency}",
                    remedy="one ledger of periods has one currency; activate a policy in it",
                )
        return first

    @classmethod
    def of(
        cls,
        policy: Policy,
        asked: Asked = NOTHING_ASKED,
        later: tuple[tuple[int, Terms], ...] = (),
        policy_seq: int = 0,
    ) -> Terms:
        """Compile one policy. Raises SettingsError naming the amount that cannot be read."""
        rules = policy.rules
        return cls(
            currency=rules.currency,
            royalty_ppm=rules.royalty_ppm,
            unattributed=rules.unattributed,
            chosen=_chooser(rules),
            rate_of=_rates(rules, asked.owners),
            pool_of=_pools(rules),
            pay_own_apps=rules.pay_own_apps,
            floor=rules.floor,
            floor_max_grains=_rate("billing.floor_max", rules.floor_max, rules.currency),
            policy=policy.id,
            later=later,
            asked=asked,
            policy_seq=policy_seq,
        )


def _chooser(rules: Billing) -> Callable[[str, str, str], Chosen]:
    usual = Chosen(rules.scheme, rules.royalty_ppm)
    rows = [
        (
            _pattern(row.app),
            _pattern(row.model),
            _pattern(row.medium),
            Chosen(row.scheme, rules.royalty_ppm if row.royalty_ppm is None else row.royalty_ppm),
        )
        for row in rules.schemes
    ]

    @functools.lru_cache(maxsize=CHOICES_KEPT_MAX)
    def chosen(app: str, model: str, medium: str) -> Chosen:
        for matches_app, matches_model, matches_medium, choice in rows:
            if matches_app(app) and matches_model(model) and matches_medium(medium):
                return choice
        return usual

    return chosen


def _rates(rules: Billing, owners: Mapping[str, str]) -> Callable[[str, str, str], int]:
    default = _rate("billing.rate", rules.rate, rules.currency)
    rows = [
        (
            _pattern(row.work),
            _pattern(row.creator),
            _pattern(row.model),
            _pattern(row.medium),
            _rate(f"billing.rates[{n}].amount", row.amount, rules.currency),
        )
        for n, row in enumerate(rules.rates)
    ]

    @functools.lru_cache(maxsize=RATES_KEPT_MAX)
    def rate_of(work: str, model: str, medium: str) -> int:
        whose = owners.get(work, "")
        for of_work, of_creator, of_model, of_medium, grains in rows:
            if of_work(work) and of_creator(whose) and of_model(model) and of_medium(medium):
                return grains
        return default

    return rate_of


def _pools(rules: Billing) -> Callable[[str], PoolRule]:
    rows = [(_pattern(row.app), row) for row in rules.pools]
    usual = PoolRule()

    @functools.lru_cache(maxsize=CHOICES_KEPT_MAX)
    def pool_of(app: str) -> PoolRule:
        return next((row for matches_app, row in rows if matches_app(app)), usual)

    return pool_of


def _pattern(text: str) -> _Match:
    return re.compile(".*".join(re.escape(piece) for piece in text.split("*")), re.DOTALL).fullmatch


def _rate(key: str, text: str, currency: str) -> int:
    try:
        grains = parse(text, currency)
    except (ValueError, OverflowError) as error:
        raise SettingsError(f"{key}: {error}", remedy='write an amount like "0.002"') from error
    if grains < 0:
        raise SettingsError(f"{key} is negative", remedy="a rate is 0 or more")
    return grains


def rate(event: MeteredEvent, terms: Terms, prices: PriceTable) -> Rated | None:
    """Return what `event` pays, or None when its scheme needs a price and none is known.

    The price recorded with the event stands; one that was recorded without is priced by the table in force
    when it occurred. Raises SettingsError when the table is in another currency than the terms.
    """
    held = terms.at(event.occurred_us)
    medium = medium_of(event.endpoint)
    chosen = held.chosen(event.app_id, event.model, medium)
    if chosen.scheme == "direct":
        return _direct(event, held, medium)
    if chosen.scheme == "pool":
        refused = frozenset(
            line.work
            for line in event.lines
            if line.verdict == "paid" and _is_too_dear(held, line.work, event.registry_seq)
        )
        dues = (0,) * len(event.lines)
        return Rated("pool", 0, "", dues, policy=held.policy, below_floor=refused)
    priced = _price(event, terms, prices)
    return None if priced is None else _royalty(event, held, chosen.royalty_ppm, priced)


def _direct(event: MeteredEvent, held: Terms, medium: str) -> Rated:
    dues: list[int] = []
    rates: list[int] = []
    refused: set[str] = set()
    for line in event.lines:
        agreed = held.asked.rate(line.work, event.registry_seq)
        grains = held.rate_of(line.work, event.model, medium) if agreed is None else agreed
        floor = held.asked.floor(line.work, event.registry_seq)
        if line.verdict == "paid" and floor > max(held.floor_max_grains, grains):
            refused.add(line.work)
        rates.append(max(grains, floor))
        is_paid = line.verdict == "paid" and line.work not in refused
        dues.append(_part(line.ppm, rates[-1]) if is_paid else 0)
    return Rated(
        "direct",
        0,
        "",
        tuple(dues),
        policy=held.policy,
        rates=tuple(rates),
        below_floor=frozenset(refused),
    )


def _part(ppm: int, grains: int) -> int:
    """Return the part of a whole answer's price that `ppm` of it is due, rounded up."""
    return checked(-(-ppm * grains // PPM))


def _is_too_dear(held: Terms, work: str, seq: int) -> bool:
    """Whether a work's floor shuts a use out that by itself pays less, or nothing by the answer."""
    floor = held.asked.floor(work, seq)
    return floor > held.floor_max_grains or (floor > 0 and held.floor == "exclude")


def _royalty(event: MeteredEvent, held: Terms, royalty_ppm: int, priced: tuple[int, str]) -> Rated:
    grains, version = priced
    base = grains * royalty_ppm // PPM
    weights = [(line.work, line.ppm) for line in event.lines]
    parts = allocate(base, [*weights, (UNATTRIBUTED, event.unattributed_ppm)], event.id)
    is_given = event.outcome != "failed" or event.output_tokens > 0
    common: dict[str, int] = {}
    dues: list[int] = []
    refused: set[str] = set()
    for line in event.lines:
        due, verdict = parts[line.work], str(line.verdict)
        least = _part(line.ppm, held.asked.floor(line.work, event.registry_seq)) if is_given else 0
        if verdict == "paid" and due < least:
            if _is_too_dear(held, line.work, event.registry_seq):
                verdict = BELOW_FLOOR
                refused.add(line.work)
            else:
                due = least
        dues.append(due if verdict == "paid" else 0)
        if verdict != "paid" and due:
            common[verdict] = common.get(verdict, 0) + due
    rest, platform, not_charged = parts[UNATTRIBUTED], 0, 0
    if event.reason in HELD:
        common[event.reason] = rest
    elif held.unattributed == "common":
        common[event.reason or "unattributed"] = rest
    elif held.unattributed == "platform":
        platform = rest
    else:
        not_charged = rest
    return Rated(
        "royalty",
        grains,
        version,
        tuple(dues),
        tuple((reason, amount) for reason, amount in common.items() if amount),
        platform,
        not_charged,
        policy=held.policy,
        royalty_ppm=royalty_ppm,
        below_floor=frozenset(refused),
    )


def _price(event: MeteredEvent, terms: Terms, prices: PriceTable) -> tuple[int, str] | None:
    if event.outcome == "failed" and not event.output_tokens:
        return 0, ""  # nothing was given, so nothing is owed, whatever the model would have cost
    if event.price_grains is not None:
        return (event.price_grains, event.price_version) if event.currency == terms.currency else None
    price = prices.price(
        event.model,
        event.occurred_us,
        event.input_tokens,
        event.output_tokens,
        event.images,
        event.milliseconds,
    )
    if price is None:
        return None
    if price.currency != terms.currency:
        raise SettingsError(
            f"price table {price.version} is in {price.currency}, [billing] currency is {terms.currency}",
            remedy="write the prices in the currency you bill in",
        )
    return price.grains, price.version

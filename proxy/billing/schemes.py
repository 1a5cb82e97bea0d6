"""What one answer pays, by the rules in force: a pure function of the event, the terms and the prices.

Two schemes. *royalty* gives the works a fixed part of the answer's price, divided by share. *direct* pays
each work its rate times its share, whatever the answer cost. Which one holds is decided per app and model,
first match.

Every grain of a royalty is named: what a paid work earned, and for the rest the reason it went elsewhere. A
work used against its creator's will earns nothing and nobody profits: its part goes to the common account as
"prohibited". docs/money.md, "What one answer pays", is the normative text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from proxy.billing.money import PPM, allocate, checked, parse
from proxy.billing.prices import PriceTable
from proxy.errors import SettingsError
from proxy.metering.usage import MeteredEvent
from proxy.settings import Billing

SchemeName = Literal["royalty", "direct"]
_Match = Callable[[str], re.Match[str] | None]
UNATTRIBUTED: Final = "~unattributed"  # no work's id begins with a tilde
# Answers that were given but never scored: their money is held in the common account under the reason, in
# every mode, because saying "no work was used" would be a guess.
HELD: Final = frozenset({"not_attributed", "cut_by_crash"})


@dataclass(frozen=True, slots=True)
class Rated:
    """What one answer pays. `dues` follow the event's lines; every other grain has its reason.

    price_grains: what the answer cost, 0 under direct, where it plays no part. not_charged_grains: the
    unattributed part of a royalty that the app is not asked for; told, never booked.
    """

    scheme: SchemeName
    price_grains: int
    price_version: str
    dues: tuple[int, ...]
    common: tuple[tuple[str, int], ...] = ()
    platform_grains: int = 0
    not_charged_grains: int = 0


@dataclass(frozen=True, slots=True)
class Terms:
    """The operator's [billing] rules, amounts read once.

    pay_own_apps: whether a creator's own app earns them anything.
    """

    currency: str
    royalty_ppm: int
    unattributed: Literal["common", "platform", "not_charged"]
    scheme_of: Callable[[str, str], SchemeName]
    rate_of: Callable[[str, str], int]
    pay_own_apps: bool = False

    @classmethod
    def from_settings(cls, billing: Billing) -> Terms:
        """Compile `billing`. Raises SettingsError naming the amount that cannot be read."""
        usual: SchemeName = billing.scheme
        default = _rate("billing.rate", billing.rate, billing.currency)
        rates: list[tuple[_Match, _Match, int]] = [
            (
                _pattern(rule.work),
                _pattern(rule.model),
                _rate(f"billing.rates[{n}].amount", rule.amount, billing.currency),
            )
            for n, rule in enumerate(billing.rates)
        ]
        schemes: list[tuple[_Match, _Match, SchemeName]] = [
            (_pattern(rule.app), _pattern(rule.model), rule.scheme) for rule in billing.schemes
        ]

        def scheme_of(app: str, model: str) -> SchemeName:
            for matches_app, matches_model, name in schemes:
                if matches_app(app) and matches_model(model):
                    return name
            return usual

        def rate_of(work: str, model: str) -> int:
            for matches_work, matches_model, grains in rates:
                if matches_work(work) and matches_model(model):
                    return grains
            return default

        return cls(
            billing.currency,
            billing.royalty_ppm,
            billing.unattributed,
            scheme_of,
            rate_of,
            billing.pay_own_apps,
        )


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
    if terms.scheme_of(event.app_id, event.model) == "direct":
        dues = tuple(
            checked(-(-line.ppm * terms.rate_of(line.work, event.model) // PPM))
            if line.verdict == "paid"
            else 0
            for line in event.lines
        )
        return Rated("direct", 0, "", dues)
    priced = _price(event, terms, prices)
    if priced is None:
        return None
    grains, version = priced
    base = grains * terms.royalty_ppm // PPM
    weights = [(line.work, line.ppm) for line in event.lines]
    parts = allocate(base, [*weights, (UNATTRIBUTED, event.unattributed_ppm)], event.id)
    common: dict[str, int] = {}
    for line in event.lines:
        if line.verdict != "paid" and parts[line.work]:
            common[line.verdict] = common.get(line.verdict, 0) + parts[line.work]
    dues = tuple(parts[line.work] if line.verdict == "paid" else 0 for line in event.lines)
    rest, platform, not_charged = parts[UNATTRIBUTED], 0, 0
    if event.reason in HELD:
        common[event.reason] = rest
    elif terms.unattributed == "common":
        common[event.reason or "unattributed"] = rest
    elif terms.unattributed == "platform":
        platform = rest
    else:
        not_charged = rest
    named = tuple((reason, amount) for reason, amount in common.items() if amount)
    return Rated("royalty", grains, version, dues, named, platform, not_charged)


def _price(event: MeteredEvent, terms: Terms, prices: PriceTable) -> tuple[int, str] | None:
    if event.outcome == "failed" and not event.output_tokens:
        return 0, ""  # nothing was given, so nothing is owed, whatever the model would have cost
    if event.price_grains is not None:
        return (event.price_grains, event.price_version) if event.currency == terms.currency else None
    price = prices.price(event.model, event.occurred_us, event.input_tokens, event.output_tokens)
    if price is None:
        return None
    if price.currency != terms.currency:
        raise SettingsError(
            f"price table {price.version} is in {price.currency}, [billing] currency is {terms.currency}",
            remedy="write the prices in the currency you bill in",
        )
    return price.grains, price.version

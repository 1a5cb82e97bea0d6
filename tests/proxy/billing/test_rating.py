"""Pages of answers rated as columns, against each answer rated by itself: equal in everything a close reads."""

import dataclasses
import random

import msgspec
import pytest

from proxy.access.links import AppLinks
from proxy.billing import rating
from proxy.billing.floors import Asked
from proxy.billing.policies import Activation, Agenda, Policy, of_settings
from proxy.billing.prices import load
from proxy.billing.rating import Rater, roll_up_pages
from proxy.billing.rollup import Rollup, roll_up
from proxy.billing.schemes import Terms
from proxy.billing.uses import Uses
from proxy.errors import Conflict
from proxy.metering.log_store import Page
from proxy.metering.usage import PPM, Line
from proxy.settings import Billing, Scheme

PRICES = load()


def pages_of(events, size):
    """The answers as the store's driver gives them."""
    for start in range(0, len(events), size):
        rows, lines = [], []
        for idx, event in enumerate(events[start : start + size], start=100 + 2 * start):
            rows.append(
                (
                    idx, event.id, event.id, event.occurred_us, event.app_id, event.backend, event.model,
                    event.endpoint, event.outcome, event.input_tokens, event.output_tokens, event.estimated,
                    event.output_digest, event.subject_digest, event.price_version, event.price_grains,
                    event.currency, event.unattributed_ppm, event.reason, event.method, event.registry_seq,
                    event.policy_seq, event.images, event.milliseconds,
                )
            )  # fmt: skip
            lines += [(idx, line.work, line.ppm, line.verdict) for line in event.lines]
        yield Page(rows, lines)


def same(events, terms, links=None, size=700):
    links = links or AppLinks()
    plain = roll_up("p", events, terms, PRICES, links)
    paged = roll_up_pages("p", pages_of(events, size), terms, PRICES, links)
    for field in dataclasses.fields(Rollup):
        assert getattr(paged, field.name) == getattr(plain, field.name), field.name


RULES = {
    "common": Billing(),
    "platform": Billing(unattributed="platform", royalty_ppm=1_000_000),
    "not_charged": Billing(unattributed="not_charged", pay_own_apps=True),
    "mixed": Billing(schemes=(Scheme(scheme="direct", app="app_1"), Scheme(scheme="royalty", model="demo-2", royalty_ppm=7))),
}  # fmt: skip


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("size", [1, 333, 5_000])
def test_a_page_rated_as_columns_is_each_answer_rated_by_itself(make, rules, size):
    month = make(count=900 if size == 1 else 2_500, creators=40, works=90, seed=len(rules))
    priced = [
        msgspec.structs.replace(event, price_grains=draw.choice((event.price_grains, 10**7, 3_750_000, 12)))
        for draw in [random.Random(4)]
        for event in month.events
    ]
    links = AppLinks({"app_2": ((0, "c_0003"),)})
    same(priced, Terms.from_settings(RULES[rules]), links, size)


def test_remainders_that_tie_are_settled_by_the_answers_id(event):
    thirds = tuple(Line(f"w_{n}", 250_000) for n in range(3))
    events = [event(n, thirds, price_grains=10 * n) for n in range(400)]
    same(events, Terms.from_settings(Billing()))


def test_an_answer_is_paid_by_the_policy_of_its_time(make):
    month = make(count=1_500, creators=20, works=50)
    first = of_settings(Billing())
    half = sorted(event.occurred_us for event in month.events)[750]
    later = Policy(name="later", rules=Billing(royalty_ppm=500_000, unattributed="platform"))
    terms = Terms.of_agenda(Agenda(first, (Activation(1, half, later),)))
    same(month.events, terms)


def test_a_work_that_asks_for_a_floor_is_rated_by_itself(make):
    month = make(count=800, creators=20, works=30)
    asked = Asked({"w_00001": ((0, 10**8),), "c_9": ((0, 10**6),)}, {}, {"w_00002": "c_9"})
    same(month.events, Terms.of(of_settings(Billing(floor="top_up")), asked))


def test_amounts_near_64_bits_are_left_to_whole_numbers(event):
    lines = (Line("w_1", 333_333), Line("w_2", 1))
    prices = (rating.PRICE_MAX, rating.PRICE_MAX + 1, 9 * 10**18, 0, None)
    same(
        [event(n, lines, price_grains=price) for n, price in enumerate(prices)],
        Terms.from_settings(Billing()),
    )


def test_what_is_plain_is_counted_and_what_is_not_is_named(event):
    line = (Line("w_1", PPM),)
    events = [
        event(0, line, price_grains=10),
        event(1, line, price_grains=None),
        event(2, line, price_grains=10, outcome="failed"),
        event(3, line, price_grains=10, currency="EUR"),
        event(4, (), price_grains=10),
    ]
    rollup = Rollup(Uses())
    [page] = pages_of(events, 9)
    assert Rater(rollup, Terms.from_settings(Billing()), AppLinks()).count(page) == [1, 2, 3]
    assert rollup.events == 2
    assert Rater(rollup, Terms.from_settings(Billing()), AppLinks()).count(Page([], [])) == []


def test_classes_that_were_forgotten_are_entered_anew(make, monkeypatch):
    monkeypatch.setattr(rating, "CLASSES_MAX", 3)
    same(make(count=600, creators=10, works=20).events, Terms.from_settings(Billing()), size=50)


def test_models_without_a_price_are_named_as_ever(event):
    with pytest.raises(Conflict) as refused:
        roll_up_pages("p", pages_of([event(1, model="house-1")], 9), Terms.from_settings(Billing()), PRICES)
    assert refused.value.code == "unpriced_models"

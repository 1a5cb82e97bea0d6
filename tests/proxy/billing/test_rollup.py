import random

import pytest

from proxy.access.links import AppLinks
from proxy.billing.prices import load
from proxy.billing.rollup import MODELS_NAMED_MAX, day_text, roll_up
from proxy.billing.schemes import Terms
from proxy.errors import Conflict
from proxy.metering.usage import Line
from proxy.settings import Billing

TERMS, PRICES = Terms.from_settings(Billing()), load()


def test_the_order_of_events_does_not_matter(month):
    events = list(month.events)
    random.Random(1).shuffle(events)
    assert roll_up("p", events, TERMS, PRICES) == roll_up("p", month.events, TERMS, PRICES)


def test_memory_follows_the_different_uses_and_not_the_answers(event):
    line = (Line("w_1", 500_000),)
    noon = event(1).occurred_us
    rollup = roll_up("p", (event(n, line, occurred_us=noon) for n in range(5_000)), TERMS, PRICES)
    [(_, [use])] = rollup.uses
    assert use.answers == rollup.events == 5_000


def test_models_without_a_price_are_named_with_how_many_and_since_when(event):
    events = [event(n, model="house-1") for n in (3, 2)] + [event(9, model="house-2"), event(4)]
    with pytest.raises(Conflict) as refused:
        roll_up("2026-11", events, TERMS, PRICES)
    assert refused.value.code == "unpriced_models"
    assert "house-1: 2 events since 2026-11-01; house-2: 1 event since 2026-11-01" in refused.value.cause
    assert "prices_dir" in refused.value.remedy


def test_a_flood_of_unpriced_models_stays_readable(event):
    with pytest.raises(Conflict, match=r"and 10 more"):
        roll_up("p", [event(n, model=f"x{n}") for n in range(MODELS_NAMED_MAX + 10)], TERMS, PRICES)


def test_a_day_is_told_as_a_date():
    assert [day_text(day) for day in (0, 20_779)] == ["1970-01-01", "2026-11-22"]


def test_an_own_app_is_known_by_the_number_of_the_answer(event):
    links = AppLinks({"app_a": ((5, "c_a"),)})
    lines = (Line("w_1", 500_000), Line("w_2", 1, "free"))
    rollup = roll_up("p", [event(n, lines, registry_seq=n) for n in (4, 5)], TERMS, PRICES, links)
    assert owners(rollup) == ["", "", "c_a"]
    allowed = Terms.from_settings(Billing(pay_own_apps=True))
    paid = roll_up("p", [event(5, lines, registry_seq=5)], allowed, PRICES, links)
    assert owners(paid) == ["", ""]


def owners(rollup):
    return sorted(use.own_app_of for _, uses in rollup.uses for use in uses)

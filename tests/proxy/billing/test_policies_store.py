import pytest

from proxy.billing import store
from proxy.billing.policies import of_settings, read_policy
from proxy.billing.policies_store import Policies, agenda, policies, policy, terms_now
from proxy.billing.prices import load
from proxy.billing.run import close_period
from proxy.clock import parse_time_us
from proxy.errors import BadRequest, Conflict, NotFound
from proxy.metering.usage import Line
from proxy.settings import Billing
from tests.fakes import FrozenClock

BETTER = read_policy(b'name = "better"\nroyalty_ppm = 500000')
DAY_US = 86_400_000_000
NOVEMBER_US = parse_time_us("2026-11-01")


@pytest.fixture
def clock():
    return FrozenClock(NOVEMBER_US - DAY_US)


@pytest.fixture
def desk(engine, clock):
    return Policies(engine, clock=clock, by="ada", currency="USD")


def test_a_policy_is_kept_once_as_what_it_says(engine, desk):
    assert desk.add(BETTER)
    assert not desk.add(BETTER)
    assert policy(engine, BETTER.id) == BETTER
    assert [(known.policy, known.by, known.since_us) for known in policies(engine)] == [(BETTER, "ada", ())]


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b'name = "a"\ncurrency = "EUR"', "EUR"),
        (b'name = "a"\nrate = "much"', "much"),
        (b'name = "a"\nfloor_max = "-1"', "negative"),
    ],
)
def test_rules_that_cannot_hold_are_not_kept(engine, desk, raw, says):
    with pytest.raises(BadRequest, match=says):
        desk.add(read_policy(raw))
    assert policies(engine) == []


def test_until_something_is_activated_the_settings_hold_and_then_they_do_before_it(engine, desk, clock):
    desk.add(BETTER)
    assert agenda(engine, Billing()).at(NOVEMBER_US) == of_settings(Billing())
    made = desk.activate(BETTER.id, NOVEMBER_US)
    assert (made.seq, made.by) == (1, "ada")
    known = agenda(engine, Billing())
    assert known.at(NOVEMBER_US) == BETTER
    assert known.at(NOVEMBER_US - 1) == of_settings(Billing())
    clock.advance(10 * 86_400)
    assert desk.activate(BETTER.id).effective_from_us == clock.now_us()
    assert agenda(engine, Billing()).seq == 2


def test_what_was_used_cannot_be_paid_by_a_rule_that_came_after(engine, desk, clock):
    desk.add(BETTER)
    with pytest.raises(Conflict) as refused:
        desk.activate(BETTER.id, clock.now_us() - 1)
    assert refused.value.code == "policy_backdated"
    with pytest.raises(NotFound):
        desk.activate("pol_unknown")
    assert agenda(engine, Billing()).activations == ()


def test_a_close_pays_each_answer_by_the_policy_of_its_time_and_its_statements_name_them(
    engine, desk, event, make, into_store
):
    books = make(count=0).books
    into_store.register(engine, books)
    desk.add(BETTER)
    desk.activate(BETTER.id, NOVEMBER_US + 2 * 60_000_000)
    line = (Line("w_00001", 1_000_000),)
    into_store.meter(engine, [event(number, line, price_grains=1_000_000) for number in (1, 2, 3)])
    closing = close_period(engine, "2026-11", Billing(), load(), dry_run=False, now_us=NOVEMBER_US + DAY_US)
    assert closing.totals.charged_grains == 300_000 + 2 * 500_000
    basis = closing.basis
    assert basis.policies == tuple(sorted((BETTER.id, of_settings(Billing()).id)))
    assert (basis.policy_seq, basis.royalties, basis.royalty_ppm) == (1, (300_000, 500_000), 500_000)
    assert store.load_closing(engine, "2026-11") == closing
    assert all(one.basis.policies == basis.policies for one in closing.statements)


def test_what_is_activated_later_changes_nothing_of_a_closed_period_or_of_its_time(
    engine, desk, clock, event, make, into_store
):
    into_store.register(engine, make(count=0).books)
    line = (Line("w_00001", 1_000_000),)
    into_store.meter(engine, [event(1, line, price_grains=1_000_000)])
    before = close_period(engine, "a", Billing(), load(), dry_run=True, now_us=NOVEMBER_US + DAY_US)
    desk.add(BETTER)
    clock.time_us = NOVEMBER_US + DAY_US
    desk.activate(BETTER.id)
    into_store.meter(engine, [event(2, line, price_grains=1_000_000)])  # late: it was given before
    closing = close_period(engine, "a", Billing(), load(), dry_run=False, now_us=NOVEMBER_US + 2 * DAY_US)
    assert closing.totals.charged_grains == 2 * before.totals.charged_grains
    assert closing.basis.policies == before.basis.policies


def test_terms_hold_what_works_ask_for(engine, desk):
    terms = terms_now(engine, Billing(), 0)
    assert terms.policy == of_settings(Billing()).id
    assert terms.asked.floor("w_1", 1) == 0

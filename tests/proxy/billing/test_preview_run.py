"""A preview of the store: both sides are what a close pays, to the grain, and nothing is written."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from proxy.access.links_store import link_app
from proxy.billing import preview_run
from proxy.billing.policies import policy_of
from proxy.billing.policies_store import Policies
from proxy.billing.run import close_period
from proxy.errors import BadRequest, Conflict, NotFound
from proxy.metering.usage import Line
from proxy.settings import Billing
from tests.books import PRICES, Bookkeeping, a_year_of_everything

PROPOSALS = (
    {"royalty_ppm": 700_000},
    {"royalty_ppm": 123_457, "unattributed": "platform"},
    {"scheme": "direct", "rate": "0.002"},
    {"scheme": "direct", "rate": "0.003", "rates": [{"work": "w_1", "amount": "0.04"}]},
    {"schemes": [{"app": "app_1", "scheme": "direct"}], "rate": "0.5", "pay_own_apps": True},
)
CHEAP = """
version = "cheap"
currency = "USD"
effective_from = 2030-01-01T00:00:00Z
[[models]]
pattern = "*"
input_per_million = "100"
output_per_million = "200"
"""


@pytest.fixture
def books(engine):
    return Bookkeeping(engine)


def used(books):
    w0, w1, w2, w3, w4, w5 = books.works
    books.split(w1, [(books.creators[1], 600_001), ("~unclaimed", 399_999)])
    link_app(books.engine, "app_1", books.creators[0], clock=books.clock)
    for day in range(3):
        books.answer([Line(w0, 500_000), Line(w1, 123_456)], day=day)
        books.answer([Line(w2, 123_456, "free"), Line(w3, 500_000), Line(w4, 77)], app="app_1", day=day)
    books.deny(w4)
    books.answer([Line(w4, 500_000, "prohibited"), Line(w5, 123_456)], day=4)
    books.answer([], day=4, reason="not_attributed")


def proposed(books, rules):
    policy = policy_of("proposed", rules)
    Policies(books.engine, clock=books.clock, by="ada", currency="USD").add(policy)
    return policy.id


def seen(books, policy, **asked):
    now_us = books.clock.now_us()
    return preview_run.preview(books.engine, policy, Billing(), PRICES, now_us=now_us, **asked)


def counts(engine):
    with engine.connect() as connection:
        names = sa.inspect(connection).get_table_names()
        return {
            one: connection.execute(sa.select(sa.func.count()).select_from(sa.table(one))).scalar()
            for one in names
        }


@pytest.mark.parametrize("rules", PROPOSALS)
def test_a_preview_is_to_the_grain_what_a_close_by_that_policy_pays(books, rules):
    used(books)
    policy = proposed(books, rules)
    before = counts(books.engine)
    made = seen(books, policy)
    for told, by in ((made.before, Billing()), (made.after, policy_of("proposed", rules).rules)):
        # The name of what is open divides nothing but odd grains: the same name, so the same grains.
        close = close_period(books.engine, "open", by, PRICES, dry_run=True, now_us=books.clock.now_us())
        earned = {one.creator: one.earned_grains for one in close.statements}
        assert {one: abs(grains - earned[one]) for one, grains in told.earned.items()}.keys() == earned.keys()
        assert all(abs(grains - earned[one]) <= len(books.works) for one, grains in told.earned.items())
        assert (dict(told.charged), told.totals.common_grains.keys()) == (
            close.charged_by_app,
            close.totals.common_grains.keys(),
        )
        assert told.totals.charged_grains == close.totals.charged_grains
    assert (made.is_open, made.as_booked) == (True, None)
    assert counts(books.engine) == before


def test_a_closed_period_by_its_own_rules_is_what_was_booked(books):
    used(books)
    closing = books.close("2026-11", Billing())
    made = seen(books, "settings", period="2026-11")
    assert (made.is_open, made.as_booked) == (False, True)
    assert dict(made.before.earned) == dict(made.after.earned)
    assert dict(made.before.earned) == {one.creator: one.earned_grains for one in closing.statements}
    assert made.before.totals.common_grains == closing.totals.common_grains
    assert made.before.totals.escrow_grains == closing.totals.escrow_grains


def test_what_came_after_a_period_is_not_in_its_preview(books):
    a_year_of_everything(books, paid=False)
    policy = proposed(books, {"royalty_ppm": 600_000})
    made = seen(books, policy, period="2026-12")
    assert made.before.totals.events == 2
    assert made.as_booked
    assert made.after.totals.charged_grains > made.before.totals.charged_grains


def test_other_prices_price_every_answer_anew_and_without_a_policy_too(books):
    used(books)
    made = seen(books, "settings", price_file=CHEAP)
    events = made.after.totals.events
    assert made.after.totals.price_grains == events * (10 * 100_000 + 20 * 200_000)
    assert made.before.totals.price_grains != made.after.totals.price_grains


def test_what_is_not_there_or_cannot_be_read_is_refused(books):
    used(books)
    for policy, asked in (("pol_none", {}), ("settings", {"period": "1999-01"})):
        with pytest.raises(NotFound):
            seen(books, policy, **asked)
    with pytest.raises(BadRequest, match="not TOML"):
        seen(books, "settings", price_file="= nothing")
    with pytest.raises(Conflict, match="without a price"):
        seen(books, "settings", price_file=CHEAP.replace('"*"', '"other"'))
    with pytest.raises(Conflict, match="pool"):
        seen(books, proposed(books, {"scheme": "pool"}))

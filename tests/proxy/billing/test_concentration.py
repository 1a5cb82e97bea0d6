import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.access.links import AppLinks
from proxy.billing.concentration import Tally, Thresholds, percent, report, tally
from proxy.billing.money import PPM, parse
from proxy.billing.statements import Books, SplitSet
from proxy.errors import SettingsError
from proxy.metering.usage import Line
from proxy.settings import Billing, Concentration

LOW = Concentration(least_earned="0.000000001")
NAMES = {"c_a": "Ada", "c_b": "Bo", "c_c": "Cy"}
BOOKS = Books(
    {f"w_{who}": SplitSet(1, ((f"c_{who}", PPM),), f"Of {who}") for who in "abc"},
    NAMES,
    {"app_x": "Xylo", "app_y": "Yard"},
    {},
)


@pytest.fixture
def told(close, event):
    """Report on answers: (app, work's letter, price in grains), each wholly of one work."""

    def tell(*answers, rules=LOW, links=None, **more):
        events = [
            event(n, (Line(f"w_{who}", PPM),), app_id=f"app_{app}", price_grains=grains, registry_seq=1)
            for n, (app, who, grains) in enumerate(answers)
        ]
        billing = Billing(royalty_ppm=PPM)
        closing = close(events, BOOKS, billing=billing, **({"links": links} if links else {}))
        thresholds = Thresholds.from_settings(rules, "USD")
        return report(
            "2026-11", closing.totals, tally(closing.statements), thresholds, currency="USD", **more
        )

    return tell


def kinds(found, subject):
    return {flag.kind for flag in found.flags if flag.subject == subject}


def test_parts_are_of_what_creators_earned_and_the_largest_come_first(told):
    found = told(("x", "a", 600), ("y", "a", 100), ("x", "b", 200), ("y", "c", 100))
    assert [(row.name, row.part_ppm) for row in found.top_creators] == [
        ("Ada", 700_000), ("Bo", 200_000), ("Cy", 100_000),
    ]  # fmt: skip
    assert (found.creators_grains, found.creators, found.works, found.apps) == (1_000, 3, 3, 2)
    assert found.herfindahl_creators_ppm == 490_000 + 40_000 + 10_000
    assert found.top_creators[0].top_app_ppm == 600 * PPM // 700
    assert {"large_part", "one_app"} <= kinds(found, "c_a")
    assert "period" in kinds(found, "")
    assert any("85.7 % of it comes from one app, Xylo" in flag.reason for flag in found.flags)


def test_a_work_that_one_app_alone_uses_is_named(told):
    found = told(("x", "a", 500), ("y", "a", 500), ("x", "b", 500), ("y", "c", 900), ("x", "c", 100))
    assert "work_of_one_app" in kinds(found, "w_b")
    assert "work_mostly_one_app" in kinds(found, "w_c")
    assert kinds(found, "w_a") == {"large_work"}


def test_where_there_is_one_app_only_that_says_nothing(told):
    found = told(("x", "a", 500), ("x", "b", 500))
    assert {flag.kind for flag in found.flags} == {"large_part", "large_work", "period"}


def test_growth_is_told_against_the_period_before(told):
    answers = (("x", "a", 600), ("y", "b", 600), ("y", "c", 600))
    before = {"c_a": 100, "c_b": 500}
    found = told(*answers, previous="2026-10", before=before, registered={"c_a": 9})
    rows = {row.creator: row for row in found.top_creators}
    assert (rows["c_a"].growth_ppm, rows["c_b"].growth_ppm, rows["c_c"].growth_ppm) == (
        6_000_000,
        1_200_000,
        None,
    )
    assert "growth" in kinds(found, "c_a")
    assert "growth" not in kinds(found, "c_b")
    assert "newcomer" in kinds(found, "c_c")
    assert any("6.0 times as much as in 2026-10" in flag.reason for flag in found.flags)
    assert (rows["c_a"].registered, found.works_registered) == (9, 9)
    assert "newcomer" not in {flag.kind for flag in told(*answers).flags}, "the first period has no newcomers"


def test_small_sums_are_not_called_out(told):
    rules = Concentration(least_earned="0.000000700")
    found = told(("x", "a", 600), ("y", "b", 600), rules=rules)
    assert {flag.kind for flag in found.flags} == {"period"}
    assert told(rules=rules).flags == ()


def test_what_an_own_app_brought_is_told_and_is_nobodys_part(told):
    links = AppLinks({"app_x": ((1, "c_a"),)})
    found = told(("x", "a", 600), ("y", "a", 100), ("y", "b", 100), links=links)
    assert found.own_app_grains == 600
    assert [(row.name, row.earned_grains) for row in found.top_creators] == [("Ada", 100), ("Bo", 100)]


def test_the_rows_are_as_many_as_asked_for_and_the_flags_are_all(told):
    found = told(
        ("x", "a", 600), ("y", "b", 500), ("y", "c", 400), rules=msgspec.structs.replace(LOW, top_rows=1)
    )
    assert len(found.top_creators) == len(found.top_works) == 1
    assert {flag.subject for flag in found.flags} >= {"c_a", "c_b", "c_c"}


def test_an_amount_that_cannot_be_read_names_its_key():
    with pytest.raises(SettingsError, match="least_earned"):
        Thresholds.from_settings(Concentration(least_earned="ten"), "USD")
    assert Thresholds.from_settings(Concentration(), "USD").least_grains == parse("10", "USD")


def test_a_part_is_cut_and_not_rounded():
    assert [percent(part) for part in (0, 999, 199_999, PPM)] == ["0.0 %", "0.0 %", "19.9 %", "100.0 %"]


@given(st.randoms(use_true_random=False))
@settings(max_examples=10, deadline=None)
def test_the_order_of_statements_does_not_matter_and_the_parts_are_a_whole(close, make, draw):
    small = make(count=150, creators=8, works=20, seed=draw.randrange(5))
    closing = close(small.events, small.books)
    shuffled = random.Random(1).sample(closing.statements, len(closing.statements))
    thresholds = Thresholds.from_settings(LOW, "USD")
    first, second = (
        report("p", closing.totals, tally(given), thresholds, currency="USD")
        for given in (closing.statements, shuffled)
    )
    assert first == second
    assert sum(row.earned_grains for row in first.top_creators) == closing.totals.creators_grains
    assert PPM - 8 <= sum(row.part_ppm for row in first.top_creators) <= PPM
    assert PPM // 8 <= first.herfindahl_creators_ppm <= PPM
    assert Tally() == tally([])

import random
from collections import Counter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.access.links import AppLinks
from proxy.billing import ledger
from proxy.billing.documents import render, summary
from proxy.billing.ledger import balances
from proxy.billing.money import PPM, parse
from proxy.billing.prices import load
from proxy.billing.schemes import Terms, rate
from proxy.billing.statements import (
    CLAIMED,
    OWN_APP,
    RELEASED,
    UNCLAIMED,
    Books,
    SplitSet,
    canonical,
    statement_id,
)
from proxy.metering.usage import Line
from proxy.settings import Billing, Scheme

RULES = [
    Billing(),
    Billing(unattributed="platform"),
    Billing(unattributed="not_charged"),
    Billing(scheme="direct", rate="0.002"),
    Billing(schemes=(Scheme(scheme="direct", app="app_1"), Scheme(scheme="direct", model="demo-2"))),
]
W1 = Line("w_1", 412_345)
SPLIT = SplitSet(1, (("c_a", 500_000), ("c_b", 333_333), ("c_c", 166_667)), "The Long Song")
BOOKS = Books({"w_1": SPLIT}, {"c_a": "Ada"}, {"app_a": "Choir"}, {})


def conserved(closing) -> None:
    totals = closing.totals
    common = sum(totals.common_grains.values())
    assert (
        totals.charged_grains + totals.released_grains
        == totals.creators_grains + totals.escrow_grains + common + totals.platform_grains
    )
    assert totals.charged_grains == sum(closing.charged_by_app.values())
    assert totals.creators_grains == sum(statement.earned_grains for statement in closing.statements)
    for statement in closing.statements:
        assert statement.earned_grains == sum(line.net_grains for line in statement.lines)
        assert statement.closing_grains == statement.opening_grains + statement.earned_grains
    booked = balances(closing.transfers)
    assert sum(grains if code.startswith("asset") else -grains for (code, _), grains in booked.items()) == 0
    for (code, _), grains in booked.items():
        assert grains >= 0
        assert grains == 0 or not code.startswith("liab:work:")
    assert (
        sum(g for (code, _), g in booked.items() if code.startswith("asset:receivable:"))
        == totals.charged_grains
    )
    assert {s.creator: s.earned_grains for s in closing.statements if s.earned_grains} == {
        code.removeprefix("liab:payee:"): g
        for (code, _), g in booked.items()
        if code.startswith("liab:payee:")
    }


@pytest.mark.parametrize("billing", RULES)
def test_ten_thousand_events_over_two_hundred_creators_are_conserved_to_the_grain(close, month, billing):
    closing = close(month.events, month.books, billing=billing)
    conserved(closing)
    assert closing.totals.events == 10_000
    assert len(closing.statements) == 200


def test_statement_totals_equal_what_was_metered(close, month, prices):
    closing = close(month.events, month.books)
    terms = Terms.from_settings(Billing())
    answers, mass, due = Counter(), Counter(), Counter()
    for event in month.events:
        for line, grains in zip(event.lines, rate(event, terms, prices).dues, strict=True):
            answers[line.work] += 1
            mass[line.work] += line.ppm
            due[line.work] += grains
    for statement in closing.statements:
        for work in {line.work for line in statement.lines}:
            lines = [line for line in statement.lines if line.work == work]
            assert sum(line.answers for line in lines) == answers[work]
            assert sum(line.ppm_sum for line in lines) == mass[work]
            assert sum(line.gross_grains for line in lines) == due[work]
    totals = closing.totals
    masses = (
        totals.paid_ppm_sum + totals.free_ppm_sum + totals.prohibited_ppm_sum + totals.unattributed_ppm_sum
    )
    assert masses == 10_000 * PPM
    assert totals.price_grains == sum(rate(event, terms, prices).price_grains for event in month.events)


def test_the_parties_of_a_work_share_all_of_it(close, month):
    closing = close(month.events, month.books)
    nets, gross = Counter(), {}
    for statement in closing.statements:
        for line in statement.lines:
            key = (line.work, line.app, line.model, line.day, line.scheme, line.verdict)
            nets[line.work] += line.net_grains
            gross[key] = line.gross_grains
    escrow = {
        code.removeprefix("liab:escrow:unclaimed:"): grains
        for (code, _), grains in balances(closing.transfers).items()
        if code.startswith("liab:escrow:")
    }
    by_work = Counter()
    for key, grains in gross.items():
        by_work[key[0]] += grains
    assert escrow
    for work in by_work:
        assert nets[work] + escrow.get(work, 0) == by_work[work]


def test_neither_order_nor_when_it_is_computed_changes_a_byte(close, make):
    small = make(count=400, creators=20, works=50)
    events = list(small.events)
    first = canonical(close(events, small.books))
    random.Random(3).shuffle(events)
    assert canonical(close(events, small.books)) == first


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 400), st.integers(0, 2**32))
def test_two_periods_owe_what_one_would_but_for_the_grains_of_dividing_twice(make_small, close, cut, seed):
    events = list(make_small.events)
    random.Random(seed).shuffle(events)
    whole = close(events, make_small.books)
    first = close(events[:cut], make_small.books, label="a")
    opening = {statement.creator: statement.closing_grains for statement in first.statements}
    books = Books(make_small.books.splits, {}, {}, opening)
    second = close(events[cut:], books, label="b")
    conserved(second)
    assert first.totals.charged_grains + second.totals.charged_grains == whole.totals.charged_grains
    ends = {statement.creator: statement.closing_grains for statement in second.statements}
    for statement in whole.statements:
        works = len({line.work for line in statement.lines})
        assert abs(ends.get(statement.creator, 0) - statement.closing_grains) <= 2 * works


@pytest.fixture(scope="session")
def make_small(make):
    return make(count=400, creators=20, works=50)


def test_the_worked_example_by_direct_rate_reaches_three_parties(close, event):
    closing = close([event(1, (W1,))], BOOKS, billing=Billing(scheme="direct", rate="0.004"))
    earned = {statement.creator: statement.earned_grains for statement in closing.statements}
    assert earned == {"c_a": 824_690, "c_b": 549_793, "c_c": 274_897}
    assert closing.totals.charged_grains == 1_649_380
    line = closing.statements[0].lines[0]
    assert (line.rate_grains, line.price_grains, line.title) == (4_000_000, 0, "The Long Song")


def test_the_worked_example_by_royalty_reaches_three_parties(close, event):
    answer = event(1, (W1, Line("w_2", 187_655), Line("w_3", 50_000)), price_grains=parse("0.0125", "USD"))
    closing = close([answer], BOOKS)
    earned = {statement.creator: statement.earned_grains for statement in closing.statements}
    assert earned == {"c_a": 773_147, "c_b": 515_431, "c_c": 257_716}
    assert closing.totals.escrow_grains == 703_706 + 187_500  # works nobody is registered for wait
    assert closing.totals.common_grains == {"unattributed": 1_312_500}
    assert closing.totals.charged_grains == 3_750_000


def test_what_nobody_claims_waits_in_escrow_by_work(close, event):
    books = Books({"w_1": SplitSet(4, (("c_a", 600_000), (UNCLAIMED, 400_000)))}, {}, {}, {})
    closing = close([event(1, (Line("w_1", PPM),), price_grains=1_000_000)], books)
    booked = balances(closing.transfers)
    assert booked[ledger.payee("c_a"), "USD"] == 180_000
    assert booked[ledger.unclaimed("w_1"), "USD"] == 120_000
    assert booked[ledger.of_work("w_1", 4), "USD"] == 0
    assert [statement.creator for statement in closing.statements] == ["c_a"]


@pytest.mark.parametrize("verdict", ["free", "prohibited"])
def test_use_that_is_not_paid_is_still_told_to_its_creator(close, event, verdict):
    closing = close([event(1, (Line("w_1", PPM, verdict),))], BOOKS)
    ada = closing.statements[0]
    assert (ada.creator, ada.earned_grains) == ("c_a", 0)
    assert [(line.verdict, line.answers, line.net_grains) for line in ada.lines] == [(verdict, 1, 0)]
    assert list(closing.totals.common_grains) == [verdict]
    conserved(closing)


def test_who_was_not_used_gets_a_statement_only_with_a_balance(close):
    books = Books({}, {"c_a": "Ada", "c_b": "Ben"}, {}, {"c_a": 5, "c_b": 0})
    closing = close([], books)
    assert [(s.creator, s.name, s.opening_grains, s.closing_grains) for s in closing.statements] == [
        ("c_a", "Ada", 5, 5)
    ]
    assert closing.transfers == ()


def test_a_late_answer_keeps_its_day_of_use(close, event):
    answer = event(1, (W1,), occurred_us=event(0).occurred_us - 86_400_000_000)
    assert close([answer], BOOKS).statements[0].lines[0].day == "2026-10-31"


def test_a_statement_names_the_rules_it_was_made_by(close, event):
    answer = event(1, (W1,), method="endcredits/1 abc")
    basis = close([answer], BOOKS, start={"s": 3}, end={"s": 9}).statements[0].basis
    assert (basis.start_bounds, basis.end_bounds) == ({"s": 3}, {"s": 9})
    assert (basis.price_versions, basis.methods) == ((load().version,), ("endcredits/1 abc",))


def test_another_amount_is_another_manifest(close, event):
    first = close([event(1, (W1,), price_grains=1_000_000)], BOOKS)
    other = close([event(1, (W1,), price_grains=1_000_010)], BOOKS)
    assert first.manifest_sha256 != other.manifest_sha256
    assert first.statements[0].id == other.statements[0].id == statement_id("2026-11", "c_a", "USD")


def test_a_split_that_is_not_whole_cannot_exist():
    with pytest.raises(ValueError, match="sum to"):
        SplitSet(1, (("c_a", 999_999),))


def test_a_summary_says_the_sums_in_money(close, event):
    said = summary(close([event(1, (Line("w_1", PPM),), price_grains=10**9)], BOOKS))
    assert (said["charged"], said["creators"], said["common"], said["statements"]) == (
        "0.30",
        "0.30",
        "0.00",
        3,
    )


# Creators' own apps

OWN = AppLinks({"app_a": ((5, "c_a"), (9, ""))})


def test_a_creators_own_app_earns_that_creator_nothing_and_the_others_everything(close, event):
    events = [event(1, (W1,), registry_seq=5), event(2, (W1,), registry_seq=5, app_id="app_b")]
    usual, own = close(events, BOOKS), close(events, BOOKS, links=OWN)
    conserved(own)
    before = {statement.creator: statement for statement in usual.statements}
    after = {statement.creator: statement for statement in own.statements}
    assert after["c_b"] == msgspec.structs.replace(before["c_b"], totals=after["c_b"].totals)
    mine = {line.app: line for line in after["c_a"].lines}
    assert (mine["app_a"].verdict, mine["app_a"].net_grains, mine["app_a"].answers) == ("own_app", 0, 1)
    assert (
        mine["app_a"].gross_grains == {line.app: line for line in before["c_a"].lines}["app_a"].gross_grains
    )
    assert mine["app_b"].verdict == "paid"
    lost = before["c_a"].earned_grains - after["c_a"].earned_grains
    assert lost > 0
    assert own.totals.common_grains["own_app"] == lost
    assert own.totals.charged_grains == usual.totals.charged_grains, "the app is charged all the same"
    assert balances(own.transfers)[ledger.common("2026-11", "own_app"), "USD"] == lost


def test_it_is_the_link_at_the_time_of_the_answer_that_counts(close, event):
    events = [event(number, (W1,), registry_seq=number) for number in range(1, 13)]
    closing = close(events, BOOKS, links=OWN)
    conserved(closing)
    (ada,) = [statement for statement in closing.statements if statement.creator == "c_a"]
    assert {line.verdict: line.answers for line in ada.lines} == {"paid": 8, "own_app": 4}
    others = [statement for statement in closing.statements if statement.creator != "c_a"]
    assert [[line.answers for line in statement.lines] for statement in others] == [[12], [12]]
    shuffled = random.Random(3).sample(events, len(events))
    assert close(shuffled, BOOKS, links=OWN).manifest_sha256 == closing.manifest_sha256


def test_own_apps_are_paid_where_the_operator_says_so_and_the_statement_says_it(close, event):
    events = [event(1, (W1,), registry_seq=5)]
    paying = Billing(pay_own_apps=True)
    closing = close(events, BOOKS, links=OWN, billing=paying)
    assert "own_app" not in closing.totals.common_grains
    assert closing.transfers == close(events, BOOKS, billing=paying).transfers
    assert b'"pay_own_apps":true' in canonical(closing.basis)
    assert b"pay_own_apps" not in canonical(close(events, BOOKS).basis)


def test_links_that_concern_nobody_in_the_split_change_nothing(close, event):
    events = [event(1, (W1, Line("w_2", 100_000, "free")), registry_seq=5)]
    other = AppLinks({"app_a": ((1, "c_other"),), "app_b": ((1, "c_a"),)})
    usual, linked = close(events, BOOKS), close(events, BOOKS, links=other)
    assert linked.totals == usual.totals
    assert [s.earned_grains for s in linked.statements] == [s.earned_grains for s in usual.statements]


@given(
    linked=st.dictionaries(
        st.sampled_from([f"app_{n}" for n in range(7)]),
        st.sampled_from([f"c_{n:04d}" for n in range(12)]),
    ),
    billing=st.sampled_from(RULES),
    seed=st.integers(0, 9),
)
@settings(max_examples=40, deadline=None)
def test_whatever_apps_are_whose_every_grain_is_somewhere(close, make, linked, billing, seed):
    small = make(count=120, creators=12, works=25, seed=seed)
    links = AppLinks({app: ((0, creator),) for app, creator in linked.items()})
    usual, own = (
        close(small.events, small.books, billing=billing),
        close(small.events, small.books, billing=billing, links=links),
    )
    conserved(own)
    assert own.totals.charged_grains == usual.totals.charged_grains
    before = {statement.creator: statement.earned_grains for statement in usual.statements}
    after = {statement.creator: statement.earned_grains for statement in own.statements}
    assert before.keys() == after.keys()
    assert sum(before.values()) - sum(after.values()) == own.totals.common_grains.get("own_app", 0)
    for creator, grains in after.items():
        assert grains <= before[creator]
        if creator not in linked.values():
            assert grains == before[creator], "nobody else's money depends on it"
    for was, now in zip(usual.statements, own.statements, strict=True):
        if now.creator not in linked.values():
            assert now.lines == was.lines, "nor does any of their lines"


def claimed(split=SPLIT, *, waiting=None, is_open=True):
    return Books(
        {"w_1": split}, {}, {}, {}, claimed=frozenset({"w_1"} if is_open else ()), waiting=waiting or {}
    )


def held_by(closing):
    found = {code: grains for (code, _), grains in balances(closing.transfers).items()}
    return {
        ledger.claim_of(code): grains
        for code, grains in found.items()
        if code.startswith(ledger.CLAIMED) and grains > 0
    }


def test_an_open_claim_holds_what_a_work_earns_and_says_so_on_the_statement(close, event):
    closing = close([event(1, (W1,))], claimed())
    conserved(closing)
    due = closing.totals.claimed_grains
    assert due == closing.totals.escrow_grains > 0
    assert held_by(closing) == {("w_1", ""): due}
    assert [s.creator for s in closing.statements] == ["c_a", "c_b", "c_c"]
    for statement in closing.statements:
        (line,) = statement.lines
        assert (line.verdict, line.net_grains, line.gross_grains) == (CLAIMED, 0, due)


@pytest.mark.parametrize(
    ("split", "whose"),
    [(SPLIT, {"c_a", "c_b", "c_c"}), (SplitSet(2, (("c_new", PPM),)), {"c_new"})],
    ids=["rejected", "upheld"],
)
def test_a_decided_claim_lets_go_of_what_it_held_to_whom_the_work_now_belongs(close, event, split, whose):
    first = close([event(1, (W1,))], claimed())
    second = close([event(2, (W1,))], claimed(split, waiting=held_by(first), is_open=False), label="2026-12")
    assert second.totals.released_grains == first.totals.claimed_grains
    assert second.totals.escrow_grains == 0
    booked = balances([*first.transfers, *second.transfers])
    assert not any(grains for (code, _), grains in booked.items() if code.startswith("liab:escrow:"))
    assert {statement.creator for statement in second.statements} == whose
    earned = sum(statement.earned_grains for statement in second.statements)
    assert earned == 2 * first.totals.claimed_grains
    for statement in second.statements:
        assert [line.verdict for line in statement.lines] == ["paid", RELEASED]
        assert statement.app_names.keys() == {"app_a"}
        assert sum(line.net_grains for line in statement.lines) == statement.earned_grains


def test_what_a_claim_holds_stays_while_another_is_open(close, event):
    first = close([event(1, (W1,))], claimed())
    again = close([event(2, (W1,))], claimed(waiting=held_by(first)), label="2026-12")
    conserved(again)
    assert again.totals.released_grains == 0
    assert held_by(again) == {("w_1", ""): again.totals.claimed_grains}


@pytest.mark.parametrize(("owner", "paid"), [("c_a", False), ("c_new", True)])
def test_a_creators_own_app_brings_them_nothing_after_a_claim_either(close, event, owner, paid):
    links = AppLinks({"app_a": ((0, "c_a"),)})
    first = close([event(1, (W1,))], claimed(), links=links)
    assert held_by(first) == {("w_1", "c_a"): first.totals.claimed_grains}
    books = claimed(SplitSet(2, ((owner, PPM),)), waiting=held_by(first), is_open=False)
    second = close([], books, label="2026-12")
    own = second.totals.common_grains.get(OWN_APP, 0)
    assert (own == 0) == paid
    assert own + second.totals.creators_grains == first.totals.claimed_grains
    assert [line.verdict for line in second.statements[0].lines] == [RELEASED]


@settings(max_examples=25, deadline=None)
@given(st.sets(st.integers(0, 29)), st.integers(0, 400))
def test_claims_that_come_and_go_lose_no_grain(make_small, close, some, cut):
    events = list(make_small.events)
    works = sorted(make_small.books.splits)
    named = frozenset(works[number] for number in some if number < len(works))
    splits = make_small.books.splits
    first = close(events[:cut], Books(splits, {}, {}, {}, claimed=named), label="a")
    conserved(first)
    opening = {statement.creator: statement.closing_grains for statement in first.statements}
    second = close(events[cut:], Books(splits, {}, {}, opening, waiting=held_by(first)), label="b")
    assert second.totals.released_grains == first.totals.claimed_grains
    booked = balances([*first.transfers, *second.transfers])
    assert all(grains >= 0 for grains in booked.values())
    assert not any(g for (code, _), g in booked.items() if code.startswith((ledger.CLAIMED, "liab:work:")))


def test_a_period_without_claims_says_nothing_of_them(close, event):
    assert b"claimed" not in canonical(close([event(1, (W1,))], BOOKS))


def test_the_page_says_what_claims_hold_and_let_go(close, event):
    first = close([event(1, (W1,))], claimed())
    page = render(first.statements[0], "html").decode()
    assert "Held by open claims" in page
    assert "somebody else claims this work" in page
    second = close([event(2, (W1,))], claimed(waiting=held_by(first), is_open=False), label="2026-12")
    page = render(second.statements[0], "html").decode()
    assert "Let go by decided claims" in page
    assert "A decided claim" in page

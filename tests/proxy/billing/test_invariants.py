"""Each rule about one row, on rows made by hand; whole stores are broken in test_audit_store.py."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest

from proxy.billing.invariants import (
    INVARIANTS,
    NAMED_MAX,
    NOT_YET,
    Booked,
    Counted,
    Period,
    Row,
    Tally,
    batch_findings,
    booked_findings,
    counted_findings,
    period_findings,
    statement_findings,
)
from proxy.billing.payouts import Batch, Debtor, Event, Payment, payment_id
from proxy.billing.statement import canonical


@pytest.fixture(scope="session")
def closing(close, make):
    small = make(count=200, creators=4, works=9)
    return close(small.events, small.books)


@pytest.fixture(scope="session")
def period(closing):
    return Period(
        closing.label,
        1,
        "USD",
        {},
        {"shard-0": 20_000},
        closing.basis,
        closing.totals,
        closing.charged_by_app,
        "m",
    )


@pytest.fixture(scope="session")
def row(closing):
    return row_of(closing.statements[0])


def row_of(said, **changes):
    facts = {
        "id": said.id, "period": said.period, "creator": said.creator, "currency": said.currency,
        "amounts": (said.opening_grains, said.earned_grains, said.closing_grains),
        "lines_sha256": said.lines_sha256, "body": canonical(said), "opening": 0, "earned": said.earned_grains,
        "moves": {},
    }  # fmt: skip
    return Row(**(facts | changes))


def kinds(findings):
    return {invariant for invariant, _ in findings}


def test_what_a_close_made_breaks_nothing(closing, period):
    assert list(period_findings(period, None)) == []
    for said in closing.statements:
        assert list(statement_findings(row_of(said), period)) == []


@pytest.mark.parametrize(
    ("changes", "invariant"),
    [
        ({"seq": 2}, "I6"),
        ({"start_bounds": {"shard-0": 1}}, "I6"),
        ({"end_bounds": {"shard-1": 3}}, "I10"),
        ({"charged_by_app": {}}, "I5"),
    ],
)
def test_a_period_that_contradicts_itself_is_told(period, changes, invariant):
    assert invariant in kinds(period_findings(dataclasses.replace(period, **changes), None))


def test_a_period_begins_where_the_one_before_ended(period):
    after = dataclasses.replace(
        period, seq=2, start_bounds={"shard-0": 20_000}, end_bounds={"shard-0": 19_999}
    )
    assert kinds(period_findings(after, period)) == {"I6", "I10"}


@pytest.mark.parametrize("field", ["charged_grains", "creators_grains", "escrow_grains", "platform_grains"])
def test_a_period_that_does_not_add_up_is_told(period, field):
    totals = msgspec.structs.replace(period.totals, **{field: getattr(period.totals, field) + 1})
    assert "I5" in kinds(period_findings(dataclasses.replace(period, totals=totals), None))


def test_an_amount_below_nothing_is_told(period):
    totals = msgspec.structs.replace(period.totals, common_grains={"unattributed": -1})
    assert "I16" in kinds(period_findings(dataclasses.replace(period, totals=totals), None))


def test_a_period_whose_money_the_ledger_does_not_have_is_told(period):
    told = list(booked_findings(period, Booked(on_the_way={"liab:work:w_1:v1": 3})))
    assert kinds(told) == {"I4", "I5"}
    assert ("I4", "period 2026-11: 3 grains stay on liab:work:w_1:v1") in told


def test_a_period_whose_answers_the_log_does_not_have_is_told(period):
    nothing = Counted(0, 0, {}, {}, 0, {}, 0, 0)
    assert len(list(counted_findings(period, nothing))) >= 8


@pytest.mark.parametrize(
    ("changes", "invariant"),
    [
        ({"body": b"{}"}, "I8"),
        ({"lines_sha256": "x"}, "I8"),
        ({"id": "stm_x"}, "I8"),
        ({"earned": 1}, "I8"),
        ({"opening": 5}, "I17"),
        ({"moves": {"t": 4}}, "I17"),
    ],
)
def test_a_statement_that_differs_from_what_is_known_is_told(row, period, changes, invariant):
    assert invariant in kinds(statement_findings(dataclasses.replace(row, **changes), period))


def test_a_statement_in_another_currency_or_of_other_totals_is_told(row, period):
    assert "I19" in kinds(statement_findings(row, dataclasses.replace(period, currency="EUR")))
    totals = msgspec.structs.replace(period.totals, events=1)
    assert "I8" in kinds(statement_findings(row, dataclasses.replace(period, totals=totals)))


@pytest.mark.parametrize(
    ("changes", "invariant"),
    [
        ({"verdict": "prohibited"}, "I14"),
        ({"verdict": "own_app"}, "I14"),
        ({"gross_grains": 0}, "I16"),
        ({"split_ppm": 1}, "I9"),
    ],
)
def test_a_line_that_pays_what_it_may_not_is_told(closing, period, changes, invariant):
    said = closing.statements[0]
    place, line = next(
        (n, one) for n, one in enumerate(said.lines) if one.verdict == "paid" and one.net_grains > 9
    )
    lines = list(said.lines)
    lines[place] = msgspec.structs.replace(line, **changes)
    changed = msgspec.structs.replace(said, lines=tuple(lines))
    assert invariant in kinds(statement_findings(row_of(changed), period))


def payment(creator="c_a", **changes):
    facts = {
        "id": payment_id("pob_1", creator), "creator": creator, "account_version": 1, "last4": "", "gross_minor": 100,
        "withheld_minor": 10, "net_minor": 90, "regime": "xx", "form": "other", "rate_ppm": 100_000,
    }  # fmt: skip
    return Payment(**(facts | changes))


def batch(*payments, by="ada"):
    return Batch(
        id="pob_1", rail="manual", currency="USD", day="2026-12-01", created_by=by, created_us=0, debtor=Debtor(),
        payments=payments, unpaid=(),
    )  # fmt: skip


def event(kind, seq=1, *, payment="", by="bob"):
    return Event(seq=seq, kind=kind, payment=payment, detail="", by=by, at_us=0)


NET, TAX = 90 * 10**7, 10 * 10**7


def test_a_batch_is_booked_as_its_events_say():
    one = payment()
    paid = {f"payout|{one.id}": NET, f"payout_tax|{one.id}": TAX}
    back = paid | {f"payout_return|{one.id}": NET, f"payout_tax_return|{one.id}": TAX}
    events = [event("created"), event("approved", 2), event("exported", 3)]
    for booked, more in (
        (paid, []),
        (paid | {f"payout_settled|{one.id}": NET}, [event("settled", 4, payment=one.id)]),
        (back, [event("returned", 4, payment=one.id)]),
    ):
        assert list(batch_findings(batch(one), events + more, booked)) == []
        assert kinds(batch_findings(batch(one), [event("created")], booked)) == {"I11"}
        assert kinds(batch_findings(batch(one), events + more, {})) == {"I11"}
    assert (
        list(
            batch_findings(batch(one), [event("created"), event("approved", 2), event("cancelled", 3)], back)
        )
        == []
    )
    assert list(batch_findings(batch(one), [event("created")], {})) == []


@pytest.mark.parametrize(
    ("paying", "events"),
    [
        (batch(payment(id="ecp-x")), []),
        (batch(payment(rate_ppm=1)), []),
        (batch(payment(regime="")), []),
        (batch(payment(), payment()), []),
        (batch(by=" Ada "), [event("approved", by="ada")]),
        (batch(), [event("created", 2), event("approved", 1)]),
    ],
)
def test_a_batch_that_may_not_be_is_told(paying, events):
    assert kinds(batch_findings(paying, events, {})) == {"I11"}


def test_a_tally_counts_all_and_names_some():
    tally = Tally()
    tally.looked("I1", 5)
    tally.take(("I1", str(number)) for number in range(NAMED_MAX + 3))
    first, second, *_ = tally.results()
    assert (first.state, first.rows, first.broken, len(first.named)) == (
        "broken",
        5,
        NAMED_MAX + 3,
        NAMED_MAX,
    )
    assert (second.state, second.broken) == ("ok", 0)
    assert {one.id: one.why for one in tally.results() if one.state == "not_yet"} == dict(NOT_YET)
    assert [one.id for one in tally.results()] == list(INVARIANTS)

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.billing import ledger, payouts
from proxy.billing.money import GRAINS_PER_MINOR
from proxy.billing.payees import TaxProfile
from proxy.billing.payouts import Batch, Debtor, Event, Payee, Payment, Rules
from proxy.errors import Conflict
from proxy.settings import WithholdingRow

DAY = dt.date(2026, 11, 23)
KEPT = WithholdingRow(regime="us", form="W8BEN", ppm=300_000, effective_from=dt.date(2026, 1, 1), treaty=True)
RULES = Rules("manual", "USD", DAY, 10 * 100 * GRAINS_PER_MINOR)
W8BEN = TaxProfile("W8BEN", "DE", None, dt.date(2026, 1, 1))
CENT = GRAINS_PER_MINOR


def payee(**changes):
    return Payee(**({"account_version": 1, "rail": "manual", "last4": "3000"} | changes))


def batch_of(owed, payees, rules=RULES):
    payments, unpaid = payouts.plan("pob_1", rules, owed, payees)
    return Batch(
        id="pob_1", rail=rules.rail, currency=rules.currency, day=DAY.isoformat(), created_by="ada",
        created_us=1, debtor=Debtor(), payments=payments, unpaid=unpaid,
    )  # fmt: skip


def reason(grains, rules=RULES, currency="USD", **changes):
    known = {"c_a": payee(**changes)} if changes != {"rail": None} else {}
    made = batch_of({("c_a", currency): grains}, known, rules)
    return made.unpaid[0].reason if made.unpaid else made.payments[0]


def test_whole_minor_units_are_paid_and_the_rest_stays():
    made = reason(317_488 * CENT + 2_986_490)
    assert (made.gross_minor, made.withheld_minor, made.net_minor) == (317_488, 0, 317_488)


def test_what_is_withheld_is_cut_in_the_payees_favour():
    rules = Rules("manual", "USD", DAY, 0, (KEPT,))
    made = reason(317_488 * CENT + 2_986_490, rules, tax=W8BEN)
    assert (made.withheld_minor, made.net_minor, made.regime) == (95_246, 222_242, "us")


@pytest.mark.parametrize(
    ("grains", "changes", "why"),
    [
        (999 * CENT, {"hold": ""}, "below_minimum"),
        (2_000 * CENT, {"minimum_grains": 2_001 * CENT}, "below_minimum"),
        (2_000 * CENT, {"rail": None}, "no_details"),
        (2_000 * CENT, {"hold": "a dispute"}, "held"),
        (2_000 * CENT, {"rail": "stripe"}, "other_rail"),
    ],
)
def test_whoever_is_not_paid_is_told_why(grains, changes, why):
    assert reason(grains, **changes) == why


def test_another_currency_is_never_paid_by_this_batch():
    assert reason(10**15, currency="EUR", hold="") == "other_currency"


def test_less_than_a_minor_unit_is_not_paid_even_without_a_minimum():
    assert reason(CENT - 1, Rules("manual", "USD", DAY, 0), hold="") == "below_minimum"


def test_where_the_table_asks_for_a_form_nobody_is_paid_without_it():
    rules = Rules("manual", "USD", DAY, 0, (KEPT,))
    assert reason(2_000 * CENT, rules, hold="") == "no_tax_form"
    assert isinstance(reason(2_000 * CENT, rules, tax=W8BEN), Payment)


def test_where_everything_would_be_withheld_nothing_is_moved():
    everything = WithholdingRow(regime="x", form="*", ppm=1_000_000, effective_from=dt.date(2026, 1, 1))
    assert reason(2_000 * CENT, Rules("manual", "USD", DAY, 0, (everything,)), tax=W8BEN) == "nothing_left"


def test_sepa_moves_euros_only():
    assert reason(2_000 * CENT, Rules("sepa", "USD", DAY, 0), rail="sepa") == "rail_currency"
    assert isinstance(reason(2_000 * CENT, Rules("sepa", "EUR", DAY, 0), "EUR", rail="sepa"), Payment)


def test_an_account_that_nobody_has_checked_is_not_paid():
    assert reason(2_000 * CENT, verified=False) == "unverified"
    assert reason(2_000 * CENT, verified=False, hold="a dispute") == "held"


def test_a_form_from_a_country_without_a_row_is_not_paid():
    france = WithholdingRow(regime="x", form="W8BEN", ppm=0, country="FR", effective_from=dt.date(2026, 1, 1))
    assert reason(2_000 * CENT, Rules("manual", "USD", DAY, 0, (france,)), tax=W8BEN) == "tax_country"


def test_who_owes_something_is_never_paid():
    for grains in (0, -1, -(10**12)):
        made = batch_of({("c_a", "USD"): grains}, {"c_a": payee()})
        assert (made.payments, made.unpaid) == ((), ())


def test_a_batch_that_is_full_leaves_the_rest_to_the_next(monkeypatch):
    monkeypatch.setattr(payouts, "PAYMENTS_MAX", 1)
    owed = {("c_a", "USD"): 10**11, ("c_b", "USD"): 10**11}
    made = batch_of(owed, {"c_a": payee(), "c_b": payee()})
    assert [one.creator for one in made.payments] == ["c_a"]
    assert [one.reason for one in made.unpaid] == ["batch_full"]


def test_a_payment_that_does_not_add_up_cannot_exist():
    facts = {
        "id": "x",
        "creator": "c",
        "account_version": 1,
        "last4": "",
        "regime": "",
        "form": "",
        "rate_ppm": 0,
    }
    for gross, withheld, net in ((3, 1, 1), (1, 1, 0), (1, 2, -1), (1, -1, 2)):
        with pytest.raises(ValueError, match="its parts"):
            Payment(**facts, gross_minor=gross, withheld_minor=withheld, net_minor=net)


people = st.integers(0, 30).map("c_{:03d}".format)
owings = st.dictionaries(
    st.tuples(people, st.sampled_from(["USD", "EUR"])), st.integers(-(10**12), 10**16), max_size=30
)
known_payees = st.dictionaries(
    people,
    st.builds(
        Payee,
        account_version=st.integers(1, 5),
        rail=st.sampled_from(["manual", "stripe"]),
        minimum_grains=st.sampled_from([0, 10**12]),
        tax=st.sampled_from([None, W8BEN, TaxProfile("W8BEN", "FR", 50_000, dt.date(2026, 1, 1))]),
        hold=st.sampled_from(["", "", "held"]),
    ),
)
tables = st.sampled_from([(), (KEPT,)])


@given(owings, known_payees, tables)
def test_every_grain_owed_is_paid_or_told_of_and_none_is_made(owed, payees, table):
    rules = Rules("manual", "USD", DAY, 0, table)
    made = batch_of(owed, payees, rules)
    told = {(one.creator, one.currency) for one in made.unpaid}
    paid = {(one.creator, "USD") for one in made.payments}
    assert told | paid == {key for key, grains in owed.items() if grains > 0}
    assert not told & paid
    books = {
        (ledger.payee(who), currency): grains for (who, currency), grains in owed.items() if currency == "USD"
    }
    booked = ledger.balances(payouts.pending(made, 1))
    assert sum(booked.values()) == 0
    for one in made.payments:
        left = books[ledger.payee(one.creator), "USD"] + booked[ledger.payee(one.creator), "USD"]
        assert 0 <= left < GRAINS_PER_MINOR, "never more than is owed, and all of its whole minor units"
        assert one.withheld_minor * 1_000_000 <= one.gross_minor * one.rate_ppm
        assert one.withheld_minor * 1_000_000 > one.gross_minor * one.rate_ppm - 1_000_000
    assert booked.get((ledger.payout("pob_1"), "USD"), 0) == made.net_minor * GRAINS_PER_MINOR


@given(owings, known_payees, st.randoms())
def test_planning_again_in_any_order_is_the_same_to_the_byte_and_ids_are_unique(owed, payees, random):
    made = batch_of(owed, payees)
    turned = list(owed.items())
    random.shuffle(turned)
    assert batch_of(dict(turned), payees) == made
    ids = [one.id for one in made.payments]
    assert len(set(ids)) == len(ids)
    assert all(len(one) <= 35 and one.isascii() for one in ids)
    assert not {payouts.payment_id("pob_2", one.creator) for one in made.payments} & set(ids)


@given(owings, known_payees, tables, st.data())
def test_whatever_the_bank_answers_the_books_balance_and_nothing_is_left_on_its_way(
    owed, payees, table, data
):
    made = batch_of(owed, payees, Rules("manual", "USD", DAY, 0, table))
    transfers = payouts.pending(made, 1)
    for one in made.payments:
        settles, returns = data.draw(st.sampled_from([(True, False), (True, True), (False, True)]))
        transfers += payouts.settled(made, one, 2) if settles else []
        transfers += payouts.returned(made, one, 3, was_settled=settles) if returns else []
    balances = ledger.balances(transfers)
    assert not balances.get((ledger.payout("pob_1"), "USD"), 0)
    kept = balances.get((ledger.tax("us"), "USD"), 0) + balances.get((ledger.cash("manual"), "USD"), 0) * -1
    assert kept == -sum(grains for (code, _), grains in balances.items() if code.startswith("liab:payee:"))
    assert len({transfer.id for transfer in transfers}) == len(transfers)


def event(kind, payment="", by="bob", seq=1):
    return Event(seq=seq, kind=kind, payment=payment, detail="", by=by, at_us=1)


@pytest.fixture
def batch():
    owed = {(who, "USD"): 5_000 * CENT + 3 for who in ("c_a", "c_b")}
    return batch_of(owed, {"c_a": payee(), "c_b": payee()})


def test_who_created_a_batch_cannot_approve_it_however_they_write_their_name(batch):
    for name in ("ada", "Ada", " ADA "):
        with pytest.raises(Conflict) as refused:
            payouts.may_approve(batch, [], name)
        assert refused.value.code == "payouts_second_person"
    assert payouts.may_approve(batch, [], "bob")


def test_approving_twice_does_nothing_and_a_cancelled_one_cannot_be(batch):
    assert not payouts.may_approve(batch, [event("approved")], "eve")
    with pytest.raises(Conflict):
        payouts.may_approve(batch, [event("cancelled")], "bob")


def test_a_file_is_written_only_between_approval_and_the_banks_answer(batch):
    first = batch.payments[0].id
    for events in ([], [event("cancelled")], [event("approved"), event("exported"), event("settled", first)]):
        with pytest.raises(Conflict):
            payouts.may_export(batch, events)
    payouts.may_export(batch, [event("approved")])
    payouts.may_export(batch, [event("approved"), event("exported")])


def test_a_batch_that_a_bank_may_have_is_not_cancelled(batch):
    assert payouts.may_cancel(batch, [])
    assert payouts.may_cancel(batch, [event("approved")])
    assert not payouts.may_cancel(batch, [event("cancelled")])
    with pytest.raises(Conflict):
        payouts.may_cancel(batch, [event("approved"), event("exported")])


def test_what_was_never_sent_is_neither_settled_nor_returned(batch):
    for events in ([], [event("approved")]):
        with pytest.raises(Conflict):
            payouts.to_settle(batch, events, ())
        with pytest.raises(Conflict):
            payouts.to_return(batch, events, [batch.payments[0].id])


def test_settling_takes_what_is_pending_and_says_so_of_what_came_back(batch):
    one, two = batch.payments
    sent = [event("approved"), event("exported")]
    assert payouts.to_settle(batch, sent, ()) == [one, two]
    assert payouts.to_settle(batch, [*sent, event("settled", one.id)], ()) == [two]
    assert payouts.to_settle(batch, [*sent, event("settled", one.id)], (one.id,)) == []
    back = [*sent, event("settled", one.id), event("returned", one.id)]
    assert payouts.payment_states(batch, back) == {one.id: "returned", two.id: "pending"}
    assert payouts.to_return(batch, back, [one.id, two.id]) == [two]
    assert payouts.to_settle(batch, back, ()) == [two]
    with pytest.raises(Conflict, match="was returned"):
        payouts.to_settle(batch, back, (one.id,))
    with pytest.raises(Conflict, match="no payment"):
        payouts.to_settle(batch, sent, ("ecp-x",))


def test_what_changed_since_it_was_planned_is_named(batch):
    owed = {("c_a", "USD"): 5_000 * CENT, ("c_b", "USD"): 5_000 * CENT}
    fine = {"c_a": payee(), "c_b": payee()}
    assert payouts.changed(batch, owed, fine) == []
    assert payouts.changed(batch, owed | {("c_a", "USD"): 4_999 * CENT}, fine)[0] == (
        "c_a",
        "is owed less now",
    )
    assert payouts.changed(batch, owed, fine | {"c_b": payee(account_version=2)})[0][0] == "c_b"
    assert payouts.changed(batch, owed, fine | {"c_b": payee(hold="x")}) == [("c_b", "is held now")]


@given(st.integers(1, 1 << 50), st.integers(0, 1 << 50))
def test_what_is_of_a_draft_is_never_paid_and_the_rest_is_as_if_it_were_alone(grains, drafted):
    drafts = {("c_a", "USD"): drafted}
    rules = Rules("manual", "USD", DAY, 0)
    paid, unpaid = payouts.plan("pob_1", rules, {("c_a", "USD"): grains}, {"c_a": payee()}, drafts)
    alone, _ = payouts.plan("pob_1", rules, {("c_a", "USD"): grains - drafted}, {"c_a": payee()})
    assert paid == alone
    if not paid:
        assert unpaid[0].reason == ("draft" if grains >= CENT else "below_minimum")
        assert unpaid[0].grains == grains

"""A batch from proposal to the bank's answer, on both engines: what is booked, once, by two people."""

import datetime as dt
import threading

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from proxy.billing import booking_store, payees, payouts_store, store
from proxy.billing.money import GRAINS_PER_MINOR, PPM
from proxy.billing.payees import TaxProfile
from proxy.billing.payees_store import Payees
from proxy.billing.payouts import Debtor, Rules, payment_states, state_of
from proxy.billing.payouts_store import Payouts
from proxy.billing.run import close_period
from proxy.billing.statements import Books, SplitSet
from proxy.errors import BadRequest, Conflict, NotFound
from proxy.metering.usage import Line
from proxy.settings import Billing, WithholdingRow
from tests.fakes import CountingIds, FrozenClock
from tests.proxy.billing.conftest import CLOSED_US, make_event, meter, register

DAY = dt.date(2026, 12, 1)
KEPT = WithholdingRow(regime="xx", form="other", ppm=100_000, effective_from=dt.date(2026, 1, 1))
RULES = Rules("manual", "USD", DAY, 0)
PRICE = 10_000 * GRAINS_PER_MINOR + 7
BOOKS = Books(
    {"w_1": SplitSet(1, (("c_a", PPM),), "Low Water"), "w_2": SplitSet(1, (("c_b", PPM),), "High Water")},
    {"c_a": "Ada", "c_b": "Bo"},
    {"app_a": "Choir"},
    {},
)


class Scene:
    """Two creators with accounts, owed money by a closed period; ada proposes, bob approves."""

    def __init__(self, engine, prices):
        self.engine, self.prices = engine, prices
        self.clock, self.ids, self.number = FrozenClock(CLOSED_US), CountingIds(), 0
        register(engine, BOOKS)
        self.payees = Payees(engine, clock=self.clock, key=lambda: bytes(32))
        for creator in ("c_a", "c_b"):
            self.payees.enter(creator, account(creator), minimum_grains=0, currency="USD")
        self.ada, self.bob, self.eve = (self.by(name) for name in ("ada", "bob", "eve"))
        self.close("1")

    def by(self, name):
        return Payouts(self.engine, clock=self.clock, ids=self.ids, by=name)

    def close(self, label, *, used=True, days=0):
        rules = Billing(comment_days=days)
        if used:
            lines = (Line("w_1", 500_000), Line("w_2", 300_000))
            self.number += 1
            meter(self.engine, [make_event(self.number, lines, price_grains=PRICE)])
        made = close_period(self.engine, label, rules, self.prices, dry_run=False, now_us=CLOSED_US)
        return {one.creator: one for one in made.statements}

    def balance(self, prefix):
        return sum(store.balances(self.engine, prefix).values())

    def balances_out(self):
        found = store.balances(self.engine)
        signs = {"asset": 1, "expense": 1, "liab": -1, "income": -1}
        return sum(signs[code.partition(":")[0]] * grains for (code, _), grains in found.items()) == 0

    def approved(self, rules=RULES):
        batch, _ = self.ada.create(rules, Debtor())
        self.bob.approve(batch.id)
        return batch

    def exported(self, rules=RULES):
        batch = self.approved(rules)
        self.bob.export(batch.id, in_words)
        return batch


def account(creator):
    return payees.account("manual", f"cheque to {creator}", holder=creator, country_code="DE")


def in_words(batch, at_us):
    return f"{batch.id} {at_us} {batch.net_minor}".encode()


@pytest.fixture
def scene(engine, prices):
    made = Scene(engine, prices)
    yield made
    assert made.balances_out()


def test_nothing_is_booked_until_a_second_person_approves(scene):
    owed = scene.balance("liab:payee:")
    batch, is_new = scene.ada.create(RULES, Debtor())
    assert is_new
    assert scene.balance("liab:payee:") == owed
    with pytest.raises(Conflict) as refused:
        scene.by("Ada").approve(batch.id)
    assert refused.value.code == "payouts_second_person"
    with pytest.raises(Conflict):
        scene.bob.export(batch.id, in_words)
    assert scene.bob.approve(batch.id)[1]
    assert scene.balance(f"liab:payout:{batch.id}") == batch.net_minor * GRAINS_PER_MINOR
    assert scene.balance("liab:payee:") == owed - batch.net_minor * GRAINS_PER_MINOR
    assert scene.balance("liab:payee:") < 2 * GRAINS_PER_MINOR, "what is under a cent stays"


def test_every_step_done_twice_is_done_once(scene):
    batch, _ = scene.ada.create(RULES, Debtor())
    assert scene.ada.create(RULES, Debtor()) == (batch, False)
    assert scene.eve.create(RULES, Debtor()) == (batch, False)
    assert [scene.bob.approve(batch.id)[1] for _ in range(2)] == [True, False]
    assert scene.eve.approve(batch.id)[1] is False
    assert scene.bob.export(batch.id, in_words) == scene.eve.export(batch.id, in_words)
    assert [len(scene.bob.settle(batch.id, ref="B1")) for _ in range(2)] == [2, 0]
    one = batch.payments[0].id
    assert [scene.bob.give_back(one, "Account closed.") for _ in range(2)] == [True, False]
    _, events = payouts_store.batch(scene.engine, batch.id)
    assert [event.kind for event in events] == [
        "created",
        "approved",
        "exported",
        "settled",
        "settled",
        "returned",
    ]
    assert [event.seq for event in events] == list(range(1, 7))


def test_what_was_withheld_is_owed_to_the_authority_and_comes_back_with_the_payment(scene):
    scene.payees.declare("c_a", TaxProfile("other", "DE", None, dt.date(2026, 1, 1)))
    rules = Rules("manual", "USD", DAY, 0, (KEPT,))
    batch = scene.exported(rules)
    (one,) = batch.payments
    assert [unpaid.reason for unpaid in batch.unpaid] == ["no_tax_form"]
    assert one.withheld_minor == one.gross_minor // 10
    assert scene.balance("liab:tax:xx") == one.withheld_minor * GRAINS_PER_MINOR
    scene.bob.settle(batch.id)
    assert scene.balance("asset:cash:manual") == -one.net_minor * GRAINS_PER_MINOR
    scene.bob.give_back(one.id, "Account closed.")
    for emptied in ("liab:tax:", "asset:cash:", "liab:payout:"):
        assert scene.balance(emptied) == 0


def test_what_came_back_is_paid_by_the_next_batch_under_another_id(scene):
    first = scene.exported()
    back = first.payments[0]
    scene.bob.give_back(back.id, "Account closed.")
    second = scene.exported()
    assert [one.creator for one in second.payments] == [back.creator]
    assert second.payments[0].id != back.id
    assert second.payments[0].gross_minor == back.gross_minor


def test_statements_tell_what_was_paid_withheld_and_returned_and_add_up(scene):
    scene.payees.declare("c_a", TaxProfile("other", "DE", None, dt.date(2026, 1, 1)))
    batch = scene.exported(Rules("manual", "USD", DAY, 0, (KEPT,)))
    (one,) = batch.payments
    second = scene.close("2")["c_a"]
    assert second.paid_grains == one.net_minor * GRAINS_PER_MINOR
    assert second.withheld_grains == one.withheld_minor * GRAINS_PER_MINOR
    assert {move.ref for move in second.moves} == {one.id}
    scene.bob.give_back(one.id, "Account closed.")
    third = scene.close("3", used=False)["c_a"]
    assert third.opening_grains == second.closing_grains
    assert third.returned_grains == one.gross_minor * GRAINS_PER_MINOR
    for told in (second, third):
        assert told.closing_grains == (
            told.opening_grains
            + told.earned_grains
            - told.paid_grains
            - told.withheld_grains
            + told.returned_grains
        )
    assert scene.balance("liab:payee:c_a") == third.closing_grains


def test_an_approved_batch_is_taken_back_until_a_file_was_written(scene):
    owed = scene.balance("liab:payee:")
    batch = scene.approved()
    assert scene.eve.cancel(batch.id, "Wrong day.")
    assert not scene.eve.cancel(batch.id, "Wrong day.")
    assert scene.balance("liab:payee:") == owed
    assert scene.balance("liab:payout:") == 0
    with pytest.raises(Conflict):
        scene.bob.export(batch.id, in_words)
    again = scene.exported()
    assert again.id != batch.id
    with pytest.raises(Conflict) as refused:
        scene.eve.cancel(again.id, "Too late.")
    assert refused.value.code == "payouts_exported"


def test_a_proposal_that_was_cancelled_books_nothing(scene):
    batch, _ = scene.ada.create(RULES, Debtor())
    assert scene.ada.cancel(batch.id, "Wrong day.")
    _, events = payouts_store.batch(scene.engine, batch.id)
    assert state_of(events) == "cancelled"
    with pytest.raises(Conflict):
        scene.bob.approve(batch.id)


@pytest.mark.parametrize("change", ["account", "hold"])
def test_what_changed_after_the_proposal_is_not_approved(scene, change):
    batch, _ = scene.ada.create(RULES, Debtor())
    if change == "account":
        scene.payees.enter("c_a", account("someone else"), minimum_grains=0, currency="USD")
    else:
        scene.payees.hold("c_a", "A letter came back.", held=True)
    before = scene.balance("liab:payee:")
    with pytest.raises(Conflict) as refused:
        scene.bob.approve(batch.id)
    assert refused.value.code == "payouts_changed"
    assert scene.balance("liab:payee:") == before
    assert state_of(payouts_store.batch(scene.engine, batch.id)[1]) == "created"


def test_two_proposals_are_not_open_at_once(scene):
    scene.ada.create(RULES, Debtor())
    scene.close("2")
    with pytest.raises(Conflict) as refused:
        scene.ada.create(RULES, Debtor())
    assert refused.value.code == "payouts_open"


def test_a_dry_run_keeps_nothing_and_neither_does_a_batch_that_pays_nobody(scene):
    batch, is_new = scene.ada.create(RULES, Debtor(), dry_run=True)
    assert (len(batch.payments), is_new) == (2, False)
    nobody, is_new = scene.ada.create(Rules("stripe", "USD", DAY, 0), Debtor())
    assert (nobody.payments, is_new) == ((), False)
    assert {one.reason for one in nobody.unpaid} == {"other_rail"}
    assert payouts_store.batches(scene.engine) == []


def test_a_crash_between_booking_and_writing_the_file_costs_nothing(scene):
    batch = scene.approved()

    class Crash(Exception):
        pass

    def dies(*_):
        raise Crash

    with pytest.raises(Crash):
        scene.bob.export(batch.id, dies)
    assert state_of(payouts_store.batch(scene.engine, batch.id)[1]) == "approved"
    first = scene.bob.export(batch.id, in_words)  # and the process dies before it has written the file
    assert scene.bob.export(batch.id, in_words) == first
    with pytest.raises(Conflict):
        scene.bob.cancel(batch.id, "It never left, they say.")


def test_another_file_under_the_same_id_is_refused(scene):
    batch = scene.exported()
    with pytest.raises(Conflict) as refused:
        scene.bob.export(batch.id, lambda *_: b"something else")
    assert refused.value.code == "payouts_file_differs"


def test_a_crash_before_the_commit_leaves_nothing_booked_and_doing_it_again_books_it_once(scene, monkeypatch):
    batch, _ = scene.ada.create(RULES, Debtor())
    before = scene.balance("liab:payee:")
    book = booking_store.book

    def dies(*arguments):
        book(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(booking_store, "book", dies)
    with pytest.raises(KeyboardInterrupt):
        scene.bob.approve(batch.id)
    monkeypatch.undo()
    assert scene.balance("liab:payee:") == before
    assert scene.bob.approve(batch.id)[1]
    assert scene.balance("liab:payout:") == batch.net_minor * GRAINS_PER_MINOR


@pytest.mark.parametrize("step", ["create", "approve", "settle", "give_back"])
def test_of_two_operators_at_once_one_does_it_and_the_other_finds_it_done(scene, step):
    batch = None
    if step == "approve":
        batch, _ = scene.ada.create(RULES, Debtor())
    elif step != "create":
        batch = scene.exported()
    start = threading.Barrier(2)
    done = []

    def act(name):
        payouts = scene.by(name)
        start.wait()
        if step == "create":
            done.append(payouts.create(RULES, Debtor())[1])
        elif step == "approve":
            done.append(payouts.approve(batch.id)[1])
        elif step == "settle":
            done.append(bool(payouts.settle(batch.id)))
        else:
            done.append(payouts.give_back(batch.payments[0].id, "Account closed."))

    threads = [threading.Thread(target=act, args=(name,)) for name in ("bob", "eve")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == [False, True]
    assert len(payouts_store.batches(scene.engine)) == 1


def test_a_creator_finds_their_payments_with_what_became_of_them(scene):
    def seen(creator="c_a"):
        return [(one.batch, one.state, one.detail) for one in payouts_store.of_creator(scene.engine, creator)]

    batch, _ = scene.ada.create(RULES, Debtor())
    one = next(payment for payment in batch.payments if payment.creator == "c_a")
    assert seen() == [(batch.id, "planned", "")]
    scene.bob.approve(batch.id)
    scene.bob.export(batch.id, in_words)
    assert seen() == [(batch.id, "pending", "")]
    scene.bob.settle(batch.id, [one.id], ref="B1")
    assert seen() == [(batch.id, "settled", "B1")]
    assert seen("c_b") == [(batch.id, "pending", "")]
    scene.bob.give_back(one.id, "Account closed.")
    assert seen() == [(batch.id, "returned", "Account closed.")]
    assert seen("c_z") == []
    scene.clock.advance(1)
    again, _ = scene.ada.create(RULES, Debtor())
    scene.ada.cancel(again.id, "Wrong day.")
    assert seen() == [(again.id, "cancelled", "Wrong day."), (batch.id, "returned", "Account closed.")]


def test_batches_are_listed_newest_first_page_by_page(scene):
    made = []
    for _ in range(3):
        scene.clock.advance(1)
        batch, _ = scene.ada.create(RULES, Debtor())
        scene.ada.cancel(batch.id, "Again.")
        made.insert(0, batch.id)
    (first, second) = payouts_store.batches(scene.engine, limit=2)
    place = (second[0].created_us, second[0].id)
    (third,) = payouts_store.batches(scene.engine, before=place, limit=2)
    assert [first[0].id, second[0].id, third[0].id] == made
    (newest,) = payouts_store.of_creator(scene.engine, "c_a", limit=1)
    older = payouts_store.of_creator(scene.engine, "c_a", before=(newest.created_us, newest.batch))
    assert [one.batch for one in (newest, *older)] == made, "a creator's payments are paged as batches are"
    states = payment_states(*payouts_store.batches(scene.engine)[0])
    assert set(states.values()) == {"cancelled"}


def test_under_one_key_one_batch_is_created_whatever_became_of_it(scene):
    batch, is_new = scene.ada.create(RULES, Debtor(), key="k-1")
    assert is_new
    scene.bob.approve(batch.id)
    scene.close("2")
    assert scene.ada.create(RULES, Debtor(), key="k-1") == (batch, False)
    other, is_new = scene.ada.create(RULES, Debtor(), key="k-2")
    assert is_new
    assert other.id != batch.id
    with pytest.raises(Conflict) as refused:
        scene.ada.create(Rules("stripe", "USD", DAY, 0), Debtor(), key="k-1")
    assert refused.value.code == "idempotency_key"
    scene.ada.cancel(other.id, "Enough.")
    assert scene.eve.create(RULES, Debtor(), key="k-1")[0].id not in {batch.id, other.id}, (
        "keys are one's own"
    )
    for wrong in ("x" * 256, "two\nlines"):
        with pytest.raises(BadRequest):
            scene.ada.create(RULES, Debtor(), key=wrong)


def test_what_does_not_exist_is_not_found(scene):
    with pytest.raises(NotFound):
        scene.bob.approve("pob_x")
    with pytest.raises(NotFound):
        scene.bob.give_back("ecp-x", "Why.")


@pytest.mark.parametrize("table", ["payout_batch", "payout", "payout_event"])
def test_what_happened_to_a_batch_cannot_be_changed(scene, table):
    scene.approved()
    for change in ("UPDATE {0} SET {1} = {1}", "DELETE FROM {0}"):
        column = "batch_id" if table == "payout_event" else "id"
        with scene.engine.connect() as connection, pytest.raises(DBAPIError, match="append-only"):
            connection.execute(sa.text(change.format(table, column)))


def test_what_a_draft_earned_is_not_paid_before_it_is_final(scene):
    first = scene.close("2", days=14)
    batch, _ = scene.ada.create(RULES, Debtor())
    paid = {one.creator: one.gross_minor for one in batch.payments}
    assert paid["c_a"] == first["c_a"].opening_grains // GRAINS_PER_MINOR
    scene.bob.approve(batch.id)
    assert {one.reason for one in scene.ada.create(RULES, Debtor())[0].unpaid} == {"draft"}
    scene.clock.advance(14 * 86_400)
    later, _ = scene.ada.create(RULES, Debtor())
    assert [one.creator for one in later.payments] == ["c_a", "c_b"]
    assert (
        later.payments[0].gross_minor
        == (first["c_a"].closing_grains - paid["c_a"] * GRAINS_PER_MINOR) // GRAINS_PER_MINOR
    )

"""Whatever operators do, in any order and as often as they like: every account says what the payments say."""

import datetime as dt
import shutil
import tempfile
from pathlib import Path

import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlmodel import SQLModel

from proxy.billing import booking_store, ledger, payees, payouts_store, store
from proxy.billing.ledger import Entry, Transfer, transfer_id
from proxy.billing.money import GRAINS_PER_MINOR
from proxy.billing.payees import TaxProfile
from proxy.billing.payees_store import Payees
from proxy.billing.payouts import Debtor, Rules, payment_states, state_of
from proxy.billing.payouts_store import Payouts
from proxy.database import open_engine
from proxy.errors import Problem
from proxy.settings import WithholdingRow
from tests.fakes import CountingIds, FrozenClock
from tests.stores import lay

DAY = dt.date(2026, 12, 1)
CREATORS = ("c_a", "c_b", "c_c")
KEPT = WithholdingRow(regime="xx", form="W9", ppm=123_457, effective_from=dt.date(2026, 1, 1))
NONE = WithholdingRow(regime="xx", form="none", ppm=0, effective_from=dt.date(2026, 1, 1))
RULES = Rules("manual", "USD", DAY, 500 * GRAINS_PER_MINOR, (KEPT, NONE))
people = st.sampled_from(["ada", "bob", "ADA ", "eve"])
creators = st.sampled_from(CREATORS)
empty: list[Path] = []  # a store with nothing but creators, made once and copied


def an_empty_store() -> Path:
    if not empty:
        path = Path(tempfile.mkdtemp()) / "empty.db"
        lay(f"sqlite:///{path}")
        engine = open_engine(f"sqlite:///{path}")
        rows = [{"id": one, "ref": one, "name": one, "country": "", "created_us": 0} for one in CREATORS]
        with engine.begin() as connection:
            connection.execute(sa.insert(SQLModel.metadata.tables["creator"]), rows)
        engine.dispose()
        empty.append(path)
    return empty[0]


class Operators(RuleBasedStateMachine):
    """Three creators, four names of three operators, one rail."""

    @initialize()
    def open(self):
        self.folder = Path(tempfile.mkdtemp())
        shutil.copy(an_empty_store(), self.folder / "store.db")
        self.engine = open_engine(f"sqlite:///{self.folder / 'store.db'}")
        self.clock, self.ids = FrozenClock(), CountingIds()
        self.kept = Payees(self.engine, clock=self.clock, key=lambda: bytes(32))
        self.earned = dict.fromkeys(CREATORS, 0)
        self.files: dict[str, bytes] = {}
        self.number = 0
        for creator in CREATORS:
            self.enter(creator)
            self.earn(creator, 10**10)
        self.kept.declare("c_b", TaxProfile("W9", "US", None, dt.date(2026, 1, 1)))

    def teardown(self):
        if hasattr(self, "engine"):
            self.engine.dispose()
            shutil.rmtree(self.folder)

    def acts(self, by):
        self.clock.advance(1)
        return Payouts(self.engine, clock=self.clock, ids=self.ids, by=by)

    def batch(self, data):
        known = payouts_store.batches(self.engine)
        return data.draw(st.sampled_from(known))[0] if known else None

    def enter(self, creator):
        self.number += 1
        account = payees.account("manual", f"account {self.number}", holder=creator, country_code="DE")
        self.kept.enter(creator, account, minimum_grains=0, currency="USD")

    @rule(creator=creators, grains=st.integers(1, 10**11))
    def earn(self, creator, grains):
        self.number += 1
        self.earned[creator] += grains
        entries = (Entry("asset:receivable:app", "D", grains), Entry(ledger.payee(creator), "C", grains))
        made = Transfer(transfer_id("test", str(self.number)), "test", "USD", 0, "1", "", entries)
        with self.engine.begin() as connection:
            booking_store.book(connection, [made], "USD")

    @rule(creator=creators, what=st.sampled_from(["held", "released", "released", "moved"]))
    def disturb(self, creator, what):
        if what == "moved":
            self.enter(creator)
        else:
            self.kept.hold(creator, "Why.", held=what == "held")

    @rule()
    def carry_on(self):
        """What operators do when nothing comes between: the next step of the newest batch."""
        newest = payouts_store.batches(self.engine, limit=1)
        state = state_of(newest[0][1]) if newest else "cancelled"
        if state in {"cancelled", "exported"}:
            self.create("ada", "")
        elif state == "created":
            self.tried(lambda: self.acts("bob").approve(newest[0][0].id))
        else:
            self.taken(newest[0][0].id, "bob")

    @rule(by=people, key=st.sampled_from(["", "", "k"]))
    def create(self, by, key):
        self.tried(lambda: self.acts(by).create(RULES, Debtor(), key=key))

    @rule(by=people, data=st.data())
    def approve(self, by, data):
        batch = self.batch(data)
        if batch is not None and self.tried(lambda: self.acts(by).approve(batch.id)[1]):
            assert " ".join(by.split()).casefold() != batch.created_by.strip().casefold()

    @rule(by=people, data=st.data())
    def cancel(self, by, data):
        batch = self.batch(data)
        if batch is not None and self.tried(lambda: self.acts(by).cancel(batch.id, "Why.")):
            assert batch.id not in self.files

    @rule(by=people, data=st.data())
    def export(self, by, data):
        batch = self.batch(data)
        if batch is not None:
            self.taken(batch.id, by)

    def taken(self, batch, by):
        content = self.tried(lambda: self.acts(by).export(batch, lambda one, at: f"{one.id} {at}".encode()))
        if content:
            assert self.files.setdefault(batch, content) == content

    @rule(by=people, data=st.data())
    def answer(self, by, data):
        batch = self.batch(data)
        if batch is None or batch.id not in self.files:
            return
        names = [one.id for one in batch.payments]
        back = data.draw(st.lists(st.sampled_from(names), unique=True, max_size=2))
        paid = data.draw(st.one_of(st.none(), st.lists(st.sampled_from(names), unique=True)))
        why = dict.fromkeys(back, "AC04")
        if self.tried(lambda: self.acts(by).answer(batch.id, paid=paid, returned=why)):
            assert self.acts(by).answer(batch.id, returned=why) == ([], []), (
                "what is returned is returned once"
            )

    def tried(self, act):
        try:
            return act()
        except Problem:
            return None

    @invariant()
    def accounts_say_what_payments_say(self):
        if not hasattr(self, "engine"):
            return
        found = {code: grains for (code, _), grains in store.balances(self.engine).items() if grains}
        expected = {ledger.payee(creator): grains for creator, grains in self.earned.items()}
        expected["asset:receivable:app"] = sum(self.earned.values())

        def move(account, minor):
            expected[account] = expected.get(account, 0) + minor * GRAINS_PER_MINOR

        waiting = 0
        for batch, events in payouts_store.batches(self.engine):
            waiting += state_of(events) == "created"
            assert [event.seq for event in events] == list(range(1, len(events) + 1))
            for one in batch.payments:
                state = payment_states(batch, events)[one.id]
                if state in {"pending", "settled"}:
                    move(ledger.payee(one.creator), -one.gross_minor)
                    move(ledger.tax("xx"), one.withheld_minor)
                    move(*(
                        (ledger.payout(batch.id), one.net_minor)
                        if state == "pending"
                        else (ledger.cash("manual"), -one.net_minor)
                    ))  # fmt: skip
        assert found == {account: grains for account, grains in expected.items() if grains}
        assert all(grains >= 0 for account, grains in found.items() if account.startswith("liab:"))
        assert waiting <= 1


Operators.TestCase.settings = settings(
    max_examples=30,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
test_whatever_operators_do_every_account_says_what_the_payments_say = Operators.TestCase

"""Creators with statements, to correct and to dispute: a scene that closes periods and adds everything up."""

from __future__ import annotations

from proxy.billing import booking_store, store
from proxy.billing.adjustments_store import Adjustments
from proxy.billing.disputes_store import Disputes
from proxy.billing.ledger import Entry, Transfer, payee, transfer_id
from proxy.billing.money import PPM
from proxy.billing.run import close_period
from proxy.billing.statements import Books, SplitSet
from proxy.metering.usage import Line
from proxy.settings import Billing
from tests.fakes import FrozenClock
from tests.proxy.billing.conftest import CLOSED_US, make_event, meter, register

SPLIT = SplitSet(1, (("c_a", 600_000), ("c_b", 400_000)), "Low Water")
BOOKS = Books(
    {"w_1": SPLIT, "w_2": SplitSet(1, (("c_b", PPM),), "High Water")},
    {"c_a": "Ada", "c_b": "Bo", "c_c": "Cleo"},
    {"app_a": "Choir", "app_b": "Band"},
    {},
)
SIGNS = {"asset": 1, "expense": 1, "liab": -1, "income": -1}


class Scene:
    """w_1 is Ada's and Bo's, w_2 is Bo's, Cleo has nothing; each close begins with an answer from both works."""

    def __init__(self, engine, prices, books=BOOKS):
        self.engine, self.prices = engine, prices
        self.clock, self.number = FrozenClock(CLOSED_US), 0
        register(engine, books)

    def close(self, label, *, used=True, dry_run=False):
        if used:
            for app in ("app_a", "app_b"):
                self.number += 1
                lines = (Line("w_1", 500_000), Line("w_2", 300_000))
                meter(self.engine, [make_event(self.number, lines, app_id=app, price_grains=10_000_019)])
        now_us = self.clock.now_us()
        made = close_period(self.engine, label, Billing(), self.prices, dry_run=dry_run, now_us=now_us)
        return {one.creator: one for one in made.statements}

    def disputes(self, *, creator="", by="grace"):
        return Disputes(self.engine, clock=self.clock, creator=creator, by=by)

    def adjustments(self, by="grace"):
        return Adjustments(self.engine, clock=self.clock, by=by)

    def pay_out(self, creator, grains, source):
        """As a batch would: out of what is owed, on its way."""
        entries = (Entry(payee(creator), "D", grains), Entry("liab:payout:pob_1", "C", grains))
        made = Transfer(transfer_id("payout", source), "payout", "USD", CLOSED_US, "", source, entries)
        with self.engine.begin() as connection:
            booking_store.book(connection, [made], "USD")

    def balance(self, account):
        return store.balances(self.engine, account).get((account, "USD"), 0)

    def owed(self, creator):
        return self.balance(payee(creator))

    def check(self):
        """Debits are credits, and nobody's account is below nothing."""
        found = store.balances(self.engine)
        assert sum(SIGNS[code.partition(":")[0]] * grains for (code, _), grains in found.items()) == 0
        assert [item for item in found.items() if item[0][0].startswith("liab:") and item[1] < 0] == []

    def check_told(self, statements, before):
        """A close's statements begin where the last ones ended, add up, and end at what the ledger says."""
        for creator, one in statements.items():
            assert one.opening_grains == before.get(creator, 0)
            told = one.opening_grains + one.earned_grains + one.adjustments_grains - one.held_grains
            told += one.released_grains - one.paid_grains - one.withheld_grains + one.returned_grains
            assert one.closing_grains == told == self.owed(creator)

"""Corrections, disputes, claims, payouts, new splits and closes in any order: the books add up after every step."""

import random

import pytest

from proxy.billing.adjustments_store import listed
from proxy.billing.audit_store import audit
from proxy.billing.disputes import COMMON, HOLDER, Part
from proxy.billing.money import PPM
from proxy.billing.statements import UNCLAIMED
from proxy.errors import Problem
from tests.proxy.billing.test_escrow_store import Waiting

CREATORS = ("c_a", "c_b", "c_c")
STEPS = 40


class Walk(Waiting):
    """Random steps, from a seed; a step that is refused is a step, as long as nothing is booked by it."""

    def __init__(self, engine, prices, seed):
        super().__init__(engine, prices)
        self.draw, self.seed = random.Random(seed), seed
        self.statements, self.told, self.periods, self.done = [], {}, 0, 0
        self.cases, self.claims = [], []

    def step(self):
        self.done += 1
        acts = (
            self.closes,
            self.opens,
            self.ends,
            self.corrects,
            self.approves,
            self.pays,
            self.names,
            self.claim,
        )
        before = {who: self.owed(who) for who in CREATORS}
        try:
            self.draw.choices(acts, (4, 3, 4, 2, 2, 2, 1, 1))[0]()
        except Problem:
            assert {who: self.owed(who) for who in CREATORS} == before, "what is refused books nothing"
        self.check()
        assert sum(self.balance(f"liab:escrow:dispute:{case.id}") for case in self.cases) >= 0

    def closes(self):
        self.periods += 1
        made = self.close(f"{self.periods}", used=self.periods == 1 or self.draw.random() < 0.7)
        self.check_told(made, self.told)
        assert set(self.told) - set(made) <= {who for who, owed in self.told.items() if not owed}
        self.told = {who: one.closing_grains for who, one in made.items()}
        self.statements += made.values()

    def opens(self):
        one = self.draw.choice(self.statements)
        who = self.draw.choice(("", one.creator))
        hold = self.draw.choice(("none", "own", "all"))
        lines = [self.draw.randint(1, len(one.lines))] if one.lines and self.draw.random() < 0.5 else []
        case, is_new = self.disputes(creator=who).open(
            one.id, f"Wrong, {self.done}.", answer_days=3, hold=hold, lines=lines
        )
        assert is_new
        self.cases.append(case)

    def ends(self):
        case = self.draw.choice(self.cases[-2:] or [None])
        if case is None:
            return
        ways = [HOLDER, COMMON, *CREATORS]
        one, other = self.draw.sample(ways, 2)
        cut = self.draw.randint(0, PPM)
        parts = (Part(to=one, ppm=cut), Part(to=other, ppm=PPM - cut))
        step = self.draw.choice(("answer", "settle", "settle", "settle", "withdraw"))
        if step == "answer":
            self.disputes().answer(case.id, "No.")
        elif step == "settle":
            if self.draw.random() < 0.7 and len(self.disputes().case(case.id)[1]) == 1:
                self.disputes().answer(case.id, "No.")
            self.disputes(by="hugo").settle(case.id, parts, "So be it.")
            assert self.balance(f"liab:escrow:dispute:{case.id}") == 0
        else:
            creator = case.creator if case.side == "creator" else ""
            self.disputes(creator=creator).withdraw(case.id, "Never mind.")
            assert self.balance(f"liab:escrow:dispute:{case.id}") == 0

    def corrects(self):
        one = self.draw.choice(self.statements)
        self.adjustments("ada").propose(
            corrects=one.id,
            creator=self.draw.choice(CREATORS),
            currency="USD",
            grains=self.draw.randint(-3_000_000, 1_000_000) or 1,
            other=self.draw.choice(("platform", "app:app_a", f"common:{one.period}:unattributed")),
            reason=f"Wrong, {self.done}.",
        )

    def approves(self):
        waiting = [one.id for one, events in listed(self.engine) if len(events) == 1]
        if waiting:
            self.adjustments("bob").approve(self.draw.choice(waiting))

    def pays(self):
        who = self.draw.choice(CREATORS)
        if owed := self.owed(who):
            self.pay_out(who, self.draw.randint(1, owed), f"p{self.done}")

    def names(self):
        part, rest = self.draw.randint(0, 600_000), self.draw.choice(("c_b", UNCLAIMED))
        parties = {"c_a": 400_000, "c_c": part}
        parties[rest] = parties.get(rest, 0) + 600_000 - part
        self.split(*((who, ppm) for who, ppm in parties.items() if ppm))

    def claim(self):
        if self.claims:
            outcome = self.draw.choice(("upheld", "rejected", "withdrawn"))
            self.registry.decide_claim(self.claims.pop().id, outcome, "Decided.")
            return
        self.claims.append(self.registry.open_claim("w_1", self.draw.choice(CREATORS), f"Mine, {self.done}."))


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_done_in_whatever_order_the_books_add_up(engine, prices, seed):
    walk = Walk(engine, prices, seed)
    walk.closes()
    for _ in range(STEPS):
        walk.step()
    walk.closes()
    assert {who: walk.owed(who) for who in CREATORS} == {who: walk.told.get(who, 0) for who in CREATORS}
    # I11: what is paid out here is booked by hand, of no batch.
    assert {one.id: one.named for one in audit(engine) if one.state == "broken" and one.id != "I11"} == {}

"""Whatever people do with money, in any order: after each step every invariant holds, and each amount is exact.

A state machine answers, delivers again, denies, splits, claims, decides, closes, pays and erases, on a real store.
Beside it runs an oracle that knows no grain: dues are fractions, divided as the rules say and never rounded. What was
really booked may differ from it by less than a grain for each time that something had to be rounded.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections import defaultdict
from fractions import Fraction
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from proxy.billing import store
from proxy.billing.audit_store import audit
from proxy.billing.erasing_store import erase_creator
from proxy.billing.money import GRAINS_PER_MINOR, PPM
from proxy.billing.statement import Statement, canonical
from proxy.catalogue.erasing_store import ERASED
from proxy.catalogue.lookup_store import owner_of
from proxy.database import open_engine
from proxy.errors import Conflict
from proxy.metering.usage import Line
from tests.books import RULES, TAXED, Bookkeeping
from tests.stores import lay

UNCLAIMED = "~unclaimed"
WORKS, CREATORS = 4, 3
works = st.integers(0, WORKS - 1)
creators = st.integers(0, CREATORS - 1)


class Oracle:
    """What everybody is due, as fractions of a grain, and how many times their grains were rounded."""

    def __init__(self, owners: dict[str, str]) -> None:
        self.splits = {work: {owner: PPM} for work, owner in owners.items()}
        self.open_dues: dict[str, Fraction] = defaultdict(Fraction)
        self.open_rounded: dict[str, int] = defaultdict(int)
        self.held: dict[str, Fraction] = defaultdict(Fraction)
        self.held_rounded: dict[str, int] = defaultdict(int)
        self.due: dict[str, Fraction] = defaultdict(Fraction)
        self.rounded: dict[str, int] = defaultdict(int)
        self.claims: dict[str, tuple[str, str]] = {}
        self.before = {work: dict(split) for work, split in self.splits.items()}
        self.waiting: dict[str, Fraction] = defaultdict(Fraction)
        self.waiting_rounded: dict[str, int] = defaultdict(int)
        self.charged = 0
        self.open_charge = 0

    def answer(self, price: int, lines: list[tuple[str, int, bool]]) -> None:
        royalty = price * RULES.royalty_ppm // PPM
        self.open_charge += royalty
        for work, ppm, is_paid in lines:
            if is_paid:
                self.open_dues[work] += Fraction(royalty * ppm, PPM)
                self.open_rounded[work] += 1

    def close(self) -> None:
        claimed = {work for work, _ in self.claims.values()}
        for work in self.splits.keys() - claimed:
            self._name(work)
        for work in sorted(self.held):
            if self.held[work] and work not in claimed:
                self._divide(work, self.held.pop(work), self.held_rounded.pop(work))
        for work, dues in self.open_dues.items():
            if work in claimed:
                self.held[work] += dues
                self.held_rounded[work] += self.open_rounded[work]
            else:
                self._divide(work, dues, self.open_rounded[work])
        self.open_dues.clear()
        self.open_rounded.clear()
        self.charged, self.open_charge = self.charged + self.open_charge, 0

    def _name(self, work: str) -> None:
        """Let go what nobody had claimed of a work, as far as somebody is named for it since."""
        was, now = self.before[work], self.splits[work]
        self.before[work] = now
        smaller = was.get(UNCLAIMED, 0) - now.get(UNCLAIMED, 0)
        if smaller <= 0:
            return
        leaving = self.waiting[work] * Fraction(smaller, was[UNCLAIMED])
        self.waiting[work] -= leaving
        self.waiting_rounded[work] += 1
        more = {who: max(0, ppm - was.get(who, 0)) for who, ppm in now.items() if who != UNCLAIMED}
        for who, ppm in more.items():
            if ppm:
                self.due[who] += leaving * Fraction(ppm, sum(more.values()))
                self.rounded[who] += self.waiting_rounded[work] + 1

    def _divide(self, work: str, dues: Fraction, rounded: int) -> None:
        for party, ppm in self.splits[work].items():
            if party == UNCLAIMED:
                self.waiting[work] += dues * Fraction(ppm, PPM)
                self.waiting_rounded[work] += rounded + 1
                continue
            self.due[party] += dues * Fraction(ppm, PPM)
            self.rounded[party] += rounded + 1


class Machine(RuleBasedStateMachine):
    """One store, what was done to it, and the oracle beside it."""

    template: Path  # an empty store at head: making one takes longer than a whole run

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="endcredits-machine-")
        path = Path(self.folder.name) / "store.db"
        shutil.copyfile(self.template, path)
        self.engine = open_engine(f"sqlite:///{path}")
        sa.event.listen(self.engine, "connect", _careless)
        self.books = Bookkeeping(self.engine, creators=CREATORS, works=WORKS, new=False)
        self.oracle = Oracle({f"w_{n}": f"c_{n % CREATORS}" for n in range(WORKS)})
        self.denied: set[str] = set()
        self.delivered: list[tuple] = []
        self.erased: set[str] = set()
        self.earned: dict[str, int] = defaultdict(int)
        self.out: dict[str, int] = defaultdict(int)  # minor units that left, by creator
        self.closed: dict[str, list[bytes]] = {}
        self.proposed = self.approved = self.exported = None
        self.settled: set[str] = set()

    def teardown(self) -> None:
        if hasattr(self, "engine"):
            self.engine.dispose()
            self.folder.cleanup()

    # Use

    @rule(
        used=st.lists(st.tuples(works, st.integers(1, PPM // 3)), max_size=3, unique_by=lambda one: one[0]),
        price=st.integers(0, 3) | st.integers(10**9, 10**13),
        app=st.sampled_from(["app_0", "app_1"]),
    )
    def answer(self, used, price, app):
        lines = [(f"w_{work}", ppm, f"w_{work}" not in self.denied) for work, ppm in used]
        records = self.books.records(
            [Line(work, ppm, "paid" if is_paid else "prohibited") for work, ppm, is_paid in lines],
            price_grains=price, app=app,
        )  # fmt: skip
        self.books.carry(records)
        self.delivered.append(records)
        self.oracle.answer(price, lines)

    @precondition(lambda self: self.delivered)
    @rule(place=st.integers(0, 10**6), times=st.integers(1, 5), shard=st.sampled_from(["shd_a", "shd_b"]))
    def deliver_again(self, place, times, shard):
        records = self.delivered[place % len(self.delivered)]
        for _ in range(times):
            self.books.carry(records, shard=shard)

    # The registry

    @rule(work=works)
    def revoke_consent(self, work):
        self.books.deny(f"w_{work}")
        self.denied.add(f"w_{work}")

    @rule(work=works)
    def give_consent(self, work):
        self.books.allow(f"w_{work}")
        self.denied.discard(f"w_{work}")

    @rule(work=works, cut=st.integers(1, PPM - 1), one=creators, other=creators, unclaimed=st.booleans())
    def split(self, work, cut, one, other, unclaimed):
        second = UNCLAIMED if unclaimed or one == other else f"c_{other}"
        parts = {f"c_{one}": cut, second: PPM - cut}
        self.books.split(f"w_{work}", list(parts.items()))
        self.oracle.splits[f"w_{work}"] = parts

    @rule(work=works, claimant=creators)
    def claim(self, work, claimant):
        name, who = f"w_{work}", f"c_{claimant}"
        owner = self._owner(name)
        if owner != who and (name, who) not in self.oracle.claims.values():
            self.oracle.claims[self.books.claim(name, who)] = (name, who)

    def _owner(self, work: str) -> str:
        with self.engine.connect() as connection:
            return owner_of(connection, work)

    @precondition(lambda self: self.oracle.claims)
    @rule(place=st.integers(0, 100), upheld=st.booleans())
    def decide_claim(self, place, upheld):
        claim = sorted(self.oracle.claims)[place % len(self.oracle.claims)]
        work, who = self.oracle.claims.pop(claim)
        self.books.ownership.decide_claim(claim, "upheld" if upheld else "rejected", "looked at")
        if upheld:
            self.oracle.splits[work] = {who: PPM}

    # Money

    @rule()
    def close(self):
        label = f"p{len(self.closed):03d}"
        closing = self.books.close(label)
        self.oracle.close()
        self.closed[label] = [canonical(one) for one in closing.statements]
        for one in closing.statements:
            self.earned[one.creator] += one.earned_grains
            note(f"{label} {one.creator} earned {one.earned_grains}")

    @precondition(lambda self: self.closed)
    @rule(place=st.integers(0, 100))
    def close_again(self, place):
        label = sorted(self.closed)[place % len(self.closed)]
        assert [canonical(one) for one in self.books.close(label).statements] == self.closed[label]

    @precondition(lambda self: self.proposed is None)
    @rule()
    def propose(self):
        batch = self.books.propose()
        owed = {who: self._owed(who) // GRAINS_PER_MINOR for who in self.books.creators}
        paid = {one.creator: (one.gross_minor, one.withheld_minor) for one in batch.payments}
        payable = {who: minor for who, minor in owed.items() if minor > 0 and who not in self.erased}
        assert paid == {who: (minor, minor * TAXED.ppm // PPM) for who, minor in payable.items()}
        self.proposed = batch if batch.payments else None

    @precondition(lambda self: self.proposed is not None and self.approved is None)
    @rule()
    def approve(self):
        self.books.bob.approve(self.proposed.id)
        self.approved, self.proposed = self.proposed, None
        for one in self.approved.payments:
            self.out[one.creator] += one.gross_minor

    @precondition(lambda self: self.approved is not None)
    @rule()
    def cancel(self):
        self.books.bob.cancel(self.approved.id, "not today")
        self._came_back(self.approved.payments)
        self.approved = None

    @precondition(lambda self: self.approved is not None and self.exported is None)
    @rule()
    def export(self):
        self.books.export(self.approved.id)
        self.exported, self.approved, self.settled = self.approved, None, set()

    @precondition(lambda self: self.exported is not None)
    @rule(place=st.integers(0, 100))
    def settle(self, place):
        one = self.exported.payments[place % len(self.exported.payments)]
        if one.id not in self.settled:
            self.books.bob.settle(self.exported.id, [one.id], ref="bank")

    @precondition(lambda self: self.exported is not None)
    @rule(place=st.integers(0, 100))
    def give_back(self, place):
        one = self.exported.payments[place % len(self.exported.payments)]
        if self.books.bob.give_back(one.id, "closed account"):
            self._came_back([one])
            self.settled.add(one.id)

    @precondition(lambda self: self.exported is not None)
    @rule()
    def bank_is_done(self):
        self.exported = None

    @rule(creator=creators)
    def erase(self, creator):
        """Whoever is erased, nothing that is owed or was booked changes; nobody is while something is under way."""
        who, before = self.books.creators[creator], store.balances(self.engine)
        with contextlib.suppress(Conflict):
            erase_creator(self.engine, who, clock=self.books.clock)
            self.erased.add(who)
            for label, said in self.closed.items():
                self.closed[label] = [_without_name(one) if _of(one) == who else one for one in said]
        assert store.balances(self.engine) == before

    def _came_back(self, payments) -> None:
        for one in payments:
            self.out[one.creator] -= one.gross_minor

    def _owed(self, creator: str) -> int:
        return self.earned[creator] - self.out[creator] * GRAINS_PER_MINOR

    # What holds after every step

    @invariant()
    def every_invariant_holds(self):
        if hasattr(self, "engine"):
            broken = {one.id: one.named for one in audit(self.engine) if one.state == "broken"}
            assert broken == {}

    @invariant()
    def amounts_are_exact(self):
        if not hasattr(self, "engine"):
            return
        balances = {code: grains for (code, _), grains in store.balances(self.engine).items()}
        for creator in self.books.creators:
            off = abs(self.earned[creator] - self.oracle.due[creator])
            assert off < max(1, self.oracle.rounded[creator]), (creator, off)
            assert balances.get(f"liab:payee:{creator}", 0) == self._owed(creator)
        owed_by_apps = sum(g for code, g in balances.items() if code.startswith("asset:receivable:"))
        assert owed_by_apps == self.oracle.charged


def _of(statement: bytes) -> str:
    return msgspec.json.decode(statement, type=Statement).creator


def _without_name(statement: bytes) -> bytes:
    said = msgspec.json.decode(statement, type=Statement)
    return canonical(msgspec.structs.replace(said, name=ERASED))


def _careless(connection, _record) -> None:
    """No power is cut here, and a sync costs more than all the rest."""
    connection.execute("PRAGMA synchronous = OFF")


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    path = tmp_path_factory.mktemp("machine") / "empty.db"
    url = f"sqlite:///{path}"
    lay(url)
    engine = open_engine(url)
    Bookkeeping(engine, creators=CREATORS, works=WORKS)
    engine.dispose()
    return type("Prepared", (Machine,), {"template": path})


def _run(machine, *, examples: int, steps: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.reuse, Phase.generate, Phase.shrink),
        ),
    )


def test_whatever_is_done_every_invariant_holds_and_amounts_are_exact(machine):
    _run(machine, examples=25, steps=30)


@pytest.mark.bench
@pytest.mark.timeout(1200)
def test_whatever_is_done_at_length_every_invariant_holds(machine):
    _run(machine, examples=60, steps=60)

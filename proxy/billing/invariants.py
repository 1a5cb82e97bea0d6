"""What must hold in the books at any moment, and how one row is seen to break it: values in, findings out.

Each invariant has a number, which docs/money.md explains and `endcredits audit` prints. The rules about what
one period, statement or payout batch says of itself are here; those about sums over whole tables are asked of
the store (audit_store.py). Nothing here trusts what wrote the row: hashes and ids are made again from it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

import msgspec

from proxy.billing import payouts
from proxy.billing.kept import packed, unpacked
from proxy.billing.money import GRAINS_MAX, GRAINS_PER_MINOR, PPM
from proxy.billing.movements import KINDS, Move
from proxy.billing.payouts import Batch, Event, Payment, payment_id, same_person
from proxy.billing.statement import CLAIMED, OWN_APP, RELEASED, Statement, canonical, statement_id
from proxy.billing.totals import Basis, Totals

State = Literal["ok", "broken", "not_yet"]
NAMED_MAX: Final = 20  # rows told of one broken invariant; all are counted
NOT_PAID: Final = frozenset({"free", "prohibited", "below_floor", OWN_APP, CLAIMED})

INVARIANTS: Final[Mapping[str, str]] = {
    "I1": "every transfer balances",
    "I2": "all balances of a currency sum to 0",
    "I3": "shares of an answer and its unattributed part sum to 1,000,000 ppm",
    "I4": "what works are due of a charge reaches their parties, none of it stays on the way",
    "I5": "a period's charges are what creators, escrow, the common account and the platform got",
    "I6": "each answer has one place in the log, and each place is in one period",
    "I7": "a period's counts are those of its answers",
    "I8": "a statement says what its lines, the statement before and the ledger say",
    "I9": "each line pays its exact part, to less than a grain or two",
    "I10": "closed periods are as they were closed, and nothing can change them",
    "I11": "payments are within what was owed, of one tax state, once each, and approved by another person",
    "I12": "what claims hold is let go to the grain, and only of works that are claimed",
    "I13": "each version of a split sums to 1,000,000 ppm, one after the other",
    "I14": "prohibited, free and withdrawn works are paid nothing",
    "I15": "the public log holds each settled answer once, and its root is that of its entries",
    "I16": "every amount is at least 0 and fits 63 bits",
    "I17": "balances that statements tell are those of the ledger",
    "I18": "erasing a person changes no amount and no hash",
    "I19": "currencies are never mixed",
    "I20": "amounts and shares are stored as integers",
}
NOT_YET: Final[Mapping[str, str]] = MappingProxyType({})  # invariants that nothing checks, and why


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """One invariant's result. rows: how many were looked at; broken: how many break it; named: some.

    why: of one that is not checked yet, why; of one that holds, what of it is known by digest alone.
    """

    id: str
    says: str
    state: State
    rows: int = 0
    broken: int = 0
    named: tuple[str, ...] = ()
    why: str = ""


@dataclass(slots=True)
class Tally:
    """Counts rows and findings by invariant, remembering the first NAMED_MAX of each."""

    rows: dict[str, int] = field(default_factory=dict[str, int])
    broken: dict[str, int] = field(default_factory=dict[str, int])
    named: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    notes: dict[str, str] = field(default_factory=dict[str, str])

    def note(self, invariant: str, what: str) -> None:
        """Say what was not looked at, and how it is known."""
        self.notes[invariant] = what

    def looked(self, invariant: str, rows: int = 1) -> None:
        """Count rows that were looked at."""
        self.rows[invariant] = self.rows.get(invariant, 0) + rows

    def found(self, invariant: str, what: str) -> None:
        """Count a row that breaks an invariant."""
        self.broken[invariant] = self.broken.get(invariant, 0) + 1
        names = self.named.setdefault(invariant, [])
        if len(names) < NAMED_MAX:
            names.append(what)

    def take(self, findings: Iterable[tuple[str, str]]) -> None:
        """Count (invariant, what) pairs."""
        for invariant, what in findings:
            self.found(invariant, what)

    def results(self, not_yet: Mapping[str, str] = NOT_YET) -> list[Checked]:
        """Return every invariant's result, in their order."""
        made: list[Checked] = []
        for invariant, says in INVARIANTS.items():
            broken = self.broken.get(invariant, 0)
            state: State = "broken" if broken else "not_yet" if invariant in not_yet else "ok"
            made.append(
                Checked(
                    id=invariant,
                    says=says,
                    state=state,
                    rows=self.rows.get(invariant, 0),
                    broken=broken,
                    named=tuple(self.named.get(invariant, ())),
                    why="" if broken else not_yet.get(invariant) or self.notes.get(invariant, ""),
                )
            )
        return made


Finding = tuple[str, str]  # (invariant, what breaks it)


# A period


@dataclass(frozen=True, slots=True)
class Period:
    """A stored period, its JSON read."""

    label: str
    seq: int
    currency: str
    start_bounds: Mapping[str, int]
    end_bounds: Mapping[str, int]
    basis: Basis
    totals: Totals
    charged_by_app: Mapping[str, int]
    manifest_sha256: str


@dataclass(slots=True)
class Booked:
    """What the ledger holds of a period's own transfers, by account: grains on the account's normal side."""

    receivable: dict[str, int] = field(default_factory=dict[str, int])
    common: dict[str, int] = field(default_factory=dict[str, int])
    payees: int = 0
    unclaimed: int = 0
    claimed: int = 0
    released: int = 0
    platform: int = 0
    on_the_way: dict[str, int] = field(default_factory=dict[str, int])


def period_findings(period: Period, before: Period | None) -> Iterator[Finding]:
    """What a period says of itself, and of where the one before it ended (None: it is the first)."""
    name, totals = f"period {period.label}", period.totals
    if period.seq != (before.seq if before else 0) + 1:
        yield "I6", f"{name} has number {period.seq}, after {before.seq if before else 0}"
    begins = dict(before.end_bounds) if before else {}
    if dict(period.start_bounds) != begins:
        yield "I6", f"{name} begins at {dict(period.start_bounds)}, the one before ended at {begins}"
    shrunk = [
        shard for shard, start in period.start_bounds.items() if period.end_bounds.get(shard, -1) < start
    ]
    if shrunk:
        yield "I6", f"{name} ends before it begins, in {', '.join(sorted(shrunk))}"
    if (period.basis.start_bounds, period.basis.end_bounds) != (
        dict(period.start_bounds),
        dict(period.end_bounds),
    ):
        yield "I10", f"{name}: its columns and its basis name different bounds"
    given = (
        totals.creators_grains
        + totals.escrow_grains
        + sum(totals.common_grains.values())
        + totals.platform_grains
    )
    if totals.charged_grains + totals.released_grains != given:
        yield (
            "I5",
            f"{name}: charged {totals.charged_grains} and released {totals.released_grains}, given {given}",
        )
    if totals.charged_grains != sum(period.charged_by_app.values()):
        yield "I5", f"{name}: its charges by app are not what it charged"
    amounts = (totals.charged_grains, totals.escrow_grains, *totals.common_grains.values())
    if any(not 0 <= grains <= GRAINS_MAX for grains in amounts):
        yield "I16", f"{name} has an amount below 0 or above {GRAINS_MAX}"


def booked_findings(period: Period, booked: Booked) -> Iterator[Finding]:
    """Whether a period's totals are what was booked under its label."""
    name, totals = f"period {period.label}", period.totals
    said: list[tuple[str, object, object]] = [
        ("charges by app", _not_0(period.charged_by_app), _not_0(booked.receivable)),
        ("the common account", _not_0(totals.common_grains), _not_0(booked.common)),
        ("creators", totals.creators_grains, booked.payees),
        ("unclaimed", totals.escrow_grains - totals.claimed_grains, booked.unclaimed),
        ("held by claims", totals.claimed_grains, booked.claimed),
        ("released", totals.released_grains, booked.released),
        ("the platform", totals.platform_grains, booked.platform),
    ]
    for what, told, there in said:
        if told != there:
            yield "I5", f"{name}: it tells {told} for {what}, the ledger has {there}"
    for account, grains in sorted(booked.on_the_way.items()):
        if grains:
            yield "I4", f"{name}: {grains} grains stay on {account}"


def _not_0(sums: Mapping[str, int]) -> dict[str, int]:
    return {key: grains for key, grains in sorted(sums.items()) if grains}


@dataclass(frozen=True, slots=True)
class Counted:
    """What the log holds between a period's bounds."""

    events: int
    estimated: int
    outcomes: Mapping[str, int]
    unscored: Mapping[str, int]
    unattributed_ppm: int
    line_ppm: Mapping[str, int]
    first_us: int
    last_us: int


def counted_findings(period: Period, counted: Counted) -> Iterator[Finding]:
    """Whether a period's counts are those of its answers. A paid share below a floor counts as such."""
    for what, told, there in counted_parts(period.totals, counted):
        if told != there:
            yield "I7", f"period {period.label}: it tells {told} for {what}, the log has {there}"


def counted_parts(totals: Totals, counted: Counted) -> list[tuple[str, object, object]]:
    """Return (what, what a period's totals tell, what was counted)."""
    return [
        ("answers", totals.events, counted.events),
        ("estimated answers", totals.estimated_events, counted.estimated),
        ("outcomes", _not_0(totals.outcomes), _not_0(counted.outcomes)),
        ("reasons", _not_0(totals.unscored_events), _not_0(counted.unscored)),
        ("unattributed ppm", totals.unattributed_ppm_sum, counted.unattributed_ppm),
        ("paid ppm", totals.paid_ppm_sum + totals.below_floor_ppm_sum, counted.line_ppm.get("paid", 0)),
        ("free ppm", totals.free_ppm_sum, counted.line_ppm.get("free", 0)),
        ("prohibited ppm", totals.prohibited_ppm_sum, counted.line_ppm.get("prohibited", 0)),
        ("first use", totals.first_occurred_us, counted.first_us),
        ("last use", totals.last_occurred_us, counted.last_us),
    ]


# A statement


@dataclass(frozen=True, slots=True)
class Row:
    """A statement's columns beside its body, and what else is known of it.

    opening: what the creator's statement before closed with; earned: what the period's transfers put on their
    account; moves: {transfer: grains} that the ledger holds of those that it tells of.
    """

    id: str
    period: str
    creator: str
    currency: str
    amounts: tuple[int, int, int]
    lines_sha256: str
    body: bytes
    opening: int
    earned: int
    moves: Mapping[str, int]


def statement_findings(row: Row, period: Period) -> Iterator[Finding]:
    """What a stored statement breaks: of its hashes, its sums, its lines."""
    name = f"statement {row.id}"
    try:
        said = unpacked(row.body)
    except msgspec.MsgspecError as error:
        yield "I8", f"{name} can't be read: {error}"
        return
    if row.body not in {packed(said), canonical(said)}:  # the second as it was written once
        yield "I8", f"{name}: its body is not as it was written"
    digest = hashlib.sha256(canonical(said.lines)).hexdigest()
    if not said.lines_sha256 == row.lines_sha256 == digest:
        yield "I8", f"{name}: its lines are not those of its hash"
    columns = (row.id, row.period, row.creator, row.currency, row.amounts)
    amounts = (said.opening_grains, said.earned_grains, said.closing_grains)
    if columns != (said.id, said.period, said.creator, said.currency, amounts):
        yield "I8", f"{name}: its columns and its body differ"
    if row.id != statement_id(row.period, row.creator, row.currency):
        yield "I8", f"{name} is not the id of {row.creator} in {row.period}"
    if (said.basis, said.totals) != (period.basis, period.totals):
        yield "I8", f"{name} tells other totals or rules than its period"
    if row.currency != period.currency:
        yield "I19", f"{name} is in {row.currency}, its period in {period.currency}"
    yield from _sums(name, said, row)
    for line in said.lines:
        if line.net_grains and line.verdict in NOT_PAID:
            yield "I14", f"{name}: {line.verdict} use of {line.work} is paid {line.net_grains} grains"
        if not 0 <= line.net_grains <= line.gross_grains <= GRAINS_MAX:
            yield "I16", f"{name}: a line of {line.work} pays {line.net_grains} of {line.gross_grains} grains"
    yield from _parts(name, said)


def _sums(name: str, said: Statement, row: Row) -> Iterator[Finding]:
    earned = sum(line.net_grains for line in said.lines)
    if not said.earned_grains == earned == row.earned:
        yield "I8", f"{name} earned {said.earned_grains}, its lines {earned}, the ledger {row.earned}"
    moved = sum(move.grains for move in said.moves)
    if said.closing_grains != said.opening_grains + said.earned_grains + moved:
        yield "I8", f"{name}: opening, earned and moves do not make its closing"
    if said.opening_grains != row.opening:
        yield "I17", f"{name} opens with {said.opening_grains}, the one before closed with {row.opening}"
    told = {move.transfer: move.grains for move in said.moves}
    if told != dict(row.moves):
        wrong = sorted(set(told.items()) ^ set(row.moves.items()))
        yield "I17", f"{name} tells other moves than the ledger: {wrong[:3]}"
    for field_name, grains in _told_by_row(said.moves).items():
        if getattr(said, field_name) != grains:
            yield "I8", f"{name}: its {field_name} is not the sum of its moves"


def _told_by_row(moves: Sequence[Move]) -> dict[str, int]:
    sums = {f"{name}_grains": 0 for name, _ in KINDS.values()}
    for move in moves:
        name, sign = KINDS.get(move.kind, ("", 0))
        if name:
            sums[f"{name}_grains"] += sign * move.grains
    return sums


def _parts(name: str, said: Statement) -> Iterator[Finding]:
    """Each line within two grains of gross times part: one for the work's division, one for the line's."""
    for line in said.lines:
        if line.verdict in NOT_PAID or line.verdict == RELEASED:
            continue
        off = abs(line.net_grains * PPM - line.gross_grains * line.split_ppm)
        if off >= 2 * PPM:
            exact = f"{line.gross_grains} * {line.split_ppm} ppm"
            yield "I9", f"{name}: a line of {line.work} pays {line.net_grains} grains of {exact}"


# A payout batch


def batch_findings(batch: Batch, events: Sequence[Event], booked: Mapping[str, int]) -> Iterator[Finding]:
    """What a batch breaks. booked: {kind|payment: grains} of the transfers there are for its payments."""
    name = f"batch {batch.id}"
    approved = [event for event in events if event.kind == "approved"]
    if any(same_person(batch.created_by, event.by) for event in approved):
        yield "I11", f"{name} was approved by {batch.created_by}, who created it"
    if [event.seq for event in events] != sorted({event.seq for event in events}):
        yield "I11", f"{name}: its events have no order"
    expected: dict[str, int] = {}
    states = payouts.payment_states(batch, events)
    settled = {event.payment for event in events if event.kind == "settled"}
    for one in batch.payments:
        if one.id != payment_id(batch.id, one.creator):
            yield "I11", f"{name}: {one.id} is not the id of its payment to {one.creator}"
        if one.withheld_minor != one.gross_minor * one.rate_ppm // PPM or (
            one.withheld_minor and not one.regime
        ):
            yield (
                "I11",
                f"{name}: {one.id} withholds {one.withheld_minor} of {one.gross_minor}, by no tax state",
            )
        if approved:
            expected |= _expected(one, states[one.id], was_settled=one.id in settled)
    if len({one.id for one in batch.payments}) != len(batch.payments):
        yield "I11", f"{name} pays somebody twice"
    for key in sorted(expected.keys() | booked.keys()):
        if expected.get(key, 0) != booked.get(key, 0):
            kind, _, payment = key.partition("|")
            yield (
                "I11",
                f"{name}: {kind} of {payment} is {booked.get(key, 0)} grains, not {expected.get(key, 0)}",
            )


def _expected(one: Payment, state: str, *, was_settled: bool) -> dict[str, int]:
    """What must be booked of one payment of an approved batch."""
    net, tax = one.net_minor * GRAINS_PER_MINOR, one.withheld_minor * GRAINS_PER_MINOR
    made = {f"payout|{one.id}": net, f"payout_tax|{one.id}": tax}
    if was_settled:
        made[f"payout_settled|{one.id}"] = net
    if state in {"returned", "cancelled"}:
        made |= {f"payout_return|{one.id}": net, f"payout_tax_return|{one.id}": tax}
    return {key: grains for key, grains in made.items() if grains}

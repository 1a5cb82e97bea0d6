"""Closing a period: rolled-up events in, transfers and statements out, nothing written.

A period is an interval of the log, not of the calendar: it counts the events whose `attributed` record lies
between two positions, so a late event falls into a later period, marked with the day of use, and a closed
period can never change. Because `close_period` only computes, a dry run is the run.

Each work's money is divided among the parties of its split, and each party's part among its lines, so that
the lines of a statement sum to what the party is paid.

While somebody claims a work, what it earns is held; the first close after the decision lets it go, by the
split of that time, so to whomever the work then belongs.

Conservation is checked here as well as tested: what apps are charged, with what is let go, equals what
creators, escrow, the common account and the platform get, to the grain, or nothing is returned.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

import msgspec

from proxy.billing import ledger
from proxy.billing.ledger import Entry, Transfer, Unbalanced, transfer_id
from proxy.billing.money import PPM, allocate, checked
from proxy.billing.movements import Move, sums
from proxy.billing.rollup import DAY_US, CellKey, Charge, Rollup, bump, day_text, line_seed
from proxy.billing.schemes import Terms
from proxy.billing.totals import Basis, Totals
from proxy.clock import base32

UNCLAIMED: Final = "~unclaimed"
# What a line says, and the reason in the common account, where a creator's own app used their work.
OWN_APP: Final = "own_app"
# What a line says where an open claim holds the work's money, and where a decided one lets it go.
CLAIMED: Final = "claimed"
RELEASED: Final = "released"


class SplitSet(msgspec.Struct, frozen=True):
    """Who gets a work's money: parties (creator ids, or "~unclaimed") in ppm that sum to 1,000,000."""

    version: int
    parties: tuple[tuple[str, int], ...]
    title: str = ""

    def __post_init__(self) -> None:
        """Refuse a split that gives more or less than everything."""
        if sum(ppm for _, ppm in self.parties) != PPM or any(ppm < 0 for _, ppm in self.parties):
            raise ValueError(f"a split's parties do not sum to {PPM} ppm: {self.parties}")


class StatementLine(msgspec.Struct, frozen=True, kw_only=True):
    """One work in one app, by model, day, scheme and verdict. gross: the work's; net: this creator's part.

    verdict: as metered; "own_app" where the app was this creator's own, which earns them nothing; "claimed"
    where an open claim holds the money; "released" for what was held before (no app, no answers).
    price_grains: what those answers cost together (royalty); rate_grains: what a whole answer pays (direct).
    """

    work: str
    title: str
    app: str
    model: str
    day: str
    scheme: str
    verdict: str
    answers: int
    ppm_sum: int
    price_grains: int
    rate_grains: int
    gross_grains: int
    split_version: int
    split_ppm: int
    net_grains: int


class Statement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one creator is owed for one period and why. earned = sum of the lines' nets.

    closing = opening + earned + adjustments - held + released - paid - withheld + returned, where opening is
    the closing of the statement before; `moves` are what those between earned and closing are sums of. They
    are written where they are not 0, so that older statements stay the same bytes.
    """

    id: str
    period: str
    creator: str
    name: str
    currency: str
    closed_us: int
    opening_grains: int
    earned_grains: int
    closing_grains: int
    lines: tuple[StatementLine, ...]
    lines_sha256: str
    app_names: dict[str, str]
    basis: Basis
    totals: Totals
    moves: tuple[Move, ...] = ()
    adjustments_grains: int = 0
    held_grains: int = 0
    released_grains: int = 0
    paid_grains: int = 0
    withheld_grains: int = 0
    returned_grains: int = 0


class Closing(msgspec.Struct, frozen=True, kw_only=True):
    """A closed period. manifest_sha256 covers bounds, rules, totals, every transfer and every line."""

    label: str
    currency: str
    closed_us: int
    basis: Basis
    totals: Totals
    charged_by_app: dict[str, int]
    transfers: tuple[Transfer, ...]
    statements: tuple[Statement, ...]
    manifest_sha256: str


@dataclass(frozen=True, slots=True)
class Books:
    """What was known when the period was closed: splits by work, names, and what creators were owed before.

    A work that `splits` does not know is paid to nobody: its money waits in escrow as unclaimed. claimed:
    works with an open claim. waiting: {(work, whose own app it was, or ""): what earlier claims hold}.
    opening_grains: by creator, where the last statement ended; moves: what was booked since, by no close.
    """

    splits: Mapping[str, SplitSet]
    creator_names: Mapping[str, str]
    app_names: Mapping[str, str]
    opening_grains: Mapping[str, int]
    registry_seq: int = 0
    pending_events: int = 0
    claimed: frozenset[str] = frozenset()
    waiting: Mapping[tuple[str, str], int] = field(default_factory=lambda: MappingProxyType({}))
    moves: Mapping[str, tuple[Move, ...]] = field(default_factory=lambda: MappingProxyType({}))


def close_period(
    *,
    label: str,
    rollup: Rollup,
    terms: Terms,
    books: Books,
    start_bounds: Mapping[str, int],
    end_bounds: Mapping[str, int],
    closed_us: int,
) -> Closing:
    """Return the closed period: the same for the same arguments, to the byte."""
    held = terms.at(closed_us)
    royalties = tuple(sorted(rollup.royalties))
    basis = Basis(
        start_bounds=dict(sorted(start_bounds.items())),
        end_bounds=dict(sorted(end_bounds.items())),
        registry_seq=books.registry_seq,
        royalty_ppm=held.royalty_ppm,
        unattributed=held.unattributed,
        price_versions=tuple(sorted(rollup.versions)),
        methods=tuple(sorted(rollup.methods)),
        pay_own_apps=held.pay_own_apps,
        policies=tuple(sorted(rollup.policies)),
        royalties=() if royalties in {(), (held.royalty_ppm,)} else royalties,
        policy_seq=terms.policy_seq,
    )
    return _Close(label, terms, books, rollup, closed_us, basis).closing()


@dataclass(frozen=True, slots=True)
class _Release:
    """What one decided claim lets go: by lines, to escrow as unclaimed, and to nobody as `own_app`."""

    transfer: Transfer
    grains: int
    unclaimed: int
    own: int
    lines: tuple[tuple[str, StatementLine], ...]


@dataclass(frozen=True, slots=True)
class _Close:
    """The second half: a finished roll-up into transfers and statements."""

    label: str
    terms: Terms
    books: Books
    rollup: Rollup
    closed_us: int
    basis: Basis

    def closing(self) -> Closing:
        by_work: dict[str, list[CellKey]] = {}
        for key in sorted(self.rollup.cells):
            by_work.setdefault(key[0], []).append(key)
        transfers = [
            self._charge(app, charge) for app, charge in sorted(self.rollup.charges.items()) if charge.total
        ]
        earned: dict[str, int] = {}
        lines: dict[str, list[StatementLine]] = {}
        escrow = own = claimed = 0
        for work, keys in by_work.items():
            split = self._split(work)
            gross = sum(self.rollup.cells[key].due for key in keys)
            if work in self.books.claimed:
                claimed += gross
                for party, ppm in split.parties:
                    if party != UNCLAIMED:
                        made = self._lines(work, split, keys, party=party, ppm=ppm, share=0, held=True)
                        lines.setdefault(party, []).extend(made)
                if gross:
                    transfers.append(self._hold(work, split, keys, gross))
                continue
            shares = allocate(checked(gross), split.parties, f"{self.label}|{work}|{split.version}")
            escrow += shares.get(UNCLAIMED, 0)
            withheld = 0
            for party, ppm in split.parties:
                if party != UNCLAIMED:
                    made = self._lines(work, split, keys, party=party, ppm=ppm, share=shares[party])
                    paid = sum(line.net_grains for line in made)
                    withheld += shares[party] - paid
                    shares[party] = paid
                    bump(earned, party, paid)
                    lines.setdefault(party, []).extend(made)
            own += withheld
            if gross:
                transfers.append(self._divide(work, split, gross, shares, withheld))
        released = self._released()
        for release in released:
            transfers.append(release.transfer)
            escrow += release.unclaimed
            own += release.own
            for party, line in release.lines:
                bump(earned, party, line.net_grains)
                lines.setdefault(party, []).append(line)
        totals = self._totals(sum(earned.values()), escrow, own, claimed, sum(one.grains for one in released))
        statements = tuple(
            self._statement(creator, lines.get(creator, []), earned.get(creator, 0), totals)
            for creator in sorted(
                {*lines, *self.books.moves, *(who for who, owed in self.books.opening_grains.items() if owed)}
            )
        )
        return Closing(
            label=self.label,
            currency=self.terms.currency,
            closed_us=self.closed_us,
            basis=self.basis,
            totals=totals,
            charged_by_app={app: charge.total for app, charge in sorted(self.rollup.charges.items())},
            transfers=tuple(transfers),
            statements=statements,
            manifest_sha256=_manifest(self.label, self.basis, totals, transfers, statements),
        )

    def _charge(self, app: str, charge: Charge) -> Transfer:
        """What an app owes, and where each grain goes."""
        credit = [
            (ledger.of_work(work, self._version(work)), due) for work, due in sorted(charge.works.items())
        ]
        credit += [(ledger.common(self.label, reason), due) for reason, due in sorted(charge.common.items())]
        credit += [(ledger.platform(app), charge.platform)]
        entries = [Entry(ledger.receivable(app), "D", charge.total)]
        entries += [Entry(account, "C", grains) for account, grains in credit if grains]
        return self._transfer("charge", f"{self.label}|{app}", app, entries)

    def _divide(
        self, work: str, split: SplitSet, gross: int, shares: Mapping[str, int], withheld: int
    ) -> Transfer:
        """A work's money to the parties of its split; what their own apps brought, to the common account."""
        entries = [Entry(ledger.of_work(work, split.version), "D", gross)]
        for party, grains in shares.items():
            if grains:
                account = ledger.unclaimed(work) if party == UNCLAIMED else ledger.payee(party)
                entries.append(Entry(account, "C", grains))
        if withheld:
            entries.append(Entry(ledger.common(self.label, OWN_APP), "C", withheld))
        return self._transfer("split", f"{self.label}|{work}|{split.version}", work, entries)

    def _hold(self, work: str, split: SplitSet, keys: list[CellKey], gross: int) -> Transfer:
        """A claimed work's money into escrow; what a creator's own app brought, by itself."""
        by_owner: dict[str, int] = {}
        for key in keys:
            bump(by_owner, key[6], self.rollup.cells[key].due)
        accounts = [(ledger.claimed(work, owner), grains) for owner, grains in by_owner.items() if grains]
        entries = [Entry(ledger.of_work(work, split.version), "D", gross)]
        entries += [Entry(account, "C", grains) for account, grains in accounts]
        return self._transfer("claim", f"{self.label}|{work}|{split.version}", work, entries)

    def _released(self) -> list[_Release]:
        """What decided claims let go, by the split of now; a party's own app still brings them nothing."""
        made: list[_Release] = []
        for (work, owner), grains in sorted(self.books.waiting.items()):
            if work in self.books.claimed or not grains:
                continue
            split = self._split(work)
            source = f"{self.label}|{work}|{split.version}|{owner}"
            shares = allocate(checked(grains), split.parties, f"{source}|claim")
            withheld = 0 if self.basis.pay_own_apps else shares.get(owner, 0)
            entries = [Entry(ledger.claimed(work, owner), "D", grains)]
            lines: list[tuple[str, StatementLine]] = []
            for party, ppm in split.parties:
                paid = 0 if party == owner and withheld else shares[party]
                if paid:
                    account = ledger.unclaimed(work) if party == UNCLAIMED else ledger.payee(party)
                    entries.append(Entry(account, "C", paid))
                if party != UNCLAIMED:
                    lines.append((party, self._release_line(work, split, grains, ppm, paid)))
            if withheld:
                entries.append(Entry(ledger.common(self.label, OWN_APP), "C", withheld))
            transfer = self._transfer("release", source, work, entries)
            made.append(_Release(transfer, grains, shares.get(UNCLAIMED, 0), withheld, tuple(lines)))
        return made

    def _release_line(self, work: str, split: SplitSet, gross: int, ppm: int, net: int) -> StatementLine:
        return StatementLine(
            work=work,
            title=split.title,
            app="",
            model="",
            day=day_text(self.closed_us // DAY_US),
            scheme="",
            verdict=RELEASED,
            answers=0,
            ppm_sum=0,
            price_grains=0,
            rate_grains=0,
            gross_grains=gross,
            split_version=split.version,
            split_ppm=ppm,
            net_grains=net,
        )

    def _transfer(self, kind: str, source: str, ref: str, entries: list[Entry]) -> Transfer:
        return Transfer(
            transfer_id(kind, source),
            kind,
            self.terms.currency,
            self.closed_us,
            self.label,
            ref,
            tuple(entries),
        )

    def _split(self, work: str) -> SplitSet:
        return self.books.splits.get(work) or SplitSet(0, ((UNCLAIMED, PPM),))

    def _version(self, work: str) -> int:
        split = self.books.splits.get(work)
        return split.version if split else 0

    def _lines(
        self,
        work: str,
        split: SplitSet,
        keys: list[CellKey],
        *,
        party: str,
        ppm: int,
        share: int,
        held: bool = False,
    ) -> list[StatementLine]:
        """A party's part of a work, divided over the work's lines so that the nets sum to it.

        A line of the party's own app shows what was used, and its net is 0: what is missing goes to nobody.
        held: a claim holds the work's money.
        """
        cells = self.rollup.seen_by(party, keys)
        weights = [(line_seed(key), cell.due) for key, cell in cells.items()]
        nets = allocate(share, weights, f"{self.label}|{work}|{split.version}|{party}")
        return [
            StatementLine(
                work=work,
                title=split.title,
                app=key[1],
                model=key[2],
                day=day_text(key[3]),
                scheme=key[4],
                verdict=CLAIMED if held and cell.due else OWN_APP if key[6] else key[5],
                answers=cell.answers,
                ppm_sum=cell.ppm,
                price_grains=cell.price,
                rate_grains=cell.rate,
                gross_grains=cell.due,
                split_version=split.version,
                split_ppm=ppm,
                net_grains=0 if key[6] else net,
            )
            for (key, cell), net in zip(cells.items(), nets.values(), strict=True)
        ]

    def _totals(self, creators: int, unclaimed: int, own: int, claimed: int, released: int) -> Totals:
        roll = self.rollup
        common: dict[str, int] = {}
        for charge in roll.charges.values():
            for reason, grains in charge.common.items():
                bump(common, reason, grains)
        if own:
            bump(common, OWN_APP, own)
        platform = sum(charge.platform for charge in roll.charges.values())
        charged = checked(sum(charge.total for charge in roll.charges.values()))
        escrow = unclaimed + claimed
        excess = charged + released - creators - escrow - sum(common.values()) - platform
        if excess:
            raise Unbalanced(f"period {self.label}", self.terms.currency, excess)
        return Totals(
            events=roll.events,
            estimated_events=roll.estimated,
            pending_events=self.books.pending_events,
            outcomes=dict(sorted(roll.outcomes.items())),
            unscored_events=dict(sorted(roll.unscored.items())),
            price_grains=roll.price,
            charged_grains=charged,
            creators_grains=creators,
            escrow_grains=escrow,
            common_grains=dict(sorted(common.items())),
            platform_grains=platform,
            not_charged_grains=roll.not_charged,
            paid_ppm_sum=roll.masses.get("paid", 0),
            free_ppm_sum=roll.masses.get("free", 0),
            prohibited_ppm_sum=roll.masses.get("prohibited", 0),
            unattributed_ppm_sum=roll.masses.get("unattributed", 0),
            first_occurred_us=roll.first_us,
            last_occurred_us=roll.last_us,
            claimed_grains=claimed,
            released_grains=released,
            below_floor_ppm_sum=roll.masses.get("below_floor", 0),
        )

    def _statement(self, creator: str, lines: list[StatementLine], earned: int, totals: Totals) -> Statement:
        opening = self.books.opening_grains.get(creator, 0)
        moves = self.books.moves.get(creator, ())
        apps = sorted({line.app for line in lines if line.app})
        return Statement(
            id=statement_id(self.label, creator, self.terms.currency),
            period=self.label,
            creator=creator,
            name=self.books.creator_names.get(creator, creator),
            currency=self.terms.currency,
            closed_us=self.closed_us,
            opening_grains=opening,
            earned_grains=earned,
            closing_grains=checked(opening + earned + sum(move.grains for move in moves)),
            lines=tuple(lines),
            lines_sha256=hashlib.sha256(canonical(lines)).hexdigest(),
            app_names={app: self.books.app_names.get(app, app) for app in apps},
            basis=self.basis,
            totals=totals,
            moves=moves,
            **sums(moves),
        )


def canonical(value: object) -> bytes:
    """Return JSON with sorted keys and no spaces: equal values are equal bytes. Integers and text only."""
    return msgspec.json.encode(value, order="sorted")


def statement_id(label: str, creator: str, currency: str) -> str:
    """Return the id of a creator's statement of a period: the same however often it is made."""
    digest = hashlib.sha256(f"statement|{label}|{creator}|{currency}".encode()).digest()
    return "stm_" + base32(int.from_bytes(digest[:17], "big") >> 6)


def _manifest(
    label: str, basis: Basis, totals: Totals, transfers: Iterable[Transfer], statements: Iterable[Statement]
) -> str:
    digest = hashlib.sha256(canonical({"period": label, "basis": basis, "totals": totals}))
    for transfer in transfers:
        digest.update(canonical([transfer.id, transfer.currency, transfer.entries]))
    for statement in statements:
        digest.update(canonical([statement.id, statement.opening_grains, statement.lines_sha256]))
        if statement.moves:
            digest.update(canonical(statement.moves))
    return digest.hexdigest()

"""Closing a period: rolled-up events in, transfers and statements out, nothing written.

A period is an interval of the log, not of the calendar: it counts the events whose `attributed` record lies
between two positions, so a late event falls into a later period, marked with the day of use, and a closed
period can never change. Because `close_period` only computes, a dry run is the run.

Each work's money is divided among the parties of its split, and each party's part among its lines, so that
the lines of a statement sum to what the party is paid.

Conservation is checked here as well as tested: what apps are charged equals what creators, escrow, the common
account and the platform get, to the grain, or nothing is returned.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from proxy.billing import ledger
from proxy.billing.ledger import Entry, Transfer, Unbalanced, transfer_id
from proxy.billing.money import PPM, allocate, checked, decimal_text
from proxy.billing.rollup import CellKey, Charge, Rollup, bump, day_text, line_seed
from proxy.billing.schemes import HELD, Terms
from proxy.clock import base32

UNCLAIMED: Final = "~unclaimed"
# What a line says, and the reason in the common account, where a creator's own app used their work.
OWN_APP: Final = "own_app"


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

    verdict: as metered, or "own_app" where the app was this creator's own, which earns them nothing.
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


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """A period's sums, the same on every statement of it. Grains unless the name says otherwise.

    charged = creators + escrow + sum(common) + platform. Masses are sums of ppm over all answers.
    """

    events: int
    estimated_events: int
    pending_events: int
    outcomes: dict[str, int]
    unscored_events: dict[str, int]
    price_grains: int
    charged_grains: int
    creators_grains: int
    escrow_grains: int
    common_grains: dict[str, int]
    platform_grains: int
    not_charged_grains: int
    paid_ppm_sum: int
    free_ppm_sum: int
    prohibited_ppm_sum: int
    unattributed_ppm_sum: int
    first_occurred_us: int
    last_occurred_us: int


class Basis(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a recomputation needs beside the events: the interval of the log, the rules and their versions.

    pay_own_apps is written where it holds, so that periods closed before there was such a rule stay the same
    bytes.
    """

    start_bounds: dict[str, int]
    end_bounds: dict[str, int]
    registry_seq: int
    royalty_ppm: int
    unattributed: str
    price_versions: tuple[str, ...]
    methods: tuple[str, ...]
    pay_own_apps: bool = False


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """What one creator is owed for one period and why. closing = opening + earned; earned = sum of nets."""

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

    A work that `splits` does not know is paid to nobody: its money waits in escrow as unclaimed.
    """

    splits: Mapping[str, SplitSet]
    creator_names: Mapping[str, str]
    app_names: Mapping[str, str]
    opening_grains: Mapping[str, int]
    registry_seq: int = 0
    pending_events: int = 0


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
    basis = Basis(
        start_bounds=dict(sorted(start_bounds.items())),
        end_bounds=dict(sorted(end_bounds.items())),
        registry_seq=books.registry_seq,
        royalty_ppm=terms.royalty_ppm,
        unattributed=terms.unattributed,
        price_versions=tuple(sorted(rollup.versions)),
        methods=tuple(sorted(rollup.methods)),
        pay_own_apps=terms.pay_own_apps,
    )
    return _Close(label, terms, books, rollup, closed_us, basis).closing()


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
        escrow = own = 0
        for work, keys in by_work.items():
            split = self.books.splits.get(work) or SplitSet(0, ((UNCLAIMED, PPM),))
            gross = sum(self.rollup.cells[key].due for key in keys)
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
        totals = self._totals(sum(earned.values()), escrow, own)
        statements = tuple(
            self._statement(creator, lines.get(creator, []), earned.get(creator, 0), totals)
            for creator in sorted({*lines, *(who for who, owed in self.books.opening_grains.items() if owed)})
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

    def _version(self, work: str) -> int:
        split = self.books.splits.get(work)
        return split.version if split else 0

    def _lines(
        self, work: str, split: SplitSet, keys: list[CellKey], *, party: str, ppm: int, share: int
    ) -> list[StatementLine]:
        """A party's part of a work, divided over the work's lines so that the nets sum to it.

        A line of the party's own app shows what was used, and its net is 0: what is missing goes to nobody.
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
                verdict=OWN_APP if key[6] else key[5],
                answers=cell.answers,
                ppm_sum=cell.ppm,
                price_grains=cell.price,
                rate_grains=self.terms.rate_of(work, key[2]) if key[4] == "direct" else 0,
                gross_grains=cell.due,
                split_version=split.version,
                split_ppm=ppm,
                net_grains=0 if key[6] else net,
            )
            for (key, cell), net in zip(cells.items(), nets.values(), strict=True)
        ]

    def _totals(self, creators: int, escrow: int, own: int) -> Totals:
        roll = self.rollup
        common: dict[str, int] = {}
        for charge in roll.charges.values():
            for reason, grains in charge.common.items():
                bump(common, reason, grains)
        if own:
            bump(common, OWN_APP, own)
        platform = sum(charge.platform for charge in roll.charges.values())
        charged = checked(sum(charge.total for charge in roll.charges.values()))
        excess = charged - creators - escrow - sum(common.values()) - platform
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
        )

    def _statement(self, creator: str, lines: list[StatementLine], earned: int, totals: Totals) -> Statement:
        opening = self.books.opening_grains.get(creator, 0)
        apps = sorted({line.app for line in lines})
        return Statement(
            id=statement_id(self.label, creator, self.terms.currency),
            period=self.label,
            creator=creator,
            name=self.books.creator_names.get(creator, creator),
            currency=self.terms.currency,
            closed_us=self.closed_us,
            opening_grains=opening,
            earned_grains=earned,
            closing_grains=checked(opening + earned),
            lines=tuple(lines),
            lines_sha256=hashlib.sha256(canonical(lines)).hexdigest(),
            app_names={app: self.books.app_names.get(app, app) for app in apps},
            basis=self.basis,
            totals=totals,
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
    return digest.hexdigest()


def summary(closing: Closing) -> dict[str, str | int]:
    """Return a closed period in a few words for a person or a script: counts, and sums as decimal text."""
    totals, currency = closing.totals, closing.currency
    held = sum(grains for reason, grains in totals.common_grains.items() if reason in HELD)
    return {
        "period": closing.label,
        "currency": currency,
        "events": totals.events,
        "pending_events": totals.pending_events,
        "statements": len(closing.statements),
        "charged": decimal_text(totals.charged_grains, currency),
        "creators": decimal_text(totals.creators_grains, currency),
        "escrow": decimal_text(totals.escrow_grains, currency),
        "common": decimal_text(sum(totals.common_grains.values()), currency),
        "common_held": decimal_text(held, currency),
        "platform": decimal_text(totals.platform_grains, currency),
        "not_charged": decimal_text(totals.not_charged_grains, currency),
        "manifest_sha256": closing.manifest_sha256,
    }

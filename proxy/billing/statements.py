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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from proxy.billing import ledger
from proxy.billing.escrow import named
from proxy.billing.ledger import Entry, Transfer, Unbalanced, transfer_id
from proxy.billing.money import PPM, allocate, apportion, checked
from proxy.billing.movements import sums
from proxy.billing.rollup import DAY_US, Charge, Rollup, day_text
from proxy.billing.schemes import Terms
from proxy.billing.spill import Item, Spilled
from proxy.billing.statement import (
    CLAIMED,
    OWN_APP,
    RELEASED,
    UNCLAIMED,
    Books,
    Closing,
    SplitSet,
    Statement,
    StatementLine,
    canonical,
    statement_id,
)
from proxy.billing.totals import Basis, Totals, bump
from proxy.billing.uses import Use, seed_of, seen_by


def close_period(
    *,
    label: str,
    rollup: Rollup,
    terms: Terms,
    books: Books,
    start_bounds: Mapping[str, int],
    end_bounds: Mapping[str, int],
    closed_us: int,
    transfers: Made[Transfer] | None = None,
    statements: Made[Statement] | None = None,
) -> Closing:
    """Return the closed period: the same for the same arguments, to the byte.

    transfers, statements: empty, where each is put as it is made; lists when left out.
    """
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
        policies=tuple(sorted({*rollup.policies, *(pool.policy for pool in rollup.pools)})),
        royalties=() if royalties in {(), (held.royalty_ppm,)} else royalties,
        policy_seq=terms.policy_seq,
    )
    close = _Close(label, terms, books, rollup, closed_us, basis)
    return close.closing([] if transfers is None else transfers, [] if statements is None else statements)


class Made(Protocol[Item]):
    """Somewhere to put things as they are made, and to read them again."""

    def append(self, item: Item, /) -> None:
        """Put one behind the others."""
        ...

    def __iter__(self) -> Iterator[Item]: ...
    def __len__(self) -> int: ...


@dataclass(slots=True)
class _Sums:
    """Where money went, added up while transfers are made."""

    creators: int = 0
    unclaimed: int = 0
    own: int = 0
    claimed: int = 0
    released: int = 0


@dataclass(frozen=True, slots=True)
class _Release:
    """What a decided claim, or whoever is named now, lets go: by lines, to escrow, to nobody as `own_app`."""

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

    def closing(self, transfers: Made[Transfer], statements: Made[Statement]) -> Closing:
        """Put every transfer and then every statement where they go, one in memory at a time."""
        sums, released = _Sums(), self._released()
        for transfer in self._transfers(sums, released):
            transfers.append(transfer)
        totals = self._totals(sums)
        digest = hashlib.sha256(canonical({"period": self.label, "basis": self.basis, "totals": totals}))
        for said in booked(transfers):
            digest.update(said)
        earned = 0
        for statement in self._statements(released, totals):
            statements.append(statement)
            earned += statement.earned_grains
            digest.update(canonical([statement.id, statement.opening_grains, statement.lines_sha256]))
            if statement.moves:
                digest.update(canonical(statement.moves))
        if earned != totals.creators_grains:
            raise Unbalanced(
                f"statements of {self.label}", self.terms.currency, totals.creators_grains - earned
            )
        return Closing(
            label=self.label,
            currency=self.terms.currency,
            closed_us=self.closed_us,
            basis=self.basis,
            totals=totals,
            charged_by_app={app: charge.total for app, charge in sorted(self.rollup.charges.items())},
            transfers=_kept(transfers),
            statements=_kept(statements),
            manifest_sha256=digest.hexdigest(),
        )

    def _transfers(self, sums: _Sums, released: Sequence[_Release]) -> Iterator[Transfer]:
        """What is booked: what apps are charged, each work's money, and what claims let go."""
        every = self.rollup.uses
        accounts = {work: ledger.of_work(work, self._version(work)) for work in every.works}
        for app, charge in sorted(self.rollup.charges.items()):
            if charge.total:
                yield self._charge(app, charge, accounts)
        for app, charge in sorted(self.rollup.charges.items()):
            if charge.pool:
                yield self._pool(app, charge.pool)
        for work, gross in every.dues():
            split = self._split(work)
            if work in self.books.claimed:
                sums.claimed += gross
                if gross:
                    yield self._hold(work, split, every.of(work), gross)
                continue
            shares = self._shares(work, split, gross)
            sums.unclaimed += shares.get(UNCLAIMED, 0)
            withheld = 0
            uses = every.of(work) if every.any_own else ()
            for party in {use.own_app_of for use in uses}.intersection(shares):
                seen = seen_by(party, uses)
                nets = self._nets(work, split, party, shares[party], seen)
                own = sum(net for use, net in zip(seen, nets, strict=True) if use.own_app_of)
                withheld += own
                shares[party] -= own
            sums.own += withheld
            sums.creators += gross - shares.get(UNCLAIMED, 0) - withheld
            if gross:
                yield self._divide(work, split, gross, shares, withheld)
        for release in released:
            sums.released += release.grains
            sums.unclaimed += release.unclaimed
            sums.own += release.own
            sums.creators += sum(line.net_grains for _, line in release.lines)
            yield release.transfer

    def _statements(self, released: Sequence[_Release], totals: Totals) -> Iterator[Statement]:
        """One creator's after the other: their part of each work's money, work by work."""
        works: dict[str, list[str]] = {}
        for work in self.rollup.uses.works:
            for party, _ in self._split(work).parties:
                works.setdefault(party, []).append(work)
        works.pop(UNCLAIMED, None)
        let_go: dict[str, list[StatementLine]] = {}
        for release in released:
            for party, line in release.lines:
                let_go.setdefault(party, []).append(line)
        owed = (creator for creator, grains in self.books.opening_grains.items() if grains)
        for creator in sorted({*works, *let_go, *self.books.moves, *owed}):
            lines = [line for work in works.get(creator, ()) for line in self._lines(work, creator)]
            yield self._statement(creator, lines + let_go.get(creator, []), totals)

    def _charge(self, app: str, charge: Charge, accounts: Mapping[str, str]) -> Transfer:
        """What an app owes, and where each grain goes. accounts: of works."""
        credit = [(accounts[work], due) for work, due in self.rollup.uses.charged(app)]
        credit += [(ledger.common(self.label, reason), due) for reason, due in sorted(charge.common.items())]
        credit += [(ledger.platform(app), charge.platform)]
        debit = (
            (ledger.receivable(app), charge.total - charge.pool),
            (ledger.pool(app, self.label), charge.pool),
        )
        entries = [Entry(account, "D", grains) for account, grains in debit if grains]
        entries += [Entry(account, "C", grains) for account, grains in credit if grains]
        return self._transfer("charge", f"{self.label}|{app}", app, entries)

    def _pool(self, app: str, grains: int) -> Transfer:
        """What an app owes of its revenue; from there `_charge` has brought it to what was used."""
        entries = [
            Entry(ledger.receivable(app), "D", grains),
            Entry(ledger.pool(app, self.label), "C", grains),
        ]
        return self._transfer("pool", f"{self.label}|{app}", app, entries)

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

    def _hold(self, work: str, split: SplitSet, uses: Sequence[Use], gross: int) -> Transfer:
        """A claimed work's money into escrow; what a creator's own app brought, by itself."""
        by_owner: dict[str, int] = {}
        for use in uses:
            bump(by_owner, use.own_app_of, use.due)
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
        return sorted([*made, *self._named()], key=lambda one: one.transfer.ref)

    def _named(self) -> Iterator[_Release]:
        """What nobody had claimed, of works that somebody is named for now."""
        for work, waits in sorted(self.books.unclaimed.items()):
            split = self._split(work)
            source = f"{self.label}|{work}|{split.version}|{UNCLAIMED}"
            shares = (
                {} if work in self.books.claimed else named(waits.grains, waits.before, split.parties, source)
            )
            if shares:
                let_go = sum(shares.values())
                entries = [Entry(ledger.unclaimed(work), "D", let_go)]
                entries += [Entry(ledger.payee(party), "C", grains) for party, grains in shares.items()]
                ppm = dict(split.parties)
                lines = (
                    (party, self._release_line(work, split, let_go, ppm[party], grains, waits.periods))
                    for party, grains in shares.items()
                )
                yield _Release(self._transfer("release", source, work, entries), let_go, 0, 0, tuple(lines))

    def _release_line(
        self, work: str, split: SplitSet, gross: int, ppm: int, net: int, periods: tuple[str, ...] = ()
    ) -> StatementLine:
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
            periods=periods,
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

    def _shares(self, work: str, split: SplitSet, gross: int) -> dict[str, int]:
        return allocate(checked(gross), split.parties, f"{self.label}|{work}|{split.version}")

    def _nets(self, work: str, split: SplitSet, party: str, share: int, uses: Sequence[Use]) -> list[int]:
        """A party's part of a work, divided over its lines by what each earned."""
        seed = f"{self.label}|{work}|{split.version}|{party}"
        return apportion(share, [use.due for use in uses], seed, lambda place: seed_of(work, uses[place]))

    def _lines(self, work: str, party: str) -> list[StatementLine]:
        """A work's lines on a party's statement; the nets sum to their part of it.

        A line of the party's own app shows what was used, and its net is 0: what is missing goes to nobody.
        Where a claim holds the work's money every net is 0.
        """
        split, held = self._split(work), work in self.books.claimed
        ppm = next(ppm for who, ppm in split.parties if who == party)
        if not held and not self.rollup.uses.any_own:
            return self._plain_lines(work, split, party, ppm)
        uses = self.rollup.uses.of(work)
        share = 0 if held else self._shares(work, split, sum([use.due for use in uses]))[party]
        seen = seen_by(party, uses)
        return [
            StatementLine(
                work=work,
                title=split.title,
                app=use.app,
                model=use.model,
                day=day_text(use.day),
                scheme=use.scheme,
                verdict=CLAIMED if held and use.due else OWN_APP if use.own_app_of else use.verdict,
                answers=use.answers,
                ppm_sum=use.ppm,
                price_grains=use.price,
                rate_grains=use.rate,
                gross_grains=use.due,
                split_version=split.version,
                split_ppm=ppm,
                net_grains=0 if use.own_app_of else net,
            )
            for use, net in zip(seen, self._nets(work, split, party, share, seen), strict=True)
        ]

    def _plain_lines(self, work: str, split: SplitSet, party: str, ppm: int) -> list[StatementLine]:
        """Return the same of a work that no claim holds, where no app was a creator's own: nearly always."""
        rests, *sums = self.rollup.uses.columns(work)
        dues = sums[3]
        share = self._shares(work, split, sum(dues))[party]
        seed = f"{self.label}|{work}|{split.version}|{party}"
        nets = apportion(share, dues, seed, lambda place: seed_of(work, Use(*rests[place])))
        title, version = split.title, split.version
        return [
            StatementLine(
                work=work,
                title=title,
                app=app,
                model=model,
                day=day_text(day),
                scheme=scheme,
                verdict=verdict,
                answers=answers,
                ppm_sum=used,
                price_grains=price,
                rate_grains=rate,
                gross_grains=due,
                split_version=version,
                split_ppm=ppm,
                net_grains=net,
            )
            for (app, model, day, scheme, verdict, _), answers, used, price, due, rate, net in zip(
                rests, *sums, nets, strict=True
            )
        ]

    def _totals(self, sums: _Sums) -> Totals:
        roll = self.rollup
        common: dict[str, int] = {}
        for charge in roll.charges.values():
            for reason, grains in charge.common.items():
                bump(common, reason, grains)
        if sums.own:
            bump(common, OWN_APP, sums.own)
        platform = sum(charge.platform for charge in roll.charges.values())
        charged = checked(sum(charge.total for charge in roll.charges.values()))
        escrow = sums.unclaimed + sums.claimed
        excess = charged + sums.released - sums.creators - escrow - sum(common.values()) - platform
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
            creators_grains=sums.creators,
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
            claimed_grains=sums.claimed,
            released_grains=sums.released,
            below_floor_ppm_sum=roll.masses.get("below_floor", 0),
            pools=roll.pools,
            common_carried_grains=dict(self.books.common_carried),
        )

    def _statement(self, creator: str, lines: list[StatementLine], totals: Totals) -> Statement:
        earned = sum([line.net_grains for line in lines])
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


def booked(transfers: Iterable[Transfer]) -> Iterator[bytes]:
    """Yield what the manifest covers of each transfer, in order."""
    if isinstance(transfers, Spilled):
        return (said.partition(b"\n")[0] for said in transfers.raw())
    return (canonical([one.id, one.currency, one.entries]) for one in transfers)


def _kept(made: Made[Item]) -> Sequence[Item]:
    return made if isinstance(made, Spilled) else tuple(made)

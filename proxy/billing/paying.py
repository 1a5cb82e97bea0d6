"""Paying out by the settings: what the commands and /api share, so that both ask for the same things.

It turns settings into the rules of a batch, opens the key under which accounts are sealed (`payees.key` in
the data folder, beside the store and never in it), and puts accounts into files at the moment somebody takes
one. It also tells a creator where they stand: what is owed, and what keeps it from being paid by the next
batch.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Final

import msgspec
import sqlalchemy as sa

from proxy.billing import ledger, payees, payout_answers, payout_files, payouts, payouts_store, store
from proxy.billing.declarations_store import Declaration, Declarations
from proxy.billing.money import EXPONENTS, GRAINS_PER_MINOR, decimal_text, parse
from proxy.billing.payees import RAILS, Account, Rail
from proxy.billing.payees_store import KnownAccount, Payees, payees_on
from proxy.billing.payouts import REASONS, SEPA_CURRENCY, Batch, Debtor, Rules
from proxy.billing.payouts_store import Payouts
from proxy.billing.periods_store import not_final
from proxy.billing.tax_numbers_store import TaxNumbers
from proxy.catalogue.works import printable
from proxy.clock import Clock, Ids
from proxy.errors import BadRequest, Conflict, Problem, SettingsError
from proxy.keyfile import secret_file
from proxy.settings import Settings

KEY_FILE: Final = "payees.key"
_BANK_CODE: Final = re.compile(r"[A-Z]{2}[A-Z0-9]{2}", re.ASCII)  # ISO 20022, ExternalStatusReason


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What a creator is owed in one currency, and what the next batch would do with it.

    reason: why it would not be paid (a key of payouts.REASONS), "" where it would; then the minor units.
    draft_grains: what of it was earned in periods that may still be commented on, and is not paid yet.
    """

    currency: str
    owed_grains: int
    reason: str
    why: str
    net_minor: int = 0
    withheld_minor: int = 0
    draft_grains: int = 0


class ToCheck(msgspec.Struct, frozen=True):
    """What of one creator waits for an operator's check: an account, a declaration for tax, or both."""

    creator: str
    account: KnownAccount | None
    declared: Declaration | None


class Paying:
    """Paying out from one store by one set of settings."""

    def __init__(self, engine: sa.Engine, settings: Settings, *, clock: Clock, ids: Ids) -> None:
        self._engine = engine
        self._settings = settings
        self._clock = clock
        self._ids = ids

    @property
    def currency(self) -> str:
        """The currency that batches pay: the books'."""
        return self._settings.billing.currency

    def payees(self, by: str) -> Payees:
        """Return where creators are paid, for whoever enters or checks it."""
        return Payees(self._engine, clock=self._clock, key=self._key, by=by)

    def tax_numbers(self, by: str) -> TaxNumbers:
        """Return creators' tax numbers, for whoever enters them."""
        return TaxNumbers(self._engine, clock=self._clock, key=self._key, by=by)

    def declarations(self, by: str) -> Declarations:
        """Return what creators declare for tax themselves, for whoever gives or checks it."""
        return Declarations(self._engine, clock=self._clock, by=by)

    def payouts(self, by: str) -> Payouts:
        """Return the batches, for whoever acts on them."""
        return Payouts(self._engine, clock=self._clock, ids=self._ids, by=by)

    def rails(self) -> tuple[Rail, ...]:
        """Return the rails that can pay the books' currency."""
        return tuple(rail for rail in RAILS if rail != "sepa" or self.currency == SEPA_CURRENCY)

    def propose(self, rail: Rail, *, by: str, dry_run: bool = False, key: str = "") -> tuple[Batch, bool]:
        """Return (batch, whether it is new) of everybody who can be paid by this rail today; see `create`.

        Raises BadRequest where the rail can't pay the books' currency, or SEPA has no account to pay from.
        """
        if rail not in self.rails():
            raise BadRequest(
                f"SEPA moves euros, and the books are in {self.currency}",
                remedy="pay by stripe or manual",
                code="payouts_currency",
            )
        debtor = debtor_of(self._settings, rail)
        if rail == "sepa" and not (debtor.iban and debtor.name) and not dry_run:
            raise BadRequest(
                "there is no account that SEPA could pay from",
                remedy="set [payouts] debtor_name and debtor_iban",
                code="payouts_debtor",
            )
        return self.payouts(by).create(
            rules_of(self._settings, rail, self.today()), debtor, dry_run=dry_run, key=key
        )

    def export(self, batch_id: str, *, by: str) -> tuple[Batch, bytes]:
        """Return (batch, its file), written down as exported before anybody has it; see `Payouts.export`."""
        kept: list[Batch] = []

        def made(batch: Batch, approved_us: int) -> bytes:
            kept.append(batch)
            wanted = [(one.creator, one.account_version) for one in batch.payments]
            return payout_files.render(batch, self.payees(by).unsealed(wanted), approved_us)

        content = self.payouts(by).export(batch_id, made)
        return kept[0], content

    def give_back(
        self, payment_id: str, *, by: str, reason: str = "", code: str = "", amount: str = ""
    ) -> bool:
        """Book that a payment came back, all of it; False when that is done.

        code: the bank's (ISO 20022, "AC04"); reason: its words; one of both is needed. amount: what came
        back, where it is said, so that no other payment is booked back. Raises NotFound, BadRequest, and
        Conflict where another amount came back than was paid: a bank returns a payment whole.
        """
        batch, one = payouts_store.payment(self._engine, payment_id)
        if not (code or reason.strip()):
            raise BadRequest("nobody says why it came back", remedy="give the bank's code, or its words")
        if code and not _BANK_CODE.fullmatch(code):
            raise BadRequest("this is no bank's code", remedy="write it like AC04", code="payouts_code")
        paid_grains = one.net_minor * GRAINS_PER_MINOR
        if amount and _grains(amount, batch.currency) != paid_grains:
            raise Conflict(
                f"{payment_id} paid {decimal_text(paid_grains, batch.currency)}, not {printable(amount, 40)}",
                remedy="look which payment came back; what a bank kept of it is settled with the creator",
                code="payouts_amount",
            )
        return self.payouts(by).give_back(payment_id, payout_answers.reason_of(code, reason))

    def enter(self, creator: str, account: Account, *, minimum: str, by: str, verified: bool) -> KnownAccount:
        """Keep where a creator is paid. minimum: text in the books' currency, "" for none of theirs."""
        return self.payees(by).enter(
            creator,
            account,
            minimum_grains=minimum_grains(minimum, self.currency) if minimum else 0,
            currency=self.currency,
            verified=verified,
        )

    def accounts(self, batch: Batch) -> dict[str, KnownAccount]:
        """Return {creator: account} as this batch pays them: who entered each, and who has checked it."""
        wanted = ((one.creator, one.account_version) for one in batch.payments)
        return self.payees("operator").of_versions(wanted)

    def to_check(self, after: str = "", limit: int = 100) -> tuple[list[ToCheck], str | None]:
        """Return (what waits for a check, by creator from behind `after` on; where the next page begins)."""
        accounts = {one.creator: one for one in self.payees("operator").unverified(after, limit + 1)}
        given = {one.creator: one for one in self.declarations("operator").waiting(after, limit + 1)}
        # Both lists are whole up to the least creator that either was cut at, so the page is too.
        creators = sorted(accounts.keys() | given.keys())
        page = [ToCheck(one, accounts.get(one), given.get(one)) for one in creators[:limit]]
        return page, page[-1].creator if len(creators) > limit else None

    def standing(self, creator: str) -> list[Standing]:
        """Return where a creator stands, by currency: those of the books' currency always, others if owed."""
        owed = {(creator, self.currency): 0} | {
            (creator, currency): grains
            for (code, currency), grains in store.balances(self._engine, ledger.payee(creator)).items()
            if code == ledger.payee(creator)
        }
        with self._engine.connect() as connection:
            known = payees_on(connection, [creator], self.today(), self.currency)
        rail = known[creator].rail if creator in known else None
        drafts = not_final(self._engine, self._clock.now_us(), [creator])
        paid, unpaid = payouts.plan(
            "", rules_of(self._settings, rail or "manual", self.today()), owed, known, drafts
        )
        reasons = {one.currency: one.reason for one in unpaid}
        found: list[Standing] = []
        for whose, grains in sorted(owed.items()):
            currency = whose[1]
            pays = next((one for one in paid if currency == self.currency), None)
            reason = "" if pays else reasons.get(currency, "nothing_owed")
            found.append(
                Standing(
                    currency=currency,
                    owed_grains=grains,
                    reason=reason,
                    why=REASONS[reason] if reason else "",
                    net_minor=pays.net_minor if pays else 0,
                    withheld_minor=pays.withheld_minor if pays else 0,
                    draft_grains=drafts.get(whose, 0),
                )
            )
        return found

    def today(self) -> dt.date:
        """Return the day it is, in UTC."""
        return dt.datetime.fromtimestamp(self._clock.now_us() // 1_000_000, dt.UTC).date()

    def _key(self) -> bytes:
        return secret_file(self._settings.data_dir / KEY_FILE)


def rules_of(settings: Settings, rail: Rail, day: dt.date) -> Rules:
    """Return the rules of a batch of that day. Raises SettingsError for what cannot be followed."""
    said, currency = settings.payouts, settings.billing.currency
    payees.check_withholding(said.withholding)
    try:
        minimum = minimum_grains(said.minimum, currency)
    except BadRequest as error:
        raise SettingsError(f"[payouts] minimum: {error.cause}", remedy=error.remedy) from error
    return Rules(rail, currency, day, minimum, said.withholding)


def debtor_of(settings: Settings, rail: Rail) -> Debtor:
    """Return the account that a rail's file asks to pay from. Raises SettingsError for what is none."""
    said = settings.payouts
    if rail != "sepa" or not said.debtor_iban:
        return Debtor()
    try:
        return Debtor(
            name=said.debtor_name, iban=payees.iban(said.debtor_iban), bic=payees.bic(said.debtor_bic)
        )
    except BadRequest as error:
        raise SettingsError(f"[payouts] debtor: {error.cause}", remedy=error.remedy) from error


def _grains(text: str, currency: str) -> int:
    try:
        return parse(text, currency)
    except (ValueError, OverflowError) as error:
        raise BadRequest(str(error), remedy="write it like 24.00", code="payouts_amount") from error


def minimum_grains(text: str, currency: str) -> int:
    """Return a minimum in grains. Raises BadRequest for what is negative or finer than a minor unit."""
    try:
        grains = parse(text, currency)
    except (ValueError, OverflowError) as error:
        raise BadRequest(str(error), remedy="write it like 25 or 25.00", code="payouts_minimum") from error
    if grains < 0 or grains % GRAINS_PER_MINOR:
        raise BadRequest(
            f"{text} {currency} is not a minimum",
            remedy=f"write 0 or more, with up to {EXPONENTS[currency]} digits after the point",
            code="payouts_minimum",
        )
    return grains


def looked_at(settings: Settings, day: dt.date) -> str:
    """Return what would be paid by on that day, for `doctor`. Raises Problem for what stands in the way."""
    rules, debtor = rules_of(settings, "sepa", day), debtor_of(settings, "sepa")
    key = settings.data_dir / KEY_FILE
    if key.exists() and key.stat().st_mode & 0o077:
        raise Problem(f"{key} can be read by other users of this machine", remedy=f"chmod 600 {key}")
    if debtor.iban:
        payout_files.sepaxml()
    rows = sum(row.effective_from <= day for row in rules.withholding)
    sepa = "SEPA from an account that is set" if debtor.iban else "no account for SEPA"
    return f"from {settings.payouts.minimum} {rules.currency}, {sepa}, {rows} withholding rows in force"

"""Where a creator is paid, and what is kept for a tax authority: values checked where they are born.

An account is checked as far as arithmetic can (IBAN by ISO 7064 mod 97-10 and its country's length, the
shapes of BIC and Stripe ids); whether it exists, and whose it is, the bank knows. It is kept sealed
(AES-256-GCM under a key outside the store, bound to its creator and version), so a copy of the database pays
nobody. People see its last four.

What is withheld is the operator's table, by dates, empty until they fill it: no rate is known here, and
nothing here is tax advice.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from proxy.billing.money import PPM
from proxy.errors import BadRequest, Problem, SettingsError
from proxy.settings import WithholdingRow

Rail = Literal["sepa", "stripe", "manual"]
RAILS: Final[tuple[Rail, ...]] = get_args(Rail)
TaxForm = Literal["W9", "W8BEN", "W8BENE", "none", "other"]
TAX_FORMS: Final[tuple[TaxForm, ...]] = get_args(TaxForm)
Untaxed = Literal["no_tax_form", "tax_country"]
NONCE_BYTES: Final = 12  # what GCM is specified for; random, and a creator changes accounts a few times
ACCOUNT_CHARACTERS_MAX: Final = 140  # a manual reference: one line of remittance text
HOLDER_CHARACTERS_MAX: Final = 70  # ISO 20022 Max70Text of Nm in the rules for SEPA
PROFILES_MAX: Final = 100  # of one creator: more is a loop, not a life
# Countries that SEPA reaches, and how long an IBAN is there: one missing digit in 97 passes the check digits.
IBAN_CHARACTERS: Final = {
    "AD": 24, "AL": 28, "AT": 20, "BE": 16, "BG": 22, "CH": 21, "CY": 28, "CZ": 24, "DE": 22, "DK": 18,
    "EE": 20, "ES": 24, "FI": 18, "FR": 27, "GB": 22, "GI": 23, "GR": 27, "HR": 21, "HU": 28, "IE": 22,
    "IS": 26, "IT": 27, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "MC": 27, "MD": 24, "ME": 22, "MK": 19,
    "MT": 31, "NL": 18, "NO": 15, "PL": 28, "PT": 25, "RO": 24, "RS": 22, "SE": 24, "SI": 19, "SK": 24,
    "SM": 27, "VA": 22,
}  # fmt: skip
_IBAN = re.compile(r"[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}", re.ASCII)
_BIC = re.compile(r"[A-Z]{6}[A-Z0-9]{2}([A-Z0-9]{3})?", re.ASCII)
_STRIPE = re.compile(r"acct_[A-Za-z0-9]{8,64}", re.ASCII)
_PERCENT = re.compile(r"[0-9]{1,3}(\.[0-9]{1,4})?", re.ASCII)
_COUNTRY = re.compile(r"[A-Z]{2}", re.ASCII)


def iban(text: str) -> str:
    """Return an IBAN without spaces, upper case.

    Raises BadRequest where its check digits do not hold, or for a country that SEPA does not reach.
    """
    found = re.sub(r"\s", "", text).upper()
    if not _IBAN.fullmatch(found):
        raise BadRequest(
            "this is no IBAN", remedy="write country, two check digits and the account", code="iban"
        )
    characters = IBAN_CHARACTERS.get(found[:2])
    if characters is None:
        raise BadRequest(
            f"SEPA does not reach {found[:2]}", remedy="take the rail stripe or manual", code="iban_country"
        )
    if len(found) != characters:
        raise BadRequest(
            f"an IBAN of {found[:2]} has {characters} characters, and this has {len(found)}",
            remedy="copy it again from the bank",
            code="iban",
        )
    number = int("".join(str(int(letter, 36)) for letter in found[4:] + found[:4]))
    if number % 97 != 1:
        raise BadRequest(
            f"the check digits of the IBAN that ends in {found[-4:]} do not hold",
            remedy="a digit is wrong or two are swapped: copy it again from the bank",
            code="iban",
        )
    return found


def bic(text: str) -> str:
    """Return a BIC upper case, "" for none. Raises BadRequest for another shape."""
    found = re.sub(r"\s", "", text).upper()
    if found and not _BIC.fullmatch(found):
        raise BadRequest(
            "this is no BIC", remedy="write 8 or 11 letters and digits, or leave it out", code="bic"
        )
    return found


def country(text: str) -> str:
    """Return an ISO 3166-1 alpha-2 code upper case. Raises BadRequest for another shape."""
    found = text.strip().upper()
    if not _COUNTRY.fullmatch(found):
        raise BadRequest(
            f"'{text[:40]}' is no country code", remedy="write two letters, like DE", code="country"
        )
    return found


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """Where money goes: an IBAN, a Stripe account's id, or for manual payments what a person needs."""

    rail: Rail
    account: str
    holder: str
    country: str
    bic: str = ""

    @property
    def last4(self) -> str:
        """What people are shown; of a reference of up to four characters nothing."""
        return self.account[-4:] if len(self.account) > 4 else ""


def account(rail: Rail, reference: str, *, holder: str, country_code: str, bic_code: str = "") -> Account:
    """Return a checked account. Raises BadRequest that says what is wrong, never the account itself."""
    name = " ".join("".join(letter if letter.isprintable() else " " for letter in holder).split())
    if not 0 < len(name) <= HOLDER_CHARACTERS_MAX:
        raise BadRequest(
            f"the account holder's name has {len(name)} characters",
            remedy=f"write 1 to {HOLDER_CHARACTERS_MAX}, as the bank knows them",
            code="holder",
        )
    if bic_code and rail != "sepa":
        raise BadRequest(f"a BIC means nothing to the rail {rail}", remedy="leave --bic out", code="bic")
    return Account(
        rail=rail,
        account=_reference(rail, reference),
        holder=name,
        country=country(country_code),
        bic=bic(bic_code),
    )


def _reference(rail: Rail, reference: str) -> str:
    if rail == "sepa":
        return iban(reference)
    found = reference.strip()
    if rail == "stripe" and not _STRIPE.fullmatch(found):
        raise BadRequest(
            "this is no id of a connected Stripe account",
            remedy="write it as acct_...",
            code="stripe_account",
        )
    if not 0 < len(found) <= ACCOUNT_CHARACTERS_MAX or not found.isprintable():
        raise BadRequest(
            f"the account has {len(found)} characters, or one that does not print",
            remedy=f"write 1 to {ACCOUNT_CHARACTERS_MAX} on one line",
            code="account",
        )
    return found


def seal(made: Account, key: bytes, nonce: bytes, *, creator: str, version: int) -> bytes:
    """Return the account encrypted: nonce and ciphertext. It opens only as this creator's, this version."""
    return nonce + AESGCM(key).encrypt(nonce, msgspec.json.encode(made), f"{creator}|{version}".encode())


def unseal(sealed: bytes, key: bytes, *, creator: str, version: int) -> Account:
    """Return the account. Raises Problem when the key is another one, or the row is not this creator's."""
    try:
        plain = AESGCM(key).decrypt(
            sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], f"{creator}|{version}".encode()
        )
    except InvalidTag:
        raise Problem(
            f"the account of {creator} (version {version}) does not open with payees.key",
            remedy="restore the key that was there when it was entered, or enter the account again",
            code="payees_key",
        ) from None
    return msgspec.json.decode(plain, type=Account)


@dataclass(frozen=True, slots=True)
class TaxProfile:
    """What a creator has declared, for the days from `valid_from` to before `valid_to` (None: until another).

    treaty_ppm: the rate that a treaty gives them, where they claim one.
    """

    form: TaxForm
    country: str
    treaty_ppm: int | None
    valid_from: dt.date
    valid_to: dt.date | None = None

    def __post_init__(self) -> None:
        if self.form not in TAX_FORMS:
            raise BadRequest(f"no tax form is called '{self.form}'", remedy=f"known: {', '.join(TAX_FORMS)}")
        if self.treaty_ppm is not None and not 0 <= self.treaty_ppm <= PPM:
            raise BadRequest("a treaty's rate is 0 to 1,000,000 ppm", code="tax_profile")
        if self.valid_to is not None and self.valid_to <= self.valid_from:
            raise BadRequest("a tax profile ends after it begins", code="tax_profile")

    def holds_on(self, day: dt.date) -> bool:
        """Return whether it speaks of that day."""
        return self.valid_from <= day and (self.valid_to is None or day < self.valid_to)


def treaty_in(percent: str) -> int | None:
    """Return a treaty's rate, written as a percentage, in parts in a million; None for none claimed.

    Raises BadRequest for what is no percentage, or finer than that.
    """
    said = percent.strip().rstrip("%").strip().replace(",", ".")
    if not said:
        return None
    if not _PERCENT.fullmatch(said):
        raise BadRequest(
            "the treaty's rate is no percentage", remedy="write it like 15 or 7.5", code="tax_profile"
        )
    whole, _, rest = said.partition(".")
    return int(whole) * (PPM // 100) + int(rest.ljust(4, "0"))


def follows(known: Sequence[TaxProfile], new: TaxProfile) -> None:
    """Refuse a profile that would speak of a day of which another does.

    Only the last may be open at its end, and a later one ends it. One that begins on the same day stands in
    the other's place: that is how a mistake is put right.
    """
    for one in in_turn(known):
        if one.valid_from == new.valid_from:
            continue
        ends = one.valid_to or (dt.date.max if new.valid_from < one.valid_from else new.valid_from)
        if new.valid_from < ends and one.valid_from < (new.valid_to or dt.date.max):
            raise BadRequest(
                f"of some of these days the one from {one.valid_from} to {one.valid_to or 'now on'} speaks",
                remedy="begin where it ends, or on the day it begins to stand in its place",
                code="tax_profile",
            )
    if len(known) >= PROFILES_MAX:
        raise BadRequest(f"a creator has at most {PROFILES_MAX} tax profiles", code="tax_profile")


def in_turn(known: Iterable[TaxProfile]) -> list[TaxProfile]:
    """Return profiles that do not overlap, by day; of several that begin on one day the last entered."""
    by_start = {one.valid_from: one for one in known}
    rows = [by_start[start] for start in sorted(by_start)]
    return [
        TaxProfile(one.form, one.country, one.treaty_ppm, one.valid_from, rows[place + 1].valid_from)
        if one.valid_to is None and place + 1 < len(rows)
        else one
        for place, one in enumerate(rows)
    ]


def profile_on(known: Iterable[TaxProfile], day: dt.date) -> TaxProfile | None:
    """Return the profile that speaks of that day."""
    return next((one for one in in_turn(known) if one.holds_on(day)), None)


@dataclass(frozen=True, slots=True)
class Withheld:
    """What the table says of one creator on one day. regime: for whom it is kept."""

    regime: str
    form: str
    rate_ppm: int


def check_withholding(rows: Sequence[WithholdingRow]) -> None:
    """Refuse rows that contradict each other. Raises SettingsError."""
    seen: set[tuple[str, str, dt.date]] = set()
    for number, row in enumerate(rows):
        key = (row.form, row.country, row.effective_from)
        if key in seen:
            raise SettingsError(
                f"payouts.withholding[{number}] says {row.form} {row.country} {row.effective_from} again",
                remedy="keep one row for a form, a country and a day",
            )
        seen.add(key)


def withholding(
    rows: Sequence[WithholdingRow], profile: TaxProfile | None, day: dt.date
) -> Withheld | Untaxed:
    """Return what is withheld from a creator, or why the table does not say it.

    "no_tax_form": it has no row for the form they gave, or for none; "tax_country": it has rows for the form,
    and none for their country.

    Rows in force that day and of their form and country: an exact country before "*", an exact form before
    "*", then the latest. Without any row in force nothing is withheld and no form is asked for. Who gave no
    form is "none": a row for that form is how an operator says what is kept of them.
    """
    in_force = [row for row in rows if row.effective_from <= day]
    if not in_force:
        return Withheld("", profile.form if profile else "none", 0)
    form = profile.form if profile else "none"
    of_form = [row for row in in_force if row.form == form or (row.form == "*" and form != "none")]
    fits = [row for row in of_form if row.country in {"*", profile.country if profile else ""}]
    if not fits:
        return "tax_country" if of_form and profile else "no_tax_form"
    row = max(fits, key=lambda one: (one.country != "*", one.form != "*", one.effective_from))
    treaty = profile.treaty_ppm if profile and row.treaty else None
    return Withheld(row.regime, form, row.ppm if treaty is None else treaty)

"""How numbers, money and dates are written where the reader lives; never what they are.

A `Style` turns exact integers into text for eyes: `English` by itself, `Localised` by the CLDR data that
babel carries (the extra `locales`). Machine formats know neither. Words stay English in both: what changes
is digits, separators, the currency's sign and place, and the order and names in dates.

Nothing passes through binary fractions: babel is handed `Decimal`s made of integers, and told not to round.
The digits below the minor unit are cut off again, so that a page can set them back.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import importlib
import re
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any, Final, Protocol

from proxy.billing.money import (
    EXPONENTS,
    GRAIN_DIGITS,
    GRAINS_PER_MINOR,
    SYMBOLS,
    decimal_text,
    digits,
    parts,
    plain,
)
from proxy.errors import BadRequest

RIGHT_TO_LEFT: Final = frozenset({"ar", "fa", "he", "ur", "yi", "ps", "sd", "ckb", "dv"})
LANGUAGES_MAX: Final = 200  # characters of a header that are looked at
_TAG: Final = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,4}", re.ASCII)
# Where the ten digits of CLDR's numbering systems begin.
_ZEROS: Final = {
    "latn": 0x30, "arab": 0x660, "arabext": 0x6F0, "deva": 0x966, "beng": 0x9E6, "mymr": 0x1040,
}  # fmt: skip
DIGITS_MAX: Final = 40  # of a Decimal: an int64 with its point, and room


@dataclass(frozen=True, slots=True)
class Amount:
    """An amount as it is set: "$", "1,234", ".56", "0000000", ""; nothing rounded."""

    symbol: str
    whole: str
    minor: str
    fine: str
    after: str = ""

    @classmethod
    def of(cls, grains: int, currency: str) -> Amount:
        """Return `grains` cut into its typographic pieces, as English has them."""
        sign, whole, minor, fine = parts(grains, currency)
        symbol = SYMBOLS.get(currency, f"{currency} ")
        # Below a currency without a minor unit the point belongs to the digits that are set back.
        return cls(
            symbol="−" * bool(sign) + symbol,
            whole=f"{int(whole):,}",
            minor=f".{minor}" if EXPONENTS[currency] else "",
            fine=fine if EXPONENTS[currency] else f".{fine}",
        )


class Style(Protocol):
    """What a page asks for; `lang` is a BCP 47 tag, `direction` "ltr" or "rtl"."""

    lang: str
    direction: str

    def amount(self, grains: int, currency: str) -> Amount:
        """Return every digit of it, in pieces."""
        ...

    def spoken(self, grains: int, currency: str) -> str:
        """Return it for a sentence: minor units, cut, where there are any, else all its digits."""
        ...

    def exactly(self, grains: int, currency: str) -> str:
        """Return it for a sentence with every digit that is not a trailing 0."""
        ...

    def count(self, number: int) -> str:
        """Return a number with its thousands apart."""
        ...

    def percent(self, part: int, whole: int) -> str:
        """Return part/whole cut to a tenth of a percent."""
        ...

    def date(self, day: str) -> str:
        """Return an ISO day in full."""
        ...

    def span(self, first: str, last: str) -> str:
        """Return two ISO days in a table's few characters."""
        ...

    def month(self, label: str) -> str:
        """Return "November 2026" for "2026-11", and any other label as it is."""
        ...


def permille(part: int, whole: int) -> int:
    """Return part/whole in tenths of a percent, cut, but something is never shown as nothing."""
    return part * 1000 // whole or 1 if whole and part else 0


def percent(part: int, whole: int) -> str:
    """Return part/whole as "41.2%", cut and not rounded, by integers; "0%" of nothing."""
    tenths = permille(part, whole)
    return f"{tenths // 10}.{tenths % 10}%" if tenths % 10 else f"{tenths // 10}%"


class English:
    """The style of a page that nobody asked to be otherwise; needs nothing installed."""

    lang: str = "en"
    direction: str = "ltr"

    def amount(self, grains: int, currency: str) -> Amount:
        return Amount.of(grains, currency)

    def spoken(self, grains: int, currency: str) -> str:
        said = plain(grains, currency) if abs(grains) >= GRAINS_PER_MINOR else self.exactly(grains, currency)
        return said.replace("-", "−")

    def exactly(self, grains: int, currency: str) -> str:
        symbol = SYMBOLS.get(currency, f"{currency} ")
        return "−" * (grains < 0) + symbol + decimal_text(abs(grains), currency)

    def count(self, number: int) -> str:
        return f"{number:,}"

    def percent(self, part: int, whole: int) -> str:
        return percent(part, whole)

    def date(self, day: str) -> str:
        date = dt.date.fromisoformat(day)
        return f"{date.day} {date:%B} {date.year}"

    def span(self, first: str, last: str) -> str:
        start, end = dt.date.fromisoformat(first), dt.date.fromisoformat(last)
        if start == end:
            return f"{end.day} {end:%b}"
        if start.year != end.year:
            return f"{start.day} {start:%b} {start.year} – {end.day} {end:%b} {end.year}"
        return (
            f"{start.day}–{end.day} {end:%b}"
            if start.month == end.month
            else f"{start.day} {start:%b} – {end.day} {end:%b}"
        )

    def month(self, label: str) -> str:
        date = month_of(label)
        return f"{date:%B} {date.year}" if date else label


def month_of(label: str) -> dt.date | None:
    """Return the first day of the month that a period's label names, or None where it names none."""
    if not re.fullmatch(r"\d{4}-\d{2}", label, re.ASCII):
        return None
    try:
        return dt.date.fromisoformat(f"{label}-01")
    except ValueError:
        return None


class Localised:
    """A style by CLDR. Digits are those that the language's own texts use."""

    def __init__(self, tag: str) -> None:
        """tag: BCP 47 like "de-DE". Raises BadRequest where it names no locale, or babel is not installed."""
        try:
            core, self._numbers, self._dates = (
                importlib.import_module(f"babel.{name}") for name in ("core", "numbers", "dates")
            )
        except ModuleNotFoundError as error:
            raise BadRequest(
                "another locale needs babel, which is not installed",
                remedy="pip install 'endcredits[locales]'",
                code="locales_extra",
            ) from error
        try:
            self._locale: Any = core.Locale.parse(tag[:40], sep="-" if "-" in tag else "_")
        except (ValueError, core.UnknownLocaleError) as error:
            raise BadRequest(
                f"'{tag[:40]}' names no locale",
                remedy="write a language and a country, like de-DE",
                code="locale",
            ) from error
        self.lang: str = str(self._locale).replace("_", "-")
        system = str(self._locale.default_numbering_system)
        # One whose digits are not known here is written with 0 to 9 and the signs that go with them.
        self._system = system if system in _ZEROS else "latn"
        zero = _ZEROS.get(system, ord("0"))
        self._digits = {ord("0") + digit: zero + digit for digit in range(10)}
        self.direction: str = "rtl" if self._locale.language in RIGHT_TO_LEFT else "ltr"

    def _money(self, grains: int, currency: str, places: int) -> str:
        pattern = self._numbers.parse_pattern(self._locale.currency_formats["standard"].pattern)
        pattern.frac_prec = (places, places)
        with localcontext() as context:
            context.prec = DIGITS_MAX
            exact = Decimal(grains).scaleb(-digits(currency))
            text: str = pattern.apply(
                exact, self._locale, currency=currency, currency_digits=False, decimal_quantization=False,
                numbering_system=self._system,
            )  # fmt: skip
        symbol = str(self._numbers.get_currency_symbol(currency, self._locale))
        if self.direction == "rtl":
            # "US$" stays so among letters that run the other way: a mark keeps its sign behind its letters.
            text = text.replace(symbol, f"{symbol}\u200e")
        return self._own(text.replace("-", "−"))

    def _own(self, text: str) -> str:
        """Return it with the digits that the language's own texts use: babel sets their signs only."""
        return text.translate(self._digits)

    def amount(self, grains: int, currency: str) -> Amount:
        text = self._money(grains, currency, digits(currency))
        exponent = EXPONENTS[currency]
        found = re.fullmatch(
            rf"(\D*)(\d.*?)(\D)(\d{{{exponent}}})(\d{{{GRAIN_DIGITS}}})(\D*)", text, re.DOTALL
        )
        assert found is not None, text
        symbol, whole, point, minor, fine, after = found.groups()
        if not exponent:
            return Amount(symbol, whole, "", point + fine, after)
        return Amount(symbol, whole, point + minor, fine, after)

    def spoken(self, grains: int, currency: str) -> str:
        if abs(grains) < GRAINS_PER_MINOR:
            return self.exactly(grains, currency)
        cut = abs(grains) // GRAINS_PER_MINOR * GRAINS_PER_MINOR
        return self._money(-cut if grains < 0 else cut, currency, EXPONENTS[currency])

    def exactly(self, grains: int, currency: str) -> str:
        _, _, point = decimal_text(grains, currency).partition(".")
        return self._money(grains, currency, len(point))

    def count(self, number: int) -> str:
        text = self._numbers.format_decimal(number, locale=self._locale, numbering_system=self._system)
        return self._own(str(text))

    def percent(self, part: int, whole: int) -> str:
        tenths = Decimal(permille(part, whole)).scaleb(-3)
        text = self._numbers.format_percent(
            tenths, locale=self._locale, decimal_quantization=False, numbering_system=self._system
        )
        return self._own(str(text))

    def date(self, day: str) -> str:
        return self._own(
            str(self._dates.format_date(dt.date.fromisoformat(day), "long", locale=self._locale))
        )

    def span(self, first: str, last: str) -> str:
        start, end = dt.date.fromisoformat(first), dt.date.fromisoformat(last)
        skeleton = "MMMd" if start.year == end.year else "yMMMd"
        if start == end:
            return self._own(str(self._dates.format_skeleton(skeleton, end, locale=self._locale)))
        return self._own(str(self._dates.format_interval(start, end, skeleton, locale=self._locale)))

    def month(self, label: str) -> str:
        date = month_of(label)
        if date is None:
            return label
        return self._own(str(self._dates.format_skeleton("yMMMM", date, locale=self._locale)))


def preferred(languages: str) -> str:
    """Return the first tag of an Accept-Language header, best first, that there is a style for, "" for none.

    Never raises: a browser's preference is no demand, and without babel there is English.
    """
    wanted: list[tuple[int, int, str]] = []
    for place, item in enumerate(languages[:LANGUAGES_MAX].split(",")):
        tag, _, weight = item.partition(";")
        found = re.fullmatch(r"\s*q=([01])(?:\.(\d{0,3}))?\s*", weight or "q=1", re.ASCII)
        if found:
            thousandths = int(found.group(1) + (found.group(2) or "").ljust(3, "0"))
            wanted.append((-thousandths, place, tag.strip()))
    for weight, _, tag in sorted(wanted):
        if weight and _TAG.fullmatch(tag):
            with contextlib.suppress(BadRequest):
                style_of(tag)
                return tag
    return ""


def style_of(tag: str) -> Style:
    """Return the style for a BCP 47 tag, English for none. Raises BadRequest as `Localised` does."""
    return Localised(tag) if tag else English()

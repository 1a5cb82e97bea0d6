"""Money as integers, and the one rule by which it is divided.

A *grain* is 10^-7 of a currency's minor unit: a nano-dollar, or 10^-7 yen. It is fine enough that a tenth of
a cent divides among hundreds of works with an error nobody could be paid, and coarse enough that nine
billion dollars fit an int64. There is no float here and none can enter: text is parsed digit by digit.

`allocate` is the only place where money meets a remainder. Largest remainders (Hamilton's method): every
part is floored, and the grains left over go to the largest remainders, ties by sha256(seed | key). Rounding
each part alone would lose or invent money; giving the rest in list order would favour whoever stands first.
docs/money.md, "Dividing an amount", is the normative text.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

# Digits after the point that people use; the table is short on purpose: a currency is added with its exponent
# looked up (ISO 4217), never guessed as 2.
EXPONENTS: Final = {
    "AUD": 2, "BRL": 2, "CAD": 2, "CHF": 2, "CNY": 2, "CZK": 2, "DKK": 2, "EUR": 2, "GBP": 2, "HUF": 2,
    "INR": 2, "JPY": 0, "KRW": 0, "KWD": 3, "MXN": 2, "NOK": 2, "NZD": 2, "PLN": 2, "SEK": 2, "TND": 3,
    "USD": 2, "ZAR": 2,
}  # fmt: skip
SYMBOLS: Final = {"USD": "$", "EUR": "€", "GBP": "£", "JPY": "¥"}
GRAIN_DIGITS: Final = 7
GRAINS_PER_MINOR: Final = 10**GRAIN_DIGITS
GRAINS_MAX: Final = 2**63 - 1  # what a BIGINT column holds, on both stores
PPM: Final = 1_000_000
_AMOUNT = re.compile(r"(-?)([0-9]{1,19})(?:\.([0-9]{1,19}))?", re.ASCII)


def digits(currency: str) -> int:
    """Return how many digits after the point a grain has in `currency`: 9 for USD, 7 for JPY.

    Raises ValueError for a currency whose exponent is not known here.
    """
    if currency not in EXPONENTS:
        raise ValueError(f"unknown currency '{currency}'; known: {', '.join(EXPONENTS)}")
    return EXPONENTS[currency] + GRAIN_DIGITS


def checked(grains: int) -> int:
    """Return `grains`, or raise OverflowError where a store could not hold it."""
    if not -GRAINS_MAX <= grains <= GRAINS_MAX:
        raise OverflowError(f"{grains} grains do not fit 64 bits")
    return grains


def parse(text: str, currency: str) -> int:
    """Return the grains that decimal text like "0.002" says exactly.

    Raises ValueError for anything else than digits with an optional point and leading minus, for more digits
    than a grain has (nothing is rounded in silence), and OverflowError beyond 64 bits.
    """
    found = _AMOUNT.fullmatch(text)
    places = digits(currency)
    if found is None:
        raise ValueError(f"'{text}' is not a decimal amount like 0.002")
    sign, whole, part = found.group(1), found.group(2), (found.group(3) or "").rstrip("0")
    if len(part) > places:
        raise ValueError(
            f"'{text}' has more than {places} digits after the point, which {currency} cannot hold"
        )
    grains = int(whole + part.ljust(places, "0"))
    return checked(-grains if sign else grains)


def decimal_text(grains: int, currency: str) -> str:
    """Return the exact amount for machines: "12.50", "0.001649380" as "0.00164938"; `parse` reads it back."""
    return decimal_texts((grains,), currency)[0]


def decimal_texts(column: Sequence[int], currency: str) -> list[str]:
    """Return `decimal_text` of each: by the million, as what is one kind of work there is done once."""
    places = digits(currency)
    if len(column) > 1 and column.count(column[0]) == len(column):
        return decimal_texts(column[:1], currency) * len(column)
    if places == GRAIN_DIGITS:  # a currency without minor units: no digit has to stand behind the point
        whole_and_part = [divmod(abs(grains), GRAINS_PER_MINOR) for grains in column]
        texts = [f"{whole}.{part:07d}".rstrip("0") if part else str(whole) for whole, part in whole_and_part]
    else:
        padded = [str(abs(grains)).rjust(places + 1, "0") for grains in column]
        texts = [
            f"{text[:-places]}.{text[-places:-GRAIN_DIGITS]}{text[-GRAIN_DIGITS:].rstrip('0')}"
            for text in padded
        ]
    if min(column, default=0) < 0:
        return [f"-{text}" if grains < 0 else text for text, grains in zip(texts, column, strict=True)]
    return texts


def parts(grains: int, currency: str) -> tuple[str, str, str, str]:
    """Return (sign, whole, minor digits, grain digits): ("-", "12", "50", "0000000"), nothing rounded."""
    text = str(abs(grains)).rjust(digits(currency) + 1, "0")
    whole, point = text[: -digits(currency)], text[-digits(currency) :]
    exponent = EXPONENTS[currency]
    return ("-" if grains < 0 else "", whole, point[:exponent], point[exponent:])


def plain(grains: int, currency: str) -> str:
    """Return the amount for people in whole minor units, cut and not rounded up: "$1,234.56"."""
    sign, whole, minor, _ = parts(grains, currency)
    amount = f"{int(whole):,}" + (f".{minor}" if minor else "")
    if grains < 0 and not int(whole + minor):
        sign = ""  # no one is owed minus nothing
    symbol = SYMBOLS.get(currency, f"{currency} ")
    return f"{sign}{symbol}{amount}"


@dataclass(frozen=True, slots=True)
class Money:
    """An amount with its currency; two currencies never add."""

    grains: int
    currency: str

    def __post_init__(self) -> None:
        digits(self.currency)
        checked(self.grains)

    def __add__(self, other: Money) -> Money:
        if self.currency != other.currency:
            raise ValueError(f"{self.currency} and {other.currency} do not add")
        return Money(self.grains + other.grains, self.currency)

    def __str__(self) -> str:
        return f"{decimal_text(self.grains, self.currency)} {self.currency}"

    @classmethod
    def parse(cls, text: str, currency: str) -> Money:
        """Return decimal text as money; raises as `parse` does."""
        return cls(parse(text, currency), currency)


def allocate(total: int, weights: Sequence[tuple[str, int]], seed: str) -> dict[str, int]:
    """Return `total` grains divided by weight, to the grain: {key: grains}, in the order given.

    The parts sum to `total`; each is within one grain of total * weight / sum(weights); weight 0 gets 0;
    the order given does not matter; a negative total is the mirror of the positive one. `seed` names what is
    being divided (an event's id, "period|work|version"), so that anybody breaks ties as we did.
    Raises ValueError for a repeated key, a negative weight, or something to divide among nobody.
    """
    keys = [key for key, _ in weights]
    parts = apportion(total, [weight for _, weight in weights], seed, keys.__getitem__)
    result = dict(zip(keys, parts, strict=True))
    if len(result) != len(keys):
        raise ValueError(f"a key is repeated in the division of '{seed}'")
    return result


def apportion(total: int, weights: Sequence[int], seed: str, key_of: Callable[[int], str]) -> list[int]:
    """Return `total` divided as `allocate` does, by place instead of by key: the parts, in the order given.

    key_of: the key of a place; asked for only where remainders tie at the cut, so that millions of divisions
    need not name their parts. Keys are the caller's to keep apart. Raises ValueError as `allocate` does.
    """
    if weights and min(weights) < 0:
        raise ValueError(f"a weight is negative in the division of '{seed}'")
    mass = sum(weights)
    checked(total)
    if total == 0:
        return [0] * len(weights)
    if mass == 0:
        raise ValueError(f"'{seed}': {total} grains cannot be divided among nobody")
    if total == mass:
        return list(weights)
    sign, amount = (-1, -total) if total < 0 else (1, total)
    parts = [amount * weight // mass for weight in weights]
    left = amount - sum(parts)
    if left:
        for place in _luckiest([amount * weight % mass for weight in weights], left, seed, key_of):
            parts[place] += 1
    return [-part for part in parts] if sign < 0 else parts


def _luckiest(remainders: list[int], count: int, seed: str, key_of: Callable[[int], str]) -> list[int]:
    # More than `count` remainders are above 0, because they sum to `count` times what each is below.
    order = sorted(range(len(remainders)), key=remainders.__getitem__, reverse=True)
    cut = remainders[order[count - 1]]
    if remainders[order[count]] != cut:
        return order[:count]
    # A tie at the cut; only then is a hash needed.
    above = [place for place in order[:count] if remainders[place] > cut]
    level = [place for place in order if remainders[place] == cut]
    level.sort(key=lambda place: hashlib.sha256(f"{seed}|{key_of(place)}".encode()).digest())
    return above + level[: count - len(above)]

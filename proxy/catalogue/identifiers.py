"""Names that the world outside gives to works and people, taken only when their check digits agree.

An identifier that somebody has verified decides between two registrations of one text, so a mistyped one must
not pass. ISBN, ISSN, ISWC, ISNI and ORCID carry a check digit; ISRC and DOI have only a shape, and an ISCC's
header says how long it is. Nothing is looked up anywhere: that the name belongs to the work is what a person
says who verifies it.

Sources: ISO 2108 (ISBN), 3297 (ISSN), 15707 (ISWC), 3901 (ISRC), 26324 (DOI), 24138 (ISCC) and 27729 (ISNI),
the last with ISO 7064 MOD 11-2, which ORCID shares.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass

from proxy.errors import BadRequest

CHARACTERS_MAX = 200  # a DOI may be long by its standard; none in use comes near
_DOI = re.compile(r"10\.[0-9]{4,9}(?:\.[0-9]+)*/[!-~]+")
_ISRC = re.compile(r"[A-Z]{2}[A-Z0-9]{3}[0-9]{7}")
_ISCC = re.compile(r"[A-Z2-7]{10,64}")
_ISCC_CODE, _ISCC_SUM, _ISCC_WIDE = 5, 5, 7  # a main type, and two of its subtypes
_ORCID_PREFIX = "https://orcid.org/"
_DOI_PREFIXES = ("https://doi.org/", "http://doi.org/", "https://dx.doi.org/", "http://dx.doi.org/")


@dataclass(frozen=True, slots=True)
class Identifier:
    """A name in one scheme, in the one form in which equal names are equal texts."""

    scheme: str
    value: str

    def __str__(self) -> str:
        return f"{self.scheme}:{self.value}"


def parse(text: str) -> Identifier:
    """Return the identifier that "scheme:value" names; hyphens, spaces and case do not matter.

    An ISBN of 10 digits becomes the one of 13. Raises BadRequest for an unknown scheme, a wrong shape or a
    check digit that does not agree.
    """
    scheme, _, value = text.strip().partition(":")
    scheme, value = scheme.strip().lower(), value.strip()
    if scheme not in SCHEMES:
        raise BadRequest(
            f"'{text[:40] if text.isprintable() else '?'}' names no known scheme",
            remedy=f"write one of {', '.join(f'{name}:...' for name in SCHEMES)}",
            code="identifier",
        )
    normal = SCHEMES[scheme](value) if len(value) <= CHARACTERS_MAX else None
    if normal is None:
        shown = value[:60] if value.isprintable() else "?"
        raise BadRequest(
            f"'{shown}' is no {scheme.upper()}: its shape or its check digit is wrong",
            remedy="compare it with the copy you have it from, digit by digit",
            code="identifier",
        )
    return Identifier(scheme, normal)


def _compact(value: str) -> str:
    return re.sub(r"[\s.\-\u2010-\u2013]", "", value).upper()


def _isbn(value: str) -> str | None:
    digits = _compact(value)
    if re.fullmatch(r"[0-9]{9}[0-9X]", digits):
        if _weighted(digits, range(10, 0, -1)) % 11:
            return None
        first = "978" + digits[:9]
        return first + str(-_weighted(first, (1, 3) * 6) % 10)
    if re.fullmatch(r"97[89][0-9]{10}", digits) and _weighted(digits, (*(1, 3) * 6, 1)) % 10 == 0:
        return digits
    return None


def _issn(value: str) -> str | None:
    digits = _compact(value)
    if not re.fullmatch(r"[0-9]{7}[0-9X]", digits) or _weighted(digits, range(8, 0, -1)) % 11:
        return None
    return f"{digits[:4]}-{digits[4:]}"


def _isrc(value: str) -> str | None:
    letters = _compact(value)
    return letters if _ISRC.fullmatch(letters) else None


def _iswc(value: str) -> str | None:
    letters = _compact(value)
    if not re.fullmatch(r"T[0-9]{10}", letters):
        return None
    total = 1 + _weighted(letters[1:10], range(1, 10))
    return letters if (total + int(letters[10])) % 10 == 0 else None


def _doi(value: str) -> str | None:
    for prefix in _DOI_PREFIXES:
        value = value.removeprefix(prefix)
    return value.lower() if _DOI.fullmatch(value) else None


def _iscc(value: str) -> str | None:
    """An ISCC unit or code: a header of four numbers of four bits, and as long a body as that says."""
    letters = _compact(value)
    if not _ISCC.fullmatch(letters) or len(letters) % 8 in {1, 3, 6}:
        return None
    raw = base64.b32decode(letters + "=" * (-len(letters) % 8))
    main, subtype, version, length = raw[0] >> 4, raw[0] & 15, raw[1] >> 4, raw[1] & 15
    if main < _ISCC_CODE:  # a unit: 32 bits, and 32 more for each of its length
        body = 4 * (length + 1)
    elif subtype == _ISCC_WIDE:
        body = 32
    else:  # data and instance, and a unit for each of three bits; a sum has no other
        body = 8 * (2 + (0 if subtype == _ISCC_SUM else (length & 7).bit_count()))
    is_one = main <= _ISCC_CODE and version == 0 and len(raw) == 2 + body
    return letters if is_one and base64.b32encode(raw).decode().rstrip("=") == letters else None


def _isni(value: str) -> str | None:
    digits = _compact(value)
    if not re.fullmatch(r"[0-9]{15}[0-9X]", digits):
        return None
    total = 0
    for digit in digits[:15]:
        total = (total + int(digit)) * 2
    return digits if (total + _digit(digits[15])) % 11 == 1 else None


def _orcid(value: str) -> str | None:
    digits = _isni(value.removeprefix(_ORCID_PREFIX))
    # ORCID was given these blocks of the ISNIs; outside them a good ISNI is nobody's ORCID.
    if digits is None or not ("000000015" <= digits[:9] <= "000000035" or digits.startswith("0009000")):
        return None
    return "-".join(digits[at : at + 4] for at in range(0, 16, 4))


def _digit(letter: str) -> int:
    return 10 if letter == "X" else int(letter)


def _weighted(digits: str, weights: range | tuple[int, ...]) -> int:
    return sum(_digit(digit) * weight for digit, weight in zip(digits, weights, strict=True))


SCHEMES: dict[str, Callable[[str], str | None]] = {
    "isbn": _isbn,
    "issn": _issn,
    "isrc": _isrc,
    "iswc": _iswc,
    "doi": _doi,
    "iscc": _iscc,
    "isni": _isni,
    "orcid": _orcid,
}

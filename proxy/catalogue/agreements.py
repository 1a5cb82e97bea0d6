"""A split that one person proposes and the others countersign: who must agree, and what has become of it.

Nobody's part changes by somebody else's word. Whoever owns a work, or has a part in it, may propose another
split; everybody who would have a part, or has one now, is asked, and it holds when the last of them has
agreed. One refusal ends it, as does its clock, or another split that came into force meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Final, Literal

from proxy.catalogue.works import UNCLAIMED, WHOLE_PPM, Part, Split, printable
from proxy.errors import BadRequest

DAYS_TO_ANSWER: Final = 30
DAY_US: Final = 86_400_000_000
NOTE_CHARACTERS_MAX: Final = 500  # a sentence or two: what was agreed on, and when
State = Literal["open", "agreed", "refused", "withdrawn", "expired", "outdated"]
Said = Literal["agreed", "refused", "withdrawn"]


@dataclass(frozen=True, slots=True)
class SplitAnswer:
    """What one person said to a proposal; "withdrawn" is said by who made it."""

    party: str
    said: Said
    reason: str
    at_us: int


@dataclass(frozen=True, slots=True)
class SplitProposal:
    """A split that is proposed for a work. version: of the split that it would replace, 0 if there is none.

    asked: who must agree besides the one who proposes. Parties are creators' ids, or UNCLAIMED.
    """

    id: str
    work_id: str
    version: int
    split: Split
    asked: tuple[str, ...]
    note: str
    proposed_by: str
    at_us: int
    until_us: int
    answers: tuple[SplitAnswer, ...] = ()

    @property
    def waits_for(self) -> tuple[str, ...]:
        """Who has not said anything yet."""
        said = {one.party for one in self.answers}
        return tuple(one for one in self.asked if one not in said)

    def state(self, version: int, now_us: int) -> State:
        """Return what has become of it, with the split's version and the time that it is now."""
        said = {one.said for one in self.answers}
        if "refused" in said:
            return "refused"
        if "withdrawn" in said:
            return "withdrawn"
        if not self.waits_for:
            return "agreed"
        if version != self.version:
            return "outdated"
        return "expired" if now_us >= self.until_us else "open"


def asked_of(before: Split, after: Split, proposer: str) -> tuple[str, ...]:
    """Return who must agree that `after` takes the place of `before`: all but the proposer and nobody."""
    parties = {part.party for part in (*before.parts, *after.parts)}
    return tuple(sorted(parties - {UNCLAIMED, proposer}))


def shares_of(split: Split) -> dict[str, int]:
    """Return {party: ppm}, whatever the order and the roles."""
    return {part.party: part.ppm for part in split.parts}


def split_in(rows: Iterable[tuple[str, str]]) -> Split:
    """Return the split that a form says: (whose, percent) a row, rows without a name and percent left out.

    Percents are decimal, with a point or a comma, to four digits: a part in a million. Nothing is rounded.
    Raises BadRequest for a row that is no part, and for what is not 100 together, saying by how much.
    """
    parts: list[Part] = []
    for who, percent in rows:
        name, number = who.strip(), percent.strip().rstrip("%").strip().replace(",", ".")
        if not name and not number:
            continue
        if not name:
            raise BadRequest(
                f"{printable(number, 20)}% are nobody's", remedy="say whose they are", code="split"
            )
        parts.append(Part(name, ppm_in(number, name)))
    excess = sum(part.ppm for part in parts) - WHOLE_PPM
    if parts and excess:
        what = "too much" if excess > 0 else "missing"
        raise BadRequest(
            f"the parts make {percent_text(WHOLE_PPM + excess)}%, {percent_text(abs(excess))}% {what}",
            remedy="write parts that make 100 together",
            code="split",
        )
    return Split(tuple(parts))


def ppm_in(percent: str, whose: str) -> int:
    """Return a percentage as parts in a million. Raises BadRequest for what is none, or finer than that."""
    try:
        ppm = Decimal(percent) * (WHOLE_PPM // 100)
    except InvalidOperation:
        ppm = Decimal("NaN")
    if not ppm.is_finite() or ppm != ppm.to_integral_value() or not 0 < ppm <= WHOLE_PPM:
        raise BadRequest(
            f"'{printable(percent, 20)}' is no part for {printable(whose, 60)}",
            remedy="write a percentage above 0, like 50 or 33.3333",
            code="split",
        )
    return int(ppm)


def percent_text(ppm: int) -> str:
    """Return parts in a million as a percentage that `ppm_in` reads back: "33.3333", "50"."""
    whole, rest = divmod(ppm, WHOLE_PPM // 100)
    return f"{whole}.{rest:04d}".rstrip("0").rstrip(".")

"""The words of attribution as frozen values.

A *work* is registered text; it is cut into *passages*. An output is cut into *segments*. A *match* is
evidence
that a stretch of the output repeats or restates a stretch of a work; a *share* is one work's part of the
whole output in ppm. Offsets are Unicode code points, half-open, in the text as given (not as normalised).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PPM = 1_000_000
Kind = Literal["verbatim", "restated", "grounded", "cited"]


@dataclass(frozen=True, slots=True)
class SourceWork:
    """A registered text, as the index takes it.

    Who owns what several works hold is decided by `precedence`: standing (2: an upheld claim or dispute,
    1: a verified identifier, 0: neither), then `registered_us`, then the id.
    reviewed: a person has looked at it, so that it may earn whatever the rules of quarantine say.
    commons: nobody's (public domain, CC0, boilerplate); it takes part in precedence, and wins for nobody.
    adapts: ids of the works that a licence allows this one to take from. That does not hold it up; what they
    say in the same words stays theirs.
    """

    work_id: str
    text: str
    registered_us: int = 0
    creator_id: str = ""
    reviewed: bool = False
    commons: bool = False
    standing: int = 0
    adapts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """A standing that nobody defined cannot exist."""
        if self.standing not in {0, 1, 2}:
            raise ValueError(f"{self.work_id}: standing {self.standing}; it is 0, 1 (verified) or 2 (upheld)")

    @property
    def precedence(self) -> tuple[int, int, str]:
        """What sorts works into the order in which they own what they share: the first one owns it."""
        return -self.standing, self.registered_us, self.work_id


@dataclass(frozen=True, slots=True)
class Held:
    """A work that earns nothing until a person has looked, and why.

    reason: list, keywords, repetition, copy, patchwork, paraphrase or common. of: the work it takes from,
    for a copy, a paraphrase, and (the one it takes most from) a patchwork. part_ppm: how much of it that
    concerns; 0 where the reason is not a matter of parts. note: the same as a sentence, without text of
    any work.
    """

    work_id: str
    reason: str
    of: str | None
    part_ppm: int
    note: str


@dataclass(frozen=True, slots=True)
class Match:
    """One stretch of the output owed to one work, with the stretch of the work that shows it.

    score: probability that the credit is right, rounded to 1e-4 so that the last bit of a float never
    decides.
    """

    work_id: str
    kind: Kind
    start: int
    end: int
    work_start: int
    work_end: int
    score: float


@dataclass(frozen=True, slots=True)
class Share:
    """One work's part of the output, with its evidence in output order."""

    work_id: str
    ppm: int
    matches: tuple[Match, ...]


@dataclass(frozen=True, slots=True)
class Attribution:
    """An output's shares, largest first, ties by work id; with `unattributed_ppm` they sum to 1,000,000."""

    shares: tuple[Share, ...]
    unattributed_ppm: int
    words: int
    method: str

    def __post_init__(self) -> None:
        """A set of shares that does not sum cannot exist."""
        if self.unattributed_ppm + sum(share.ppm for share in self.shares) != PPM:
            raise ValueError("shares and unattributed_ppm do not sum to 1,000,000")

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
Kind = Literal["verbatim", "restated"]


@dataclass(frozen=True, slots=True)
class SourceWork:
    """A registered text, as the index takes it. `registered_us` decides who was first.

    reviewed: a person has looked at it, so that it may earn whatever the rules of quarantine say.
    """

    work_id: str
    text: str
    registered_us: int = 0
    creator_id: str = ""
    reviewed: bool = False


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

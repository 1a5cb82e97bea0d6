"""Whose works an answer drew on, as values that the relay can decide with.

An answer may have several choices; each was attributed by itself, and its evidence keeps the choice it stands
in. The answer's shares weigh each choice by its words. Shares are integers in ppm that sum to 1,000,000 with
`unattributed_ppm`, or the value cannot exist. Pure: the exchange, a state machine without IO, imports this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

PPM = 1_000_000


class Evidence(msgspec.Struct, frozen=True, array_like=True):
    """One stretch of one choice's text owed to a work, and the stretch of the work that shows it.

    kind: "verbatim", "restated", "grounded" or "cited". start, end: code points of the choice's text,
    half-open; work_start and
    work_end likewise in the work's text. score: probability that the credit is right, rounded to 1e-4.
    """

    kind: str
    choice: int
    start: int
    end: int
    score: float
    work_start: int
    work_end: int


class Copied(msgspec.Struct, frozen=True, array_like=True):
    """Words of one choice that are a work's, word for word: `words` of them within [start, end) of its text.

    crossed: for each of the guard's limits, the code point at which so many words were reached; -1: never.
    """

    work: str
    choice: int
    words: int
    start: int
    end: int
    crossed: tuple[int, ...]


class ScoredWork(msgspec.Struct, frozen=True, array_like=True):
    """One work's part of an answer. `work` is the public id, `ppm` at least 1; evidence in output order."""

    work: str
    ppm: int
    evidence: tuple[Evidence, ...] = ()


class Scored(msgspec.Struct, frozen=True, tag="scored", kw_only=True):
    """An answer's shares: works largest first, ties by work id.

    words: over all texts that were scored. truncated: the answer was longer than `[attribution]
    text_bytes_max`, and only that much of it was scored. copied: what the guard must know of.
    """

    unattributed_ppm: int
    works: tuple[ScoredWork, ...] = ()
    method: str = ""
    words: int = 0
    truncated: bool = False
    copied: tuple[Copied, ...] = ()

    def __post_init__(self) -> None:
        """Refuse shares that do not sum, are not positive or name a work twice."""
        total = self.unattributed_ppm + sum(work.ppm for work in self.works)
        if total != PPM or self.unattributed_ppm < 0 or any(work.ppm < 1 for work in self.works):
            raise ValueError(f"shares sum to {total} ppm, not {PPM}, or one is not positive")
        if len({work.work for work in self.works}) != len(self.works):
            raise ValueError("a work is credited twice")


class Failed(msgspec.Struct, frozen=True, tag="failed", kw_only=True):
    """This answer could not be scored and is not tried again: it settles fully unattributed, for `reason`."""

    reason: str = "not_attributed"
    detail: str = ""


class ChoiceShares(msgspec.Struct, frozen=True):
    """One choice's own result: `ppm` by work, summing to 1,000,000 with `unattributed_ppm`."""

    choice: int
    words: int
    unattributed_ppm: int
    ppm: Mapping[str, int]
    evidence: Mapping[str, tuple[Evidence, ...]]


def combine(
    choices: Sequence[ChoiceShares],
    *,
    method: str,
    truncated: bool = False,
    copied: tuple[Copied, ...] = (),
) -> Scored:
    """Return the answer's shares: each choice weighs as much as it has words, so one without weighs nothing.

    Largest remainders: every share is floored and the missing ppm go to the largest remainders, ties by work
    id, unattributed last, so that they sum to exactly 1,000,000. A work that comes to nothing is left out.
    """
    words = sum(choice.words for choice in choices)
    if words == 0:
        return Scored(unattributed_ppm=PPM, method=method, truncated=truncated)
    weights: dict[str, int] = {}
    for choice in choices:
        for work, ppm in choice.ppm.items():
            weights[work] = weights.get(work, 0) + ppm * choice.words
    # Each choice's shares sum to PPM, so all weights with the unattributed one sum to PPM * words.
    unattributed = PPM * words - sum(weights.values())
    ppm_by_work = {work: weight // words for work, weight in weights.items()}
    unattributed_ppm = unattributed // words
    missing = PPM - unattributed_ppm - sum(ppm_by_work.values())
    remainders = [(-(weight % words), 0, work) for work, weight in weights.items()]
    remainders.append((-(unattributed % words), 1, ""))
    for _, is_unattributed, work in sorted(remainders)[:missing]:
        if is_unattributed:
            unattributed_ppm += 1
        else:
            ppm_by_work[work] += 1
    works = [
        ScoredWork(work, ppm, tuple(piece for choice in choices for piece in choice.evidence.get(work, ())))
        for work, ppm in sorted(ppm_by_work.items(), key=lambda item: (-item[1], item[0]))
        if ppm > 0
    ]
    return Scored(
        unattributed_ppm=unattributed_ppm,
        works=tuple(works),
        method=method,
        words=words,
        truncated=truncated,
        copied=copied,
    )

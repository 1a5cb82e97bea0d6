"""Word-for-word runs: which stretches of an output stand in the catalogue, and whose they are.

Greedy, longest first. Where several works hold the same run the earliest registrant owns it: later copies,
whole
or in part, earn nothing from it. A short run that three or more creators hold is a saying or a stock phrase,
and nobody's. A gap of a few words between two runs of one work in step is a small edit, and part of the run.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attribution.index import Index
from attribution.lexical import GRAM_WORDS, Run, diagonals, grams
from attribution.replication import NOT_QUARANTINED

RUN_WORDS_MIN = 6
GAP_WORDS_MAX = 4
RUNS_MAX = 4_000  # looked at for one output, longest first: an answer copied whole has a few dozen
CLAIMS_MAX = 400
SHARED_CREATORS = 3
SHARED_WORDS_MAX = 40  # longer than any saying: the same page held by three is a page with copies
COVER = 0.8  # of a run that another holder must have for it to be a holder of that run


@dataclass(frozen=True, slots=True)
class Claim:
    """Output words [start, end) found at `place` of the catalogue's words, in `work`."""

    start: int
    end: int
    place: int
    work: int
    creators: int
    copies: int
    quarantined: bool = False

    @property
    def is_common(self) -> bool:
        """Whether the run is nobody's: short and held by many, a commons', or of held works only."""
        return self.quarantined or (
            self.creators >= SHARED_CREATORS and self.end - self.start <= SHARED_WORDS_MAX
        )


def claims(index: Index, hashes: NDArray[np.uint64]) -> list[Claim]:
    """Return the output's runs in output order, none overlapping."""
    positions, places = index.holders(grams(hashes))
    found = diagonals(positions, places, GRAM_WORDS)
    found.sort(key=lambda run: (run.start - run.end, run.place))
    joined = _joined(found[:RUNS_MAX], index)
    free: list[tuple[int, Run]] = []
    held: list[tuple[int, Run]] = []
    for work, run in joined:
        if run.end - run.start >= RUN_WORDS_MIN:
            (free if index.work_reason[work] == NOT_QUARANTINED else held).append((work, run))
    taken: list[Claim] = []
    while (free or held) and len(taken) < CLAIMS_MAX:
        # What held works hold comes last, and is nobody's: a page of a patchwork is longer than the runs of
        # those it is made of, and must not swallow them.
        _, longest = min(free or held, key=lambda pair: (pair[1].start - pair[1].end, pair[0], pair[1].place))
        earning = [(work, run) for work, run in free if _covers(run, longest)]
        holders = [*earning, *((work, run) for work, run in held if _covers(run, longest))]
        work, run = min(earning or holders, key=lambda pair: (pair[0], pair[1].place))
        start, end = max(run.start, longest.start), min(run.end, longest.end)
        works = {holder for holder, _ in holders}
        creators = len({int(index.work_creator[holder]) for holder in works})
        nobodys = not earning or bool(index.work_commons[work])
        place = run.place + start - run.start
        taken.append(Claim(start, end, place, work, creators, len(works), nobodys))
        free, held = _left(free, start, end), _left(held, start, end)
    return sorted(taken, key=lambda claim: claim.start)


def _covers(run: Run, other: Run) -> bool:
    return min(run.end, other.end) - max(run.start, other.start) >= COVER * (other.end - other.start)


def _joined(runs: list[Run], index: Index) -> list[tuple[int, Run]]:
    """Join runs of one work that follow each other in step, over gaps of a few words."""
    works: list[int] = index.work_at(np.array([run.place for run in runs], np.int64)).tolist()
    result: list[tuple[int, Run]] = []
    for work, run in sorted(
        zip(works, runs, strict=True), key=lambda pair: (pair[0], pair[1].start, pair[1].place)
    ):
        if result and result[-1][0] == work:
            last = result[-1][1]
            gap, step = run.start - last.end, run.place - (last.place + last.end - last.start)
            if (
                gap <= GAP_WORDS_MAX
                and -GRAM_WORDS <= step <= GAP_WORDS_MAX
                and run.end > last.end
                and gap > -GRAM_WORDS
            ):
                result[-1] = (work, Run(last.start, run.end, last.place))
                continue
        result.append((work, run))
    return result


def _left(runs: list[tuple[int, Run]], start: int, end: int) -> list[tuple[int, Run]]:
    return [(owner, rest) for owner, run in runs for rest in _without(run, start, end)]


def _without(run: Run, start: int, end: int) -> list[Run]:
    if run.end <= start or run.start >= end:
        return [run]
    parts = [Run(run.start, start, run.place), Run(end, run.end, run.place + end - run.start)]
    return [part for part in parts if part.end - part.start >= RUN_WORDS_MIN]

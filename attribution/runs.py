"""Word-for-word runs: which stretches of an output stand in the catalogue, and whose they are.

Greedy, longest first. Where several works hold the same run the earliest registrant owns it: later copies,
whole or in part, earn nothing from it. A short run that three or more creators hold is a saying or a stock
phrase, and nobody's; who holds the words around it too holds a copy of the page, and does not count as one
more. A gap of a few words between two runs of one work in step is a small edit, and part of
the run.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attribution.index import Index
from attribution.lexical import GRAM_WORDS, HOLDERS_MAX, I64, Run, diagonals, distinct, grams
from attribution.replication import NOT_QUARANTINED

RUN_WORDS_MIN = 6
GAP_WORDS_MAX = 4
RUNS_MAX = 4_000  # looked at for one output, longest first: an answer copied whole has a few dozen
CLAIMS_MAX = 400
SHARED_CREATORS = 3
SHARED_WORDS_MAX = 40  # longer than any saying: the same page held by three is a page with copies
AROUND_WORDS, AROUND_WORDS_MIN = 20, 8  # on either side of a run; with fewer in all nothing can be told
AROUND_SAME = (
    0.3  # of them: the same page, words changed or not; texts that share a saying have .03 by chance
)
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


def claims(
    index: Index, hashes: NDArray[np.uint64], known: tuple[int, I64, I64] | None = None
) -> list[Claim]:
    """Return the output's runs in output order, none overlapping.

    known: how many of its fingerprints were looked up before, and what `index.holders` said of them.
    """
    count, positions, places = known or (0, np.zeros(0, np.int64), np.zeros(0, np.int64))
    fresh, there = index.holders(grams(hashes[count:]))
    positions, places = np.append(positions, fresh + count), np.append(places, there)
    joined = _joined(diagonals(positions, places, GRAM_WORDS, RUNS_MAX), index)
    long = [(work, run) for work, run in joined if run.end - run.start >= RUN_WORDS_MIN]
    work, start, end, place = (
        np.array([(work, run.start, run.end, run.place) for work, run in long], np.int64).reshape(-1, 4).T
    )
    left = _Left(work, start, end, place, index.work_reason[work] != NOT_QUARANTINED)
    taken: list[Claim] = []
    while len(left.work) and len(taken) < CLAIMS_MAX:
        claim = left.longest(index)
        taken.append(claim)
        left = left.without(claim.start, claim.end)
    return sorted(taken, key=lambda claim: claim.start)


@dataclass(frozen=True, slots=True)
class _Left:
    """The runs nobody has claimed yet, one row each: four thousand are looked through in microseconds."""

    work: I64
    start: I64
    end: I64
    place: I64
    held: NDArray[np.bool_]

    def longest(self, index: Index) -> Claim:
        """Return the longest run as its owner's."""
        # What held works hold comes last, and is nobody's: a page of a patchwork is longer than the runs of
        # those it is made of, and must not swallow them.
        pool = np.flatnonzero(~self.held) if not self.held.all() else np.arange(len(self.held))
        length = (self.end - self.start)[pool]
        first = self._first(pool[length == length.max()])
        low, high = int(self.start[first]), int(self.end[first])
        shared = np.minimum(self.end, high) - np.maximum(self.start, low)
        holders = np.flatnonzero(shared >= COVER * (high - low))
        earning = holders[~self.held[holders]]
        owner = self._first(earning if len(earning) else holders)
        start, end = max(int(self.start[owner]), low), min(int(self.end[owner]), high)
        works = distinct(self.work[holders])
        work = int(self.work[owner])
        return Claim(
            start=start,
            end=end,
            place=int(self.place[owner]) + start - int(self.start[owner]),
            work=work,
            creators=self._creators(index, holders, works, end - start),
            copies=len(works),
            quarantined=not len(earning) or bool(index.work_commons[work]),
        )

    def _creators(self, index: Index, holders: I64, works: I64, length: int) -> int:
        """Count the creators who hold the run each in a text of their own."""
        found = len(distinct(index.work_creator[works]))
        if found < SHARED_CREATORS or length > SHARED_WORDS_MAX:
            return found  # what is counted closely decides nothing
        rows = holders[np.lexsort((self.place[holders], self.work[holders]))][:HOLDERS_MAX]
        return creators_apart(index, self.work[rows], self.place[rows], self.start[rows], self.end[rows])

    def _first(self, rows: I64) -> int:
        return int(rows[np.lexsort((self.place[rows], self.work[rows]))[0]])

    def without(self, start: int, end: int) -> _Left:
        """Return what is left beside output words [start, end)."""
        before, after = np.minimum(self.end, start), np.maximum(self.start, end)
        untouched = (self.end <= start) | (self.start >= end)
        ahead = np.flatnonzero(untouched | (before - self.start >= RUN_WORDS_MIN))
        behind = np.flatnonzero(~untouched & (self.end - after >= RUN_WORDS_MIN))
        rows = np.concatenate([ahead, behind])
        ends = np.where(untouched, self.end, before)[ahead]
        return _Left(
            self.work[rows],
            np.concatenate([self.start[ahead], after[behind]]),
            np.concatenate([ends, self.end[behind]]),
            np.concatenate([self.place[ahead], (self.place + after - self.start)[behind]]),
            self.held[rows],
        )


def creators_apart(index: Index, work: I64, place: I64, start: I64, end: I64) -> int:
    """Count the creators of holders of one run, each in a text of its own: copies of a page are one.

    One row a holder, in order of precedence: the output words [start, end) stand at `place` of its work.
    """
    # A holder may hold more than the run or less: all are read around the same output words.
    low, high = place - (start - start.min()), place + (end.max() - start)
    steps = np.arange(AROUND_WORDS)
    at = np.concatenate([low[:, None] - 1 - steps, high[:, None] + steps], axis=1)
    inside = (at >= index.work_token[work][:, None]) & (at < index.work_token[work + 1][:, None])
    word = np.where(inside, index.token_word[np.where(inside, at, 0)], -1)
    same = np.count_nonzero((word[:, None] == word[None]) & inside[:, None], axis=2)
    both = np.count_nonzero(inside[:, None] & inside[None], axis=2)
    is_copy = (both >= AROUND_WORDS_MIN) & (same >= AROUND_SAME * both)
    own: list[int] = []
    for row in range(len(work)):
        if not is_copy[row, own].any():
            own.append(row)
    return len(distinct(index.work_creator[work[own]]))


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

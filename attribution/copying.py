"""How much of a registered work an output has repeated word for word, while it is still being written.

A guard must speak before the answer ends, so nothing waits for sentences or models: each completed word is
looked up with the four before it, and runs grow as they go on. What counts for a work are the words of all
its runs of RUN_WORDS_MIN or more, together, so that a long passage with a word changed here and there is
still a long passage. A word that several works hold counts for the earliest registered, as everywhere; text
that is the commons' counts for nobody.

The result for the same text is the same however it is cut, but for the words that are not complete yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attribution.grounding import MIN_WORDS as RUN_WORDS_MIN
from attribution.grounding import completed
from attribution.index import Index
from attribution.lexical import GRAM_WORDS, grams
from attribution.normalise import words
from attribution.replication import NOT_QUARANTINED

WORDS_MAX = 100_000  # of one output; longer than any answer, and what is beyond is not looked at
OPEN_MAX = 512  # runs that may still go on; a phrase of five words stands in fewer works


@dataclass(frozen=True, slots=True)
class Copied:
    """`words` words of the output are this work's; they lie within code points [start, end) of it.

    crossed: for each limit that was asked about, where in the output so many words were reached, or -1 when
    there are no more than that.
    """

    work_id: str
    words: int
    start: int
    end: int
    crossed: tuple[int, ...]


class Copying:
    """One output as it arrives."""

    def __init__(self, index: Index | None) -> None:
        self._index = index
        self._kept = ""
        self._given = 0  # code points that were completed
        self._hashes = np.zeros(0, np.uint64)
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._owner: NDArray[np.int64] = np.zeros(0, np.int64)
        self._open: dict[int, tuple[int, int]] = {}  # place - position -> first word, one behind the last

    def push(self, text: str) -> bool:
        """Take more of the output; say whether more of it is known to be copied than before."""
        whole, self._kept = completed(self._kept + text)
        return self._take(whole)

    def finish(self) -> bool:
        """Take the last word too."""
        rest, self._kept = self._kept, ""
        return self._take(rest)

    def found(self, limits: Sequence[int]) -> tuple[Copied, ...]:
        """Return the works of which more words stand in the output than the least limit, most words first."""
        index = self._index
        if index is None or not len(self._owner) or not limits:
            return ()
        nobody = len(index.work_ids)
        owned, count = np.unique(self._owner, return_counts=True)
        result: list[Copied] = []
        numbers: list[int] = owned.tolist()
        for work, total in zip(numbers, count.tolist(), strict=True):
            if work != nobody and not index.work_commons[work] and total > min(limits):
                at: list[int] = np.flatnonzero(self._owner == work).tolist()
                crossed = tuple(self._ends[at[max(one, 1) - 1]] if total > one else -1 for one in limits)
                start, end = self._starts[at[0]], self._ends[at[-1]]
                result.append(Copied(index.work_ids[work], total, start, end, crossed))
        return tuple(sorted(result, key=lambda one: (-one.words, one.work_id)))

    def _take(self, text: str) -> bool:
        base, self._given = self._given, self._given + len(text)
        if self._index is None or not self._index.work_ids or len(self._hashes) >= WORDS_MAX or not text:
            return False
        found = words(text)
        self._starts += (found.starts + base).tolist()
        self._ends += (found.ends + base).tolist()
        first = max(len(self._hashes) - GRAM_WORDS + 1, 0)
        self._hashes = np.append(self._hashes, found.hashes)
        nobody = np.full(len(found.hashes), len(self._index.work_ids), np.int64)
        self._owner = np.append(self._owner, nobody)
        return self._grow(self._index, first)

    def _grow(self, index: Index, first: int) -> bool:
        at, places = index.holders(grams(self._hashes[first:]))
        works = index.work_at(places)
        kept = index.work_reason[works] == NOT_QUARANTINED
        is_more = False
        by_position: dict[int, list[tuple[int, int]]] = {}
        for position, place, work in zip(
            (at[kept] + first).tolist(), places[kept].tolist(), works[kept].tolist(), strict=True
        ):
            by_position.setdefault(position, []).append((place, work))
        for position, holders in sorted(by_position.items()):
            going_on: dict[int, tuple[int, int]] = {}
            for place, work in holders[:OPEN_MAX]:
                start, end = self._open.get(place - position, (position, 0))
                if end != position + GRAM_WORDS - 1:
                    start = position  # it had stopped in between
                going_on[place - position] = (start, position + GRAM_WORDS)
                if position + GRAM_WORDS - start >= RUN_WORDS_MIN:
                    own = self._owner[start : position + GRAM_WORDS]
                    is_more = is_more or bool((own > work).any())
                    np.minimum(own, work, out=own)
            self._open = going_on
        return is_more

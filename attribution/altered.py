"""Passages that are an earlier passage with words changed: what fingerprints alone no longer show.

Who swaps three words in ten breaks nearly all runs of a text and keeps its order. So every fingerprint that
an earlier work holds too is taken as a hint where to lay the passage beside that work, and the words that
then stand at the same places are counted. With four in ten of them the same, the passage has nothing of its
own to be found by: it is kept out of the word index like a copy, whatever is thought of its work as a whole.
Rivals of that kind, nine to a work, would otherwise take a sixth of what their originals are owed.

The cost grows with the fingerprints that stand in two works; passages are laid out some thousands at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attribution.lexical import I64, ranges

SAME_PART = 0.4  # of a passage's words, at the same places of one earlier work
SAME_WORDS_MIN = 20  # a stock phrase is half of a short line, and nobody's
SHORT_WORDS_MAX = 30  # what ends a work is short, and goes with the passage before it
HINTS_MAX = 8  # of one passage and one earlier work: every word put in or left out asks for one more
SPREADS = 2  # how far a passage without hints is laid out as its neighbours are
PASSAGES_AT_ONCE = 8_192  # some tens of megabytes


def altered(arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.bool_]:
    """Return which passages (passages,) are an earlier work's with words changed.

    arrays: of an index being built; `_source` is, for the fingerprint that begins at each word, its first
    place in the catalogue where that is in an earlier work, else -1.
    """
    bounds: I64 = arrays["sentence_token"][arrays["passage_sentence"]]
    count = len(bounds) - 1
    found = np.zeros(count, bool)
    if count < 1:
        return found
    step = np.zeros(count, np.int64)  # of each passage found: how far back its words stand
    source = arrays["_source"]
    for at in range(0, count, PASSAGES_AT_ONCE):
        end = min(at + PASSAGES_AT_ONCE, count)
        low, high = int(bounds[at]), int(bounds[end])
        place = np.flatnonzero(source[low:high] >= 0) + low
        if len(place):
            _lay_out(arrays, bounds, place, source[place].astype(np.int64), found, step)
    owner, words = arrays["passage_work"], np.diff(bounds)
    for _ in range(SPREADS):
        for ahead in (1, -1):
            known = np.flatnonzero(found)
            known = known[(known + ahead >= 0) & (known + ahead < count)]
            other = known + ahead
            fresh = ~found[other] & (owner[other] == owner[known])
            known, other = known[fresh], other[fresh]
            same = _same(arrays, bounds, other, step[known], np.arange(len(other)), len(other))
            good = (same >= SAME_PART * words[other]) | (words[other] <= SHORT_WORDS_MAX)
            found[other[good]], step[other[good]] = True, step[known[good]]
    return found


def _lay_out(
    arrays: Mapping[str, NDArray[Any]],
    bounds: I64,
    place: I64,
    source: I64,
    found: NDArray[np.bool_],
    step: I64,
) -> None:
    """Judge the passages in which these places lie, each beside the works where its fingerprints stand."""
    passage = np.searchsorted(bounds, place, "right") - 1
    work = np.searchsorted(arrays["work_token"], source, "right") - 1
    back = place - source
    # What holds of a passage is tried on those beside it, whose own fingerprints may all be broken.
    owner = arrays["passage_work"]
    sides = [(passage, work, back)]
    for ahead in (1, -1):
        beside = np.clip(passage + ahead, 0, len(owner) - 1)
        same = (owner[beside] == owner[passage]) & (beside != passage)
        sides.append((beside[same], work[same], back[same]))
    passage, work, back = (np.concatenate(column) for column in zip(*sides, strict=True))
    order = np.lexsort((back, work, passage))
    passage, work, back = passage[order], work[order], back[order]
    fresh = np.append(True, (np.diff(passage) != 0) | (np.diff(work) != 0) | (np.diff(back) != 0))
    hints = np.diff(np.append(np.flatnonzero(fresh), len(fresh)))
    passage, work, back = passage[fresh], work[fresh], back[fresh]
    # The hints of one passage and one work, those with most fingerprints first.
    order = np.lexsort((back, -hints, work, passage))
    passage, work, back = passage[order], work[order], back[order]
    first = np.append(True, (np.diff(passage) != 0) | (np.diff(work) != 0))
    group = np.cumsum(first) - 1
    rank = np.arange(len(group)) - np.flatnonzero(first)[group]
    kept = rank < HINTS_MAX
    passage, back, group = passage[kept], back[kept], group[kept]
    start = np.flatnonzero(np.append(True, np.diff(group) != 0))
    same = _same(arrays, bounds, passage, back, group, int(group[-1]) + 1)
    whose, best_back = passage[start], back[start]
    enough = (same >= SAME_PART * np.diff(bounds)[whose]) & (same >= SAME_WORDS_MIN)
    found[whose[enough]], step[whose[enough]] = True, best_back[enough]


def _same(
    arrays: Mapping[str, NDArray[Any]], bounds: I64, passage: I64, back: I64, group: I64, groups: int
) -> NDArray[np.int64]:
    """Return for each group of layings-out how many words of its passage stand so far back, in any of them.

    Layings-out of a group are of one passage; words of the passage's own work do not count.
    """
    word, work_token = arrays["token_word"], arrays["work_token"]
    own = work_token[arrays["passage_work"][passage]]  # where the passage's own work begins
    place, row = ranges(bounds[passage], bounds[passage + 1])
    other = place - back[row]
    inside = np.flatnonzero((other >= 0) & (other < own[row]))
    place, other, row = place[inside], other[inside], row[inside]
    hit = np.flatnonzero(word[place] == word[other])
    keys = group[row[hit]] * (int(np.diff(bounds).max()) + 1) + place[hit] - bounds[passage][row[hit]]
    cells = np.unique(keys) // (int(np.diff(bounds).max()) + 1)
    return np.bincount(cells, minlength=groups)

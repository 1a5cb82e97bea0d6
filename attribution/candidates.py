"""Which works a piece of output is held against: few enough to look at closely, and rarely without the right
one.

For each piece: the works of its best BM25 passages, the owner of its run, and works that are strong
elsewhere in the same output (an answer that draws on a work in one sentence often does in the next, in words
of its own). Each pair is one passage of the work and a sentence on either side.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from attribution.features import F32, OutputWords, Pairs, Piece
from attribution.index import QUERIES_AT_ONCE, Index, Ranked
from attribution.lexical import I64, distinct, ranges

PASSAGES_MAX = 20  # asked of BM25, so that after taking one passage a work about WORKS_MAX works remain
WORKS_MAX = 8
ELSEWHERE_MAX = 4  # an answer draws on two to four works, seldom on more
NEAR_PASSAGES_MAX = 8  # of a strong work, the strongest: where else in it a piece is looked for, two on
NEAR_PASSAGES = 2  # either side; a chapter copied whole would ask for every passage it has
QUERY_WORDS_MAX = 60  # distinct, the rarest: a chapter copied whole needs no longer query

Ask = Callable[[Sequence[I64]], list[Ranked]]


def query(output: OutputWords, start: int, end: int) -> tuple[I64, F32]:
    """Return the distinct known words of output words [start, end), rarest first, and their idf."""
    return queries(output, [(start, end)])[0]


def queries(output: OutputWords, spans: Sequence[tuple[int, int]]) -> list[tuple[I64, F32]]:
    """Return for each [start, end) its distinct known words, rarest first, and their idf."""
    bounds = np.array(spans, np.int64).reshape(-1, 2)
    at, owner = ranges(bounds[:, 0], bounds[:, 1])
    known = output.ids[at] >= 0
    at, owner = at[known], owner[known]
    ids, idf = output.ids[at], output.idf[at]
    order = np.lexsort((ids, -idf, owner))
    ids, idf, owner = ids[order], idf[order], owner[order]
    fresh = np.flatnonzero(np.append(True, (np.diff(ids) != 0) | (np.diff(owner) != 0))[: len(ids)])
    ids, idf = ids[fresh], idf[fresh]
    cuts: list[int] = np.searchsorted(owner[fresh], np.arange(len(bounds) + 1)).tolist()
    ends = (min(high, low + QUERY_WORDS_MAX) for low, high in itertools.pairwise(cuts))
    return [(ids[low:high], idf[low:high]) for low, high in zip(cuts, ends, strict=False)]


def own_passages(index: Index, passages: I64) -> dict[int, int]:
    """Return work -> passage of a sentence's best passages, best first: one a work, of WORKS_MAX works."""
    mine: dict[int, int] = {}
    for work, passage in zip(index.passage_work[passages].tolist(), passages.tolist(), strict=True):
        if work not in mine and len(mine) < WORKS_MAX:
            mine[work] = passage
    return mine


def candidates(
    index: Index,
    output: OutputWords,
    pieces: list[Piece],
    ask: Ask,
    known: Mapping[int, Sequence[int]] | None = None,
) -> Pairs:
    """Return the pairs to look at, pieces in order. ask: BM25 over passages, remembered by the caller.

    known: works that every piece is held against whatever BM25 says, and passages of theirs to begin with.
    """
    open_ = [number for number, piece in enumerate(pieces) if piece.claim is None]
    asked = dict(
        zip(
            open_,
            queries(output, [(pieces[number].start, pieces[number].end) for number in open_]),
            strict=True,
        )
    )
    ranked = dict(zip(open_, ask([terms for terms, _ in asked.values()]), strict=True))
    found: list[dict[int, int]] = []  # per piece: work -> passage
    strength: dict[int, float] = {}
    places: dict[int, dict[int, float]] = {}  # work -> passage -> strength there
    for number, piece in enumerate(pieces):
        mine: dict[int, int] = {}
        words = piece.end - piece.start
        if piece.claim is not None:
            sentence = int(index.sentence_at(np.array([piece.claim.place]))[0])
            passage = int(np.searchsorted(index.passage_sentence, sentence, "right")) - 1
            weights = [(piece.claim.work, passage, float(words))]
        else:
            passages, sums = ranked[number]
            bound = 2.2 * float(asked[number][1].sum()) or 1.0
            gains = words * np.maximum(sums / bound - 0.2, 0.0)
            weights = list(
                zip(index.passage_work[passages].tolist(), passages.tolist(), gains.tolist(), strict=True)
            )
        for work, passage, weight in weights:
            if work not in mine and len(mine) < WORKS_MAX:
                mine[work] = passage
                strength[work] = strength.get(work, 0.0) + weight
                there = places.setdefault(work, {})
                there[passage] = there.get(passage, 0.0) + weight
        found.append(mine)
    strong = sorted(strength, key=lambda work: (-round(strength[work], 4), work))[:ELSEWHERE_MAX]
    for work, passages in (known or {}).items():
        there = places.setdefault(work, {})
        for passage in passages:
            there.setdefault(passage, 0.0)
        if work not in strong:
            strong.append(work)
    near = [_near(index, work, places[work]) for work in strong]
    for at in range(0, len(open_), QUERIES_AT_ONCE):
        some = open_[at : at + QUERIES_AT_ONCE]
        _add_nearest(
            index, [asked[number][0] for number in some], [found[number] for number in some], strong, near
        )
    return pairs_of(index, found)


def _near(index: Index, work: int, known: dict[int, float]) -> I64:
    """Return the passages of this work at or beside those where it is strong already."""
    low, high = int(index.work_passage[work]), int(index.work_passage[work + 1])
    best = sorted(known, key=lambda passage: (-round(known[passage], 4), passage))[:NEAR_PASSAGES_MAX]
    around = np.add.outer(np.array(best, np.int64), np.arange(-NEAR_PASSAGES, NEAR_PASSAGES + 1))
    return distinct(np.clip(around.ravel(), low, high - 1))


def _add_nearest(
    index: Index, queries: list[I64], found: list[dict[int, int]], works: list[int], near: list[I64]
) -> None:
    """Give each piece the passage of every strong work that suits it best; copies suit nobody."""
    if not works:
        return
    passages = np.concatenate(near)
    terms = distinct(np.concatenate(queries))
    asked = np.zeros((len(queries), len(terms)), np.float32)
    for row, own in zip(asked, queries, strict=True):
        row[np.searchsorted(terms, own)] = 1
    sums = index.passage_sums(terms, asked, passages) * index.passage_listed[passages].astype(np.float32)
    low = 0
    for work, own in zip(works, near, strict=True):
        best = own[np.argmax(sums[:, low : low + len(own)], axis=1)]
        for mine, passage in zip(found, best.tolist(), strict=True):
            mine.setdefault(work, passage)
        low += len(own)


def pairs_of(index: Index, found: list[dict[int, int]]) -> Pairs:
    """Return the pairs of each piece's works and passages, pieces in order."""
    piece = np.repeat(np.arange(len(found), dtype=np.int64), [len(mine) for mine in found])
    work = np.array([work for mine in found for work in mine], np.int64)
    passage = np.array([passage for mine in found for passage in mine.values()], np.int64)
    if not len(piece):
        return Pairs(piece, work, passage, work, work)
    low = np.maximum(index.passage_sentence[passage] - 1, index.work_sentence[work])
    high = np.minimum(index.passage_sentence[passage + 1] + 1, index.work_sentence[work + 1])
    return Pairs(piece, work, passage, low, high)

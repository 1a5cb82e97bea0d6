"""Which works a piece of output is held against: few enough to look at closely, and rarely without the right
one.

For each piece: the works of its best BM25 passages, the owner of its run, and works that are strong
elsewhere in
the same output (an answer that draws on a work in one sentence often does in the next, in words of its own).
Each pair is one passage of the work and a sentence on either side.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from attribution.features import OutputWords, Pairs, Piece
from attribution.index import Index
from attribution.lexical import I64

PASSAGES_MAX = 14  # asked of BM25, so that after taking one passage a work about WORKS_MAX works remain
WORKS_MAX = 6
ELSEWHERE_MAX = 4  # an answer draws on two to four works, seldom on more
QUERY_WORDS_MAX = 60  # distinct, the rarest: a chapter copied whole needs no longer query

Ranked = tuple[I64, np.ndarray[tuple[int], np.dtype[np.float32]]]
Ask = Callable[[I64, np.ndarray[tuple[int], np.dtype[np.float32]]], Ranked]


def query(output: OutputWords, piece: Piece) -> tuple[I64, np.ndarray[tuple[int], np.dtype[np.float32]]]:
    """Return the piece's distinct known words, rarest first, and their idf."""
    ids, first = np.unique(output.ids[piece.start : piece.end], return_index=True)
    idf = output.idf[piece.start : piece.end][first]
    kept = np.flatnonzero(ids >= 0)
    kept = kept[np.lexsort((ids[kept], -idf[kept]))][:QUERY_WORDS_MAX]
    return ids[kept], idf[kept]


def candidates(index: Index, output: OutputWords, pieces: list[Piece], ask: Ask) -> Pairs:
    """Return the pairs to look at, pieces in order. ask: BM25 over passages, remembered by the caller."""
    found: list[dict[int, int]] = []  # per piece: work -> passage
    strength: dict[int, float] = {}
    places: dict[int, set[int]] = {}
    for piece in pieces:
        mine: dict[int, int] = {}
        if piece.claim is not None:
            sentence = int(index.sentence_at(np.array([piece.claim.place]))[0])
            passage = int(np.searchsorted(index.passage_sentence, sentence, "right")) - 1
            mine[piece.claim.work] = passage
            strength[piece.claim.work] = strength.get(piece.claim.work, 0.0) + (piece.end - piece.start)
        else:
            terms, idf = query(output, piece)
            bound = 2.2 * float(idf.sum()) or 1.0
            for passage, total in zip(*ask(terms, idf), strict=True):
                work = int(index.passage_work[passage])
                if work not in mine and len(mine) < WORKS_MAX:
                    mine[work] = int(passage)
                    weight = (piece.end - piece.start) * max(float(total) / bound - 0.2, 0.0)
                    strength[work] = strength.get(work, 0.0) + weight
        for work, passage in mine.items():
            places.setdefault(work, set()).add(passage)
        found.append(mine)
    strong = sorted(strength, key=lambda work: (-round(strength[work], 4), work))[:ELSEWHERE_MAX]
    for piece, mine in zip(pieces, found, strict=True):
        for work in strong:
            if work not in mine and piece.claim is None:
                mine[work] = _nearest(index, output, piece, work, places[work])
    return _pairs(index, found)


def _nearest(index: Index, output: OutputWords, piece: Piece, work: int, known: set[int]) -> int:
    """Return the passage of this work, at or beside one that is already strong, that suits the piece best."""
    low, high = int(index.work_passage[work]), int(index.work_passage[work + 1])
    around = {near for passage in known for near in range(passage - 2, passage + 3) if low <= near < high}
    passages = np.array(sorted(around), np.int64)
    terms, _ = query(output, piece)
    return int(passages[np.argmax(index.passage_sums(terms, passages))])


def _pairs(index: Index, found: list[dict[int, int]]) -> Pairs:
    piece = np.repeat(np.arange(len(found), dtype=np.int64), [len(mine) for mine in found])
    work = np.array([work for mine in found for work in mine], np.int64)
    passage = np.array([passage for mine in found for passage in mine.values()], np.int64)
    if not len(piece):
        return Pairs(piece, work, passage, work, work)
    low = np.maximum(index.passage_sentence[passage] - 1, index.work_sentence[work])
    high = np.minimum(index.passage_sentence[passage + 1] + 1, index.work_sentence[work + 1])
    return Pairs(piece, work, passage, low, high)

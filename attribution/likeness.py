"""What sentence vectors say about a pair: the part of the evidence that costs the most, asked for last.

Words in common decide most pieces. A vector of the encoder is made only for those that they leave open; the
columns in COSINES of every other pair stay 0, and no model that sees such a pair reads them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from attribution.features import COSINES, F32, FEATURES, Described, Pairs, against_others, argmax_by
from attribution.index import Index
from attribution.lexical import I64, named, ranges

_COLUMN: I64 = np.array([FEATURES.index(name) for name in COSINES], np.int64)
SHOWN_MARGIN = 0.1  # a sentence that shares fewer words must be this much liker to be the one that is shown


def compare(
    index: Index, pairs: Pairs, described: Described, vectors: F32, chosen: NDArray[np.bool_]
) -> Described:
    """Return the description with COSINES filled in for the pairs of the chosen pieces.

    vectors: unit rows (chosen pieces, dim), in the order of the pieces; chosen: (pieces,).
    """
    at = np.flatnonzero(chosen[pairs.piece])
    if not len(at):
        return described
    column = (np.cumsum(chosen) - 1)[pairs.piece[at]]
    inst, owner = ranges(pairs.low[at], pairs.high[at])
    base: I64 = np.append(0, np.cumsum(pairs.high[at] - pairs.low[at])).astype(np.int64)
    first = base[:-1]
    sentences, _, place = named(inst)
    cosine = index.vectors.cosines(sentences, vectors)[place, column[owner]]
    best = argmax_by(cosine, base, owner)
    without = cosine.copy()
    without[best] = -1
    own, lexical = cosine[best], described.sentence[at]
    by_words = cosine[first + lexical - pairs.low[at]]
    margin, others = against_others(own, column)
    mean = np.bincount(owner, cosine, minlength=len(at)) / np.diff(base)
    found = (own, np.maximum.reduceat(without, first), mean, by_words, margin, others)
    rows, sentence = described.rows.copy(), described.sentence.copy()
    rows[at[:, None], _COLUMN] = np.round(np.stack(found, axis=1), 4)
    sentence[at] = np.where(own > by_words + SHOWN_MARGIN, inst[best], lexical)
    return Described(rows, sentence)

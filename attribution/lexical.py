"""Words in common: fingerprints for what was copied, an inverted index for what was reworded.

Fingerprints: every five words in a row of every work have a 64-bit hash, in one sorted array that is mapped
into memory and asked by bisection. Hits on one diagonal (the same distance between output and work) are a
run.

Inverted index: BM25 over passages of about 80 words, term weights computed at build time, so that a query
adds numbers. Work per query is bounded: rare terms first, and no more than POSTINGS_MAX numbers. The
SHORTLIST_MAX best are then counted exactly, from the passages' own words.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]
GRAM_WORDS = 5
HOLDERS_MAX = 48  # places looked at per fingerprint, earliest registered first; a phrase in more is nobody's
POSTINGS_MAX = 8_000  # numbers added for one segment: a tenth of a millisecond; more finds no more
SHORTLIST_MAX = 32  # passages of a segment whose own words are counted
BM25_K1, BM25_B = 1.2, 0.6
_MIX = np.uint64(0x9E3779B97F4A7C15)


def grams(hashes: NDArray[np.uint64], width: int = GRAM_WORDS) -> NDArray[np.uint64]:
    """Return the fingerprints of each `width` words in a row: uint64 (n - width + 1,)."""
    count = len(hashes) - width + 1
    if count <= 0:
        return np.zeros(0, np.uint64)
    mixed = np.zeros(count, np.uint64)
    for place in range(width):
        mixed = (mixed ^ hashes[place : place + count]) * _MIX
        mixed ^= mixed >> np.uint64(29)
    return mixed


def ranges(starts: I64, ends: I64) -> tuple[I64, I64]:
    """Return the flat members of [start, end) for each row, and the row of each."""
    lengths = np.maximum(ends - starts, 0)
    owner = np.repeat(np.arange(len(starts), dtype=np.int64), lengths)
    first = np.repeat(np.cumsum(lengths) - lengths, lengths)
    return np.arange(len(owner), dtype=np.int64) - first + starts[owner], owner


@dataclass(frozen=True, slots=True)
class Run:
    """The same words in the output and in a work: word indices, half-open; `place` counts works' words."""

    start: int
    end: int
    place: int


def diagonals(positions: I64, places: I64, width: int, most: int | None = None) -> list[Run]:
    """Return the maximal runs of `width`-grams at these positions and places, the longest (`most`) first.

    positions: in the output; places: in the catalogue, one for each. Ties by the earlier place.
    """
    if not len(positions):
        return []
    order = np.lexsort((positions, places - positions))
    at, place = positions[order], places[order]
    breaks = np.flatnonzero((np.diff(place - at) != 0) | (np.diff(at) != 1)) + 1
    firsts = np.concatenate(([0], breaks))
    lasts = np.concatenate((breaks, [len(at)])) - 1
    starts, ends, where = at[firsts], at[lasts] + width, place[firsts]
    chosen = np.lexsort((where, starts - ends))[:most]
    return [
        Run(start, end, first)
        for start, end, first in zip(
            starts[chosen].tolist(), ends[chosen].tolist(), where[chosen].tolist(), strict=True
        )
    ]


def bm25_impacts(
    tf: NDArray[np.float32], lengths: NDArray[np.float32], idf: NDArray[np.float32], mean: float = 0.0
) -> NDArray[np.float32]:
    """Return each posting's part of a BM25 sum; never more than idf * (k1 + 1).

    mean: words of the catalogue's mean passage; these postings' own without it.
    """
    mean = mean or (float(lengths.mean()) if len(lengths) else 1.0)
    damped = tf + BM25_K1 * (1 - BM25_B + BM25_B * lengths / max(mean, 1.0))
    return (idf * tf * (BM25_K1 + 1) / damped).astype(np.float32)


def distinct(values: I64) -> I64:
    """Return the distinct values in order; np.unique hashes first, which is slower for what we have."""
    ordered = np.sort(values)
    return ordered[np.append(True, ordered[1:] != ordered[:-1])] if len(ordered) else ordered


def named(values: I64) -> tuple[I64, I64, I64]:
    """Return the distinct values in order, where each stands first, and each value's place among them."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    fresh = np.ones(len(values), bool)
    np.not_equal(ordered[1:], ordered[:-1], out=fresh[1:])
    place = np.empty(len(values), np.int64)
    place[order] = np.cumsum(fresh) - 1
    return ordered[fresh], order[fresh], place

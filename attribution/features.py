"""What can be said about a piece of output beside a stretch of a work: one row of numbers per pair.

Everything is counted for all pairs at once in numpy; a loop in Python over pairs costs more than the encoder.
Nothing here knows a work's length, date, id or creator: those tell where a text came from, not what it says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attribution.index import Index
from attribution.lexical import I64, grams, ranges
from attribution.runs import Claim

F32 = NDArray[np.float32]
RARE_IDF, VERY_RARE_IDF = 5.5, 7.5
PIECE_WORDS_MAX = 200  # looked at of one piece: a run can be a whole chapter, and its first page decides
FEATURES = (
    "words", "idf_sum", "idf_mean", "stop_part",
    "contained", "contained_window", "contained_sentence", "sentence_covered",
    "bm25", "bigrams", "bigrams_idf", "trigrams", "fourgrams", "longest_run", "longest_run_part",
    "shared_rare", "missing_rare", "shared_very_rare", "missing_very_rare", "rarest_shared", "rarest_missing",
    "numbers_shared", "numbers_missing", "names_shared", "names_missing", "content_shared",
    "cosine", "cosine_second", "cosine_mean", "cosine_lexical",
    "contained_margin", "cosine_margin", "bm25_margin", "contained_others", "cosine_others",
    "run_words", "run_idf",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Piece:
    """Output words [start, end) judged as one: a run, or what of a sentence no run took."""

    start: int
    end: int
    segment: int
    claim: Claim | None


@dataclass(frozen=True, slots=True)
class OutputWords:
    """The output's words as the index knows them, one entry a word."""

    ids: I64
    idf: F32
    is_number: NDArray[np.bool_]
    is_name: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pieces beside works: each pair is a piece number, a work and sentences [low, high) of that work."""

    piece: I64
    work: I64
    passage: I64
    low: I64
    high: I64


@dataclass(frozen=True, slots=True)
class Described:
    """Feature rows (pairs, len(FEATURES)), and for each pair the sentence that shows it best."""

    rows: F32
    sentence: I64


def describe(index: Index, output: OutputWords, pieces: list[Piece], vectors: F32, pairs: Pairs) -> Described:  # noqa: PLR0915  one table, read from top to bottom
    """Return the features of every pair. vectors: one unit row a piece."""
    count = len(pairs.piece)
    if not count:
        return Described(np.zeros((0, len(FEATURES)), np.float32), np.zeros(0, np.int64))
    vocabulary = max(len(index.vocab_hash), 1)
    starts = np.array([piece.start for piece in pieces], np.int64)
    ends = np.minimum(np.array([piece.end for piece in pieces], np.int64), starts + PIECE_WORDS_MAX)
    at, owner = ranges(starts, ends)
    ids, idf = output.ids[at], output.idf[at]

    # Distinct words of each piece.
    keys = owner * (2 * vocabulary + len(output.ids) + 2) + ids + len(output.ids) + 1
    _, first, term_of = np.unique(keys, return_index=True, return_inverse=True)
    term_piece, term_id, term_idf = owner[first], ids[first], idf[first]
    number = np.zeros(len(first), np.float32)
    name = np.zeros(len(first), np.float32)
    np.maximum.at(number, term_of, output.is_number[at].astype(np.float32))
    np.maximum.at(name, term_of, output.is_name[at].astype(np.float32))
    kinds = {
        "all": term_idf,
        "rare": (term_idf >= RARE_IDF).astype(np.float32),
        "very": (term_idf >= VERY_RARE_IDF).astype(np.float32),
        "number": number,
        "name": name,
        "content": (term_idf >= 2.5).astype(np.float32),
    }
    totals = {kind: np.bincount(term_piece, weight, minlength=len(pieces)) for kind, weight in kinds.items()}
    idf_sum = np.maximum(totals["all"], 1e-6)

    # The words of each pair's stretch, and which of the piece's words they are.
    word_low, word_high = index.sentence_token[pairs.low], index.sentence_token[pairs.high]
    place, pair = ranges(word_low, word_high)
    there = index.token_word[place].astype(np.int64)
    sentence = index.sentence_at(place)
    base: I64 = np.append(0, np.cumsum(pairs.high - pairs.low)).astype(np.int64)
    inst = base[pair] + sentence - pairs.low[pair]
    inst_pair: I64 = np.repeat(np.arange(count), pairs.high - pairs.low)
    term_key = term_piece * vocabulary + term_id
    known = np.flatnonzero(term_id >= 0)
    order = known[np.argsort(term_key[known], kind="stable")]
    sorted_keys = term_key[order]
    wanted = pairs.piece[pair] * vocabulary + there
    if len(sorted_keys):
        spot = np.minimum(np.searchsorted(sorted_keys, wanted), len(sorted_keys) - 1)
        hit = np.flatnonzero(sorted_keys[spot] == wanted)
        term = order[spot[hit]]
    else:
        hit, term = np.zeros(0, np.int64), np.zeros(0, np.int64)
    terms = len(first)
    seen = np.unique(pair[hit] * terms + term)
    shared = {
        kind: np.bincount(seen // terms, weight[seen % terms], minlength=count)
        for kind, weight in kinds.items()
    }
    mine = pairs.piece
    in_sentence = np.unique(inst[hit] * terms + term)
    sentence_sum = np.bincount(in_sentence // terms, term_idf[in_sentence % terms], minlength=base[-1])
    spread = np.concatenate([inst[hit] + step for step in (-1, 0, 1)])
    who = np.tile(pair[hit], 3)
    valid = (spread >= base[who]) & (spread < base[who + 1])
    in_window = np.unique(spread[valid] * terms + np.tile(term, 3)[valid])
    window_sum = np.bincount(in_window // terms, term_idf[in_window % terms], minlength=base[-1])
    best_lexical = _argmax_by(sentence_sum + 0.1 * window_sum, base)
    there_idf = index.vocab_idf[there] if len(there) else np.zeros(0, np.float32)
    inst_total = np.maximum(np.bincount(inst, there_idf, minlength=base[-1]), 1e-6)
    inst_hit = np.bincount(inst[hit], there_idf[hit], minlength=base[-1])

    # Vectors.
    within = np.arange(int(base[-1]), dtype=np.int64) - base[inst_pair]
    inst_sentence: I64 = within + pairs.low[inst_pair]
    cosine = index.vectors.cosines(inst_sentence, vectors, mine[inst_pair])
    best_cosine = _argmax_by(cosine, base)
    lengths = np.maximum(np.diff(base), 1)
    without = cosine.copy()
    without[best_cosine] = -1
    second = without[_argmax_by(without, base)]

    rarest_shared = np.zeros(count)
    np.maximum.at(rarest_shared, seen // terms, term_idf[seen % terms])
    pair_terms, pair_of = ranges(
        np.searchsorted(term_piece, mine, "left"), np.searchsorted(term_piece, mine, "right")
    )
    absent = ~np.isin(pair_of * terms + pair_terms, seen, assume_unique=True)
    rarest_missing = np.zeros(count)
    np.maximum.at(rarest_missing, pair_of[absent], term_idf[pair_terms[absent]])

    overlap = {
        width: _gram_overlap(width, ids, idf, owner, there, pair, place, mine, len(pieces), count)
        for width in (2, 3, 4)
    }
    bm25_bound = np.bincount(term_piece, np.maximum(term_idf, 0) * 2.2, minlength=len(pieces))
    sums = np.zeros(count, np.float32)
    for number_of in np.unique(mine):
        rows = np.flatnonzero(mine == number_of)
        chosen = term_id[term_piece == number_of]
        sums[rows] = index.passage_sums(chosen[chosen >= 0], pairs.passage[rows])
    bm25 = sums / np.maximum(bm25_bound[mine], 1e-6)
    contained_window = window_sum[_argmax_by(window_sum, base)] / idf_sum[mine]
    own_cosine = cosine[best_cosine]
    words_of = np.bincount(owner, minlength=len(pieces)).astype(np.float32)
    stop = np.bincount(owner, idf < 1.5, minlength=len(pieces)) / np.maximum(words_of, 1)
    run = [piece.claim for piece in pieces]
    run_words = np.array([claim.end - claim.start if claim else 0 for claim in run], np.float32)
    run_idf = np.where(
        run_words > 0, np.bincount(owner, idf, minlength=len(pieces)) / np.maximum(words_of, 1), 0
    )
    contained_margin, contained_others = _against_others(contained_window, mine)
    cosine_margin, cosine_others = _against_others(own_cosine, mine)
    bm25_margin, _ = _against_others(bm25, mine)
    columns = {
        "words": np.log1p(words_of)[mine], "idf_sum": np.log1p(idf_sum)[mine],
        "idf_mean": (np.bincount(owner, idf, minlength=len(pieces)) / np.maximum(words_of, 1))[mine],
        "stop_part": stop[mine],
        "contained": shared["all"] / idf_sum[mine], "contained_window": contained_window,
        "contained_sentence": sentence_sum[_argmax_by(sentence_sum, base)] / idf_sum[mine],
        "sentence_covered": (inst_hit / inst_total)[best_lexical],
        "bm25": bm25, "bigrams": overlap[2][0], "bigrams_idf": overlap[2][1], "trigrams": overlap[3][0],
        "fourgrams": overlap[4][0], "longest_run": overlap[2][2],
        "longest_run_part": overlap[2][2] / np.maximum(words_of[mine], 1),
        "shared_rare": shared["rare"], "missing_rare": totals["rare"][mine] - shared["rare"],
        "shared_very_rare": shared["very"], "missing_very_rare": totals["very"][mine] - shared["very"],
        "rarest_shared": rarest_shared, "rarest_missing": rarest_missing,
        "numbers_shared": shared["number"], "numbers_missing": totals["number"][mine] - shared["number"],
        "names_shared": shared["name"], "names_missing": totals["name"][mine] - shared["name"],
        "content_shared": shared["content"],
        "cosine": own_cosine, "cosine_second": second,
        "cosine_mean": np.bincount(inst_pair, cosine, minlength=count) / lengths,
        "cosine_lexical": cosine[best_lexical],
        "contained_margin": contained_margin, "cosine_margin": cosine_margin, "bm25_margin": bm25_margin,
        "contained_others": contained_others, "cosine_others": cosine_others,
        "run_words": np.log1p(run_words)[mine], "run_idf": run_idf[mine],
    }  # fmt: skip
    rows = np.stack([np.asarray(columns[name_], np.float64) for name_ in FEATURES], axis=1)
    shown = np.where(own_cosine > cosine[best_lexical] + 0.1, best_cosine, best_lexical)
    return Described(np.round(rows, 4).astype(np.float32), inst_sentence[shown])


def _argmax_by(values: NDArray[Any], base: I64) -> I64:
    """Return the place of the largest value, first of equals, in each stretch [base[i], base[i + 1])."""
    owner = np.repeat(np.arange(len(base) - 1), np.diff(base))
    order = np.lexsort((np.arange(len(values)), -values, owner))
    return order[base[:-1]]


def _against_others(value: NDArray[Any], piece: I64) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return each pair's margin over its piece's best other work, and the others' mean (0 without any)."""
    if not len(piece):
        return np.zeros(0), np.zeros(0)
    count = np.bincount(piece)
    total = np.bincount(piece, value)
    order = np.lexsort((-value, piece))
    first = np.searchsorted(piece[order], np.arange(len(count)))
    first = np.minimum(first, len(order) - 1)
    best = value[order[first]]
    next_ = np.minimum(first + 1, len(order) - 1)
    second = np.where(count > 1, value[order[next_]], 0)
    is_best = np.zeros(len(piece), bool)
    is_best[order[first[count > 0]]] = True
    rival = np.where(is_best, second[piece], best[piece])
    others = np.where(count[piece] > 1, (total[piece] - value) / np.maximum(count[piece] - 1, 1), 0)
    return np.asarray(value - rival, np.float64), np.asarray(others, np.float64)


def _gram_overlap(
    width: int,
    ids: I64,
    idf: F32,
    owner: I64,
    there: I64,
    pair: I64,
    place: I64,
    mine: I64,
    pieces: int,
    count: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return, per pair: part of the piece's n-grams shared, the same by idf, and the longest shared run."""
    nothing = np.zeros(count)
    if len(ids) < width or len(there) < width:
        return nothing, nothing, nothing
    last = len(ids) - width + 1
    whole = owner[:last] == owner[width - 1 :]
    salt = np.uint64(0x632BE59BD9B4E019)
    key = grams(ids.astype(np.uint64), width) ^ (owner[:last].astype(np.uint64) * salt)
    weight = np.add.reduce([idf[step : step + last] for step in range(width)])
    at = np.flatnonzero(whole)
    distinct, first = np.unique(key[at], return_index=True)
    first = at[first]
    total = np.bincount(owner[first], minlength=pieces)
    total_idf = np.bincount(owner[first], weight[first], minlength=pieces)
    end = len(there) - width + 1
    inside = pair[:end] == pair[width - 1 :]
    sought = grams(there.astype(np.uint64), width) ^ (mine[pair[:end]].astype(np.uint64) * salt)
    if not len(distinct):
        return nothing, nothing, nothing
    spot = np.minimum(np.searchsorted(distinct, sought), len(distinct) - 1)
    hit = np.flatnonzero((distinct[spot] == sought) & inside)
    both = np.unique(pair[hit] * len(distinct) + spot[hit])
    held, what = both // len(distinct), both % len(distinct)
    part = np.bincount(held, minlength=count) / np.maximum(total[mine], 1)
    part_idf = np.bincount(held, weight[first[what]], minlength=count) / np.maximum(total_idf[mine], 1e-6)
    run = np.zeros(count)
    if len(hit):
        position, where, whose = first[spot[hit]], place[hit], pair[hit]
        order = np.lexsort((where, where - position, whose))
        position, where, whose = position[order], where[order], whose[order]
        fresh = np.append(
            True, (np.diff(whose) != 0) | (np.diff(where - position) != 0) | (np.diff(where) != 1)
        )
        start = np.flatnonzero(fresh)
        length = np.diff(np.append(start, len(fresh)))
        np.maximum.at(run, whose[start], length + width - 1)
    return part, part_idf, run

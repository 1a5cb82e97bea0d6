"""What can be said about a piece of output beside a stretch of a work: one row of numbers per pair.

Everything is counted for all pieces at once: the distinct words of the pieces are the columns of a few
small matrices, whose rows are pieces, catalogue sentences or passages, and what a pair shares is a product of
two of them. A stretch that several pieces are held against is read once. Rarity is taken in steps of 2^-10,
so that sums are exact in whatever order a kernel adds.

Nothing here knows a work's length, date, id or creator: those tell where a text came from, not what it says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attribution.exact import in_steps, product
from attribution.index import Index
from attribution.lexical import I64, named, ranges
from attribution.runs import Claim

F32 = NDArray[np.float32]
RARE_IDF, VERY_RARE_IDF = 5.5, 7.5
STOP_IDF, CONTENT_IDF = 1.5, 2.5
KINDS = ("all", "rare", "very", "number", "name", "content")
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
# Of sentence vectors: 0 until attribution/likeness.py fills them in. In its order.
COSINES = ("cosine", "cosine_second", "cosine_mean", "cosine_lexical", "cosine_margin", "cosine_others")
MARGINS = ("contained_margin", "bm25_margin", "contained_others")  # of a pair beside its piece's other pairs
_PLACE = {name: place for place, name in enumerate(FEATURES)}
_MARGINS = [_PLACE[name] for name in MARGINS]


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
    """Pieces beside works: each pair is a piece number, a work and sentences [low, high) of that work.

    The sentences follow from the passage: one before it to one after it, within the work.
    """

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


@dataclass(frozen=True, slots=True)
class Alone:
    """What can be said of each pair whatever else its piece is held against: all but MARGINS, left 0.

    compared: float64 (pairs, 2), unrounded: what MARGINS are made from.
    """

    rows: F32
    sentence: I64
    compared: NDArray[np.float64]

    @staticmethod
    def of(parts: Sequence[Alone]) -> Alone:
        """Put descriptions one after the other."""
        if len(parts) == 1:
            return parts[0]
        if not parts:
            none = np.zeros((0, len(FEATURES)), np.float32)
            return Alone(none, np.zeros(0, np.int64), np.zeros((0, 2), np.float64))
        return Alone(
            np.concatenate([part.rows for part in parts]),
            np.concatenate([part.sentence for part in parts]),
            np.concatenate([part.compared for part in parts]),
        )

    def taken(self, places: I64) -> Alone:
        """Return the pairs at these places, in that order."""
        return Alone(self.rows[places], self.sentence[places], self.compared[places])

    def beside(self, piece: I64) -> Described:
        """Return the whole description; piece: of each pair, all pairs of a piece together."""
        if not len(piece):
            return Described(self.rows, self.sentence)
        rows = self.rows.copy()
        contained, others = against_others(self.compared[:, 0], piece)
        bm25, _ = against_others(self.compared[:, 1], piece)
        rows[:, _MARGINS] = np.round(np.stack([contained, bm25, others], axis=1), 4)
        return Described(rows, self.sentence)


def describe(index: Index, output: OutputWords, pieces: list[Piece], pairs: Pairs) -> Described:
    """Return the features of every pair, COSINES left 0."""
    return describe_alone(index, output, pieces, pairs).beside(pairs.piece)


def describe_alone(index: Index, output: OutputWords, pieces: list[Piece], pairs: Pairs) -> Alone:
    """Return the features of every pair that its piece and its stretch of a work decide between them."""
    if not len(pairs.piece):
        return Alone.of([])
    asked = _Asked.of(output, pieces)
    there = _There.read(index, asked, pairs)
    mine, of = pairs.piece, there.of

    # Each pair's sentences: rows of `there`, from base[pair] on.
    inst, inst_pair = ranges(there.base[of], there.base[of + 1])
    inst_piece = mine[inst_pair]
    base: I64 = np.append(0, np.cumsum(there.base[of + 1] - there.base[of])).astype(np.int64)
    first = base[:-1]
    sentence_sum = product(there.sentences, asked.by_idf)[inst, inst_piece]
    window_sum = product(there.windows, asked.by_idf)[inst, inst_piece]
    inst_hit = product(there.counts, asked.inside * there.term_idf)[inst, inst_piece]
    best_lexical = argmax_by(sentence_sum + np.float32(0.125) * window_sum, base, inst_pair)

    shared = product(there.wholes, asked.kinds).reshape(len(there.wholes), len(KINDS), -1)[of, :, mine]
    missing = asked.totals[:, mine].T - shared
    kind = {name: place for place, name in enumerate(KINDS)}
    whole, wanted = there.wholes[of], asked.by_idf[mine]
    grams = {width: there.grams(asked, width)[:, of, mine] for width in (2, 3, 4)}
    longest = there.longest_runs(asked, mine)
    idf_sum = np.maximum(asked.totals[0], 1e-6)
    words_of = np.maximum(asked.words, 1)
    bm25 = product(there.impacts, asked.inside)[of, mine] / np.maximum(2.2 * asked.totals[0], 1e-6)[mine]
    contained_window = np.maximum.reduceat(window_sum, first) / idf_sum[mine]
    run_words = np.array([one.claim.end - one.claim.start if one.claim else 0 for one in pieces], np.float32)
    columns = {
        "words": np.log1p(asked.words)[mine], "idf_sum": np.log1p(idf_sum)[mine],
        "idf_mean": asked.idf_mean[mine], "stop_part": asked.stop_part[mine],
        "contained": shared[:, kind["all"]] / idf_sum[mine], "contained_window": contained_window,
        "contained_sentence": np.maximum.reduceat(sentence_sum, first) / idf_sum[mine],
        "sentence_covered": (inst_hit / np.maximum(there.totals[inst], 1e-6))[best_lexical],
        "bm25": bm25, "bigrams": grams[2][0], "bigrams_idf": grams[2][1], "trigrams": grams[3][0],
        "fourgrams": grams[4][0], "longest_run": longest, "longest_run_part": longest / words_of[mine],
        "shared_rare": shared[:, kind["rare"]], "missing_rare": missing[:, kind["rare"]],
        "shared_very_rare": shared[:, kind["very"]], "missing_very_rare": missing[:, kind["very"]],
        "rarest_shared": (whole * wanted).max(axis=1), "rarest_missing": ((1 - whole) * wanted).max(axis=1),
        "numbers_shared": shared[:, kind["number"]], "numbers_missing": missing[:, kind["number"]],
        "names_shared": shared[:, kind["name"]], "names_missing": missing[:, kind["name"]],
        "content_shared": shared[:, kind["content"]],
        "run_words": np.log1p(run_words)[mine],
        "run_idf": np.where(run_words > 0, asked.idf_mean, 0)[mine],
    }  # fmt: skip
    rows = np.zeros((len(mine), len(FEATURES)), np.float64)
    for name, values in columns.items():
        rows[:, _PLACE[name]] = values
    compared = np.stack([contained_window, bm25], axis=1).astype(np.float64)
    return Alone(np.round(rows, 4).astype(np.float32), there.sentence[inst[best_lexical]], compared)


@dataclass(frozen=True, slots=True)
class _Asked:
    """The pieces' words as columns: 0 or 1, float32 (pieces, terms), and the same times rarity."""

    terms: I64  # distinct word ids, those the catalogue does not know (negative) first
    inside: F32
    by_idf: F32
    kinds: F32  # (kinds * pieces, terms): what each word of a piece weighs in KINDS
    totals: NDArray[np.float64]  # (kinds, pieces)
    words: I64
    idf_mean: NDArray[np.float64]
    stop_part: NDArray[np.float64]
    grams: dict[int, _Grams]

    @staticmethod
    def of(output: OutputWords, pieces: list[Piece]) -> _Asked:
        """Lay out the first PIECE_WORDS_MAX words of each piece."""
        count = len(pieces)
        starts = np.array([piece.start for piece in pieces], np.int64)
        ends = np.minimum(np.array([piece.end for piece in pieces], np.int64), starts + PIECE_WORDS_MAX)
        at, owner = ranges(starts, ends)
        idf = in_steps(output.idf[at])
        terms, first, column = named(output.ids[at])
        term_idf = idf[first]
        cell = owner * len(terms) + column
        inside = np.zeros((count, len(terms)), np.float32)
        number, name = np.zeros_like(inside), np.zeros_like(inside)
        inside.reshape(-1)[cell] = 1
        number.reshape(-1)[cell[output.is_number[at]]] = 1
        name.reshape(-1)[cell[output.is_name[at]]] = 1
        by_idf = inside * term_idf
        kinds = np.concatenate([
            by_idf, inside * (term_idf >= RARE_IDF), inside * (term_idf >= VERY_RARE_IDF), number, name,
            inside * (term_idf >= CONTENT_IDF),
        ])  # fmt: skip
        totals = kinds.sum(axis=1, dtype=np.float64).reshape(len(KINDS), count)
        words_of = ends - starts
        each = np.maximum(words_of, 1)
        return _Asked(
            terms, inside, by_idf, kinds, totals, words_of,
            np.bincount(owner, idf, minlength=count) / each,
            np.bincount(owner, idf < STOP_IDF, minlength=count) / each,
            _Grams.all(column, owner, idf, count),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Grams:
    """The distinct n-grams of the pieces as columns.

    A key is the (n-1)-gram at a place times `step`, plus the one at the next place.
    """

    keys: I64
    step: int
    inside: F32  # (pieces, grams)
    weights: F32  # the same times the sum of the words' idf
    first: NDArray[np.int32]  # (pieces, grams of two): where in the pieces' words it stands first, or -1

    @staticmethod
    def all(column: I64, owner: I64, idf: F32, pieces: int) -> dict[int, _Grams]:
        """Return those of two, three and four words."""
        result: dict[int, _Grams] = {}
        names, step = column, int(column.max(initial=0)) + 1
        for width in (2, 3, 4):
            last = max(len(owner) - width + 1, 0)
            at = np.flatnonzero(owner[:last] == owner[width - 1 :])
            keys, _, number = named(names[at] * step + names[at + 1])
            inside = np.zeros((pieces, len(keys)), np.float32)
            inside[owner[at], number] = 1
            weight = np.zeros(len(keys), np.float32)
            weight[number] = np.add.reduce([idf[at + ahead] for ahead in range(width)])
            first = np.full((pieces, len(keys) if width == 2 else 0), -1, np.int32)
            if width == 2:
                cells, earliest, _ = named(owner[at] * len(keys) + number)
                first.reshape(-1)[cells] = at[earliest]
            result[width] = _Grams(keys, step, inside, inside * weight, first)
            names = np.zeros(last, np.int64)
            names[at] = number
            step = len(keys) + 1
        return result


@dataclass(frozen=True, slots=True)
class _There:
    """The distinct stretches of the pairs, read once: what of the pieces' words stands in them, and where."""

    of: I64  # pair -> stretch
    base: I64  # stretch -> its first row of sentences
    sentence: I64
    term_idf: F32  # (terms,) 0 for words the catalogue does not know
    counts: F32  # (sentences, terms)
    sentences: F32  # the same, 0 or 1
    windows: F32  # a sentence and its neighbours in the stretch
    wholes: F32  # (stretches, terms) 0 or 1
    impacts: F32  # (stretches, terms) of the passage alone; 0 for a later copy, which no word leads to
    totals: NDArray[np.float64]  # (sentences,) idf of all its words
    hits: dict[int, tuple[I64, I64, I64]]  # width -> stretch, place, gram of each gram that is also a piece's

    @staticmethod
    def read(index: Index, asked: _Asked, pairs: Pairs) -> _There:
        """Read the pairs' stretches."""
        passage, first, of = named(pairs.passage)
        low, high = pairs.low[first], pairs.high[first]
        sentence, stretch = ranges(low, high)
        base: I64 = np.append(0, np.cumsum(high - low)).astype(np.int64)
        place, row = ranges(index.sentence_token[sentence], index.sentence_token[sentence + 1])
        word = index.token_word[place]
        unknown = int(np.searchsorted(asked.terms, 0))
        column = index.column_of(asked.terms[unknown:], word).astype(np.int64)
        column[column >= 0] += unknown
        hit = np.flatnonzero(column >= 0)
        terms = len(asked.terms)
        counts = _counted(row[hit], column[hit], (len(sentence), terms))
        sentences = np.minimum(counts, np.float32(1))
        windows = sentences.copy()
        together = (stretch[1:] == stretch[:-1]).astype(np.float32)[:, None]
        np.maximum(windows[1:], sentences[:-1] * together, out=windows[1:])
        np.maximum(windows[:-1], sentences[1:] * together, out=windows[:-1])
        own = (sentence >= index.passage_sentence[passage][stretch]) & (
            sentence < index.passage_sentence[passage + 1][stretch]
        )
        ours = hit[own[row[hit]]]
        in_passage = _counted(stretch[row[ours]], column[ours], (len(passage), terms))
        wholes = np.minimum(_counted(stretch[row[hit]], column[hit], (len(passage), terms)), np.float32(1))
        words_ = index.sentence_token[index.passage_sentence[passage + 1]]
        words_ = words_ - index.sentence_token[index.passage_sentence[passage]]
        impacts = np.zeros_like(in_passage)
        listed = np.flatnonzero(index.passage_listed[passage])
        impacts[listed, unknown:] = index.impacts(
            in_passage[listed, unknown:], asked.terms[unknown:], words_[listed]
        )
        term_idf = np.zeros(terms, np.float32)
        term_idf[unknown:] = in_steps(index.vocab_idf[asked.terms[unknown:]])
        totals = np.bincount(row, in_steps(index.vocab_idf[word]), minlength=len(sentence)).astype(np.float64)
        return _There(
            of, base, sentence, term_idf, counts, sentences, windows,
            wholes, impacts, totals,
            _hits(asked.grams, column, stretch[row]),
        )  # fmt: skip

    def grams(self, asked: _Asked, width: int) -> NDArray[np.float32]:
        """Return the part of each piece's n-grams that each stretch shares, and the same by idf."""
        stretch, _, gram = self.hits[width]
        known = asked.grams[width]
        held = np.zeros((len(self.wholes), len(known.keys)), np.float32)
        held[stretch, gram] = 1
        part = product(held, known.inside) / np.maximum(known.inside.sum(axis=1), 1)
        by_idf = product(held, known.weights) / np.maximum(known.weights.sum(axis=1), 1e-6)
        return np.stack([part, by_idf])

    def longest_runs(self, asked: _Asked, mine: I64) -> NDArray[np.float32]:
        """Return, for each pair, the words of the longest run that the stretch shares with the piece."""
        stretch, place, gram = self.hits[2]
        low = np.searchsorted(stretch, self.of, "left").astype(np.int64)
        high = np.searchsorted(stretch, self.of, "right").astype(np.int64)
        at, whose = ranges(low, high)
        position = asked.grams[2].first[mine[whose], gram[at]]
        both = np.flatnonzero(position >= 0)
        run = np.zeros(len(mine), np.float32)
        if len(both):
            position, where, whose = position[both].astype(np.int64), place[at[both]], whose[both]
            order = np.lexsort((where, where - position, whose))
            position, where, whose = position[order], where[order], whose[order]
            ahead = (np.diff(whose) != 0) | (np.diff(where - position) != 0) | (np.diff(where) != 1)
            start = np.flatnonzero(np.append(True, ahead))
            np.maximum.at(run, whose[start], np.diff(np.append(start, len(where))).astype(np.float32) + 1)
        return run


def _counted(row: I64, column: I64, shape: tuple[int, int]) -> F32:
    """Return how often each cell is named."""
    counts = np.zeros(shape, np.float32)
    np.add.at(counts.reshape(-1), row * shape[1] + column, np.float32(1))
    return counts


def _hits(grams: dict[int, _Grams], column: I64, stretch: I64) -> dict[int, tuple[I64, I64, I64]]:
    """Return where the stretches' words hold an n-gram of the pieces: stretch, place, gram for each width.

    column: each word's column, or -1; stretch: each word's stretch.
    """
    result: dict[int, tuple[I64, I64, I64]] = {}
    names = column
    at = np.flatnonzero((column[:-1] >= 0) & (column[1:] >= 0) & (stretch[:-1] == stretch[1:]))
    for width in (2, 3, 4):
        known = grams[width]
        key = names[at] * known.step + names[at + 1]
        number = np.minimum(np.searchsorted(known.keys, key), max(len(known.keys) - 1, 0))
        found = np.flatnonzero(known.keys[number] == key) if len(known.keys) else np.zeros(0, np.int64)
        at, number = at[found], number[found]
        result[width] = (stretch[at], at, number)
        names = np.zeros(len(column), np.int64)
        names[at] = number
        at = at[:-1][np.diff(at) == 1]  # both halves of a longer one stand there
    return result


def argmax_by(values: NDArray[Any], base: I64, owner: I64) -> I64:
    """Return the place of the largest value, first of equals, in each stretch [base[i], base[i + 1])."""
    places = np.flatnonzero(values == np.maximum.reduceat(values, base[:-1])[owner])
    return places[np.searchsorted(places, base[:-1])]


def against_others(value: NDArray[Any], piece: I64) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return each pair's margin over its piece's best other work, and the others' mean (0 without any).

    piece: of each pair, all pairs of a piece together.
    """
    if not len(piece):
        return np.zeros(0, np.float64), np.zeros(0, np.float64)
    start = np.flatnonzero(np.concatenate(([True], piece[1:] != piece[:-1])))
    base = np.concatenate((start, [len(piece)]))
    count = np.diff(base)
    group = np.repeat(np.arange(len(start)), count)
    best_at = argmax_by(value, base, group)
    best = value[best_at]
    rest = value.copy()
    rest[best_at] = -np.inf
    second = np.where(count > 1, np.maximum.reduceat(rest, start), 0)
    rival = best[group]
    rival[best_at] = second
    total = np.bincount(group, value)
    each = count[group]
    others = np.where(each > 1, (total[group] - value) / np.maximum(each - 1, 1), 0)
    return np.asarray(value - rival, np.float64), np.asarray(others, np.float64)

"""What is known of an output's sentences before the output ends, so that little is left to do when it does.

A sentence that is complete is folded and its fingerprints are looked up. As if the output ended there, it is
then cut around its runs, and what is left of it is described beside the works of its own best passages. The
end of the output decides the rest: which runs there are in the end, and which works are strong elsewhere.
What was found ahead is taken only where it is the same as if looked for at the end: sentences with white
space between them have the words of the whole text, and a description of some words beside a passage
(features.Alone) depends on nothing else.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from attribution.candidates import PASSAGES_MAX, own_passages, pairs_of, queries
from attribution.features import F32, Alone, Described, OutputWords, Pairs, Piece, describe_alone
from attribution.index import Index, Ranked
from attribution.lexical import GRAM_WORDS, I64, grams
from attribution.normalise import Words, words
from attribution.runs import Claim, claims
from attribution.segments import Segment

PIECE_WORDS_MIN = 4  # fewer words beside a run ("I read this:") restate nothing
SEGMENTS_MAX = 2_000  # about 40,000 words, longer than any answer; what follows is counted and not credited
PIECE_CHARS_MAX = 1_200  # the encoder's window is shorter


class Arriving:
    """The sentences so far: words, 16 bytes a known fingerprint, 200 a described pair (8 a sentence)."""

    def __init__(self, index: Index | None) -> None:
        self._index = index if index is not None and index.work_ids else None
        self.sentences: list[Segment] = []
        self._words: list[Words] = []
        self._is_number: list[NDArray[np.bool_]] = []
        self._is_name: list[NDArray[np.bool_]] = []
        self._bounds = [0]  # where each sentence's words begin among all, and where the last one's end
        self._ids: list[I64] = []  # of each sentence's words, as the index knows them
        self._idf: list[F32] = []
        self._is_apart = True  # white space between all sentences, and none left out
        self._last: NDArray[np.uint64] = np.zeros(0, np.uint64)  # the hashes that begin the next fingerprints
        self._held: list[tuple[I64, I64]] = []
        self._ranked: dict[bytes, Ranked] = {}
        self._alone: list[Alone] = []
        self._described: dict[tuple[int, int, int], int] = {}  # [start, end), passage -> row of all of _alone

    def take(self, segments: list[Segment]) -> None:
        """Take complete sentences; look up their words and fingerprints."""
        room = SEGMENTS_MAX - len(self.sentences)
        if len(segments) > room:
            self._is_apart = False
        segments = segments[:room]
        if not segments:
            return
        around = [*self.sentences[-1:], *segments]
        self._is_apart &= all(one.end < after.start for one, after in itertools.pairwise(around))
        fresh = [words(segment.text) for segment in segments]
        self.sentences += segments
        self._words += fresh
        for segment, found in zip(segments, fresh, strict=True):
            self._is_number.append(_numbers(found))
            self._is_name.append(_names(segment.text, found, {0}))
        first, at = self._bounds[-1] - len(self._last), len(self._bounds) - 1
        for found in fresh:
            self._bounds.append(self._bounds[-1] + len(found.hashes))
        hashes = np.concatenate([self._last, *(found.hashes for found in fresh)])
        ahead = len(self._last)
        self._last = hashes[-(GRAM_WORDS - 1) :]
        if self._index is None:
            return
        positions, places = self._index.holders(grams(hashes))
        self._held.append((positions + first, places))
        ids, idf = self._index.word_ids(hashes[ahead:])
        for low, high in itertools.pairwise(self._bounds[at:]):
            self._ids.append(ids[low - self._bounds[at] : high - self._bounds[at]])
            self._idf.append(idf[low - self._bounds[at] : high - self._bounds[at]])

    def describe(self, first: int) -> tuple[list[str], I64, Described]:
        """Describe what no run takes of the sentences from number `first` on, were this the output's end.

        Returns the pieces' texts, and each pair's piece and description.
        """
        index = self._index
        if index is None or not self._is_apart:
            return [], np.zeros(0, np.int64), Alone.of([]).beside(np.zeros(0, np.int64))
        begin = max(first - 1, 0)  # a run may begin in the sentence before
        base = self._bounds[begin]
        positions, places = (np.concatenate(column) for column in zip(*self._held[-2:], strict=True))
        near = positions >= base
        runs: list[Claim] = []
        if near.any():
            hashes = np.concatenate([found.hashes for found in self._words[begin:]])
            known = (max(len(hashes) - GRAM_WORDS + 1, 0), positions[near] - base, places[near])
            runs = claims(index, hashes, known)
        bounds = [bound - base for bound in self._bounds[begin:]]
        pieces = [one for one in cut(bounds, runs, begin) if one.segment >= first and one.claim is None]
        output = self._output(begin)
        asked = self.ask([terms for terms, _ in queries(output, [(one.start, one.end) for one in pieces])])
        pairs = pairs_of(index, [own_passages(index, passages) for passages, _ in asked])
        alone = describe_alone(index, output, pieces, pairs)
        if len(pairs.piece):
            at = len(self._described)
            self._alone.append(alone)
            self._described.update(zip(_keys(pieces, pairs, base), itertools.count(at)))
        return [self._text(one, base) for one in pieces], pairs.piece, alone.beside(pairs.piece)

    def words(self, text: str) -> Words:
        """Return the words of the whole text, which has ended."""
        if not self._is_apart or not self._words:
            return words(text)
        starts = [found.starts + np.int32(one.start) for found, one in self._each()]
        ends = [found.ends + np.int32(one.start) for found, one in self._each()]
        return Words(
            tuple(itertools.chain.from_iterable(found.texts for found in self._words)),
            np.concatenate([found.hashes for found in self._words]),
            np.concatenate(starts),
            np.concatenate(ends),
        )

    def output(self, text: str, found: Words) -> OutputWords:
        """Return the words of the whole text as the index knows them."""
        assert self._index is not None  # callers ask first
        if self._is_apart and self._words:
            return self._output(0)
        ids, idf = self._index.word_ids(found.hashes)
        first = set(np.searchsorted(found.starts, [one.start for one in self.sentences]).tolist())
        return OutputWords(ids, idf, _numbers(found), _names(text, found, first))

    def held(self) -> tuple[int, I64, I64] | None:
        """Return what `runs.claims` asks for: the fingerprints known, and where they stand."""
        if not self._is_apart or not self._held:
            return None
        positions, places = zip(*self._held, strict=True)
        return max(self._bounds[-1] - GRAM_WORDS + 1, 0), np.concatenate(positions), np.concatenate(places)

    def ask(self, queries: Sequence[I64]) -> list[Ranked]:
        """Return the best passages of each query, remembered."""
        index = self._index
        assert index is not None  # only asked with one
        keys = [terms.tobytes() for terms in queries]
        fresh = {key: terms for key, terms in zip(keys, queries, strict=True) if key not in self._ranked}
        self._ranked.update(zip(fresh, index.best_passages(list(fresh.values()), PASSAGES_MAX), strict=True))
        return [self._ranked[key] for key in keys]

    def known(self, pieces: list[Piece], pairs: Pairs) -> tuple[Alone, I64]:
        """Return the descriptions made ahead, and for each pair its place there, or -1."""
        place = np.full(len(pairs.piece), -1, np.int64)
        if not self._is_apart or not self._described:
            return Alone.of([]), place
        found = [self._described.get(key, -1) for key in _keys(pieces, pairs, 0)]
        return Alone.of(self._alone), np.array(found, np.int64)

    def _each(self) -> zip[tuple[Words, Segment]]:
        return zip(self._words, self.sentences, strict=True)

    def _text(self, piece: Piece, base: int) -> str:
        """Return a whole sentence, or just the piece's words. base: what the piece counts words from."""
        low, high = (base + at - self._bounds[piece.segment] for at in (piece.start, piece.end))
        found, text = self._words[piece.segment], self.sentences[piece.segment].text
        if (low, high) == (0, len(found.starts)):
            return text
        return text[int(found.starts[low]) : int(found.ends[high - 1])][:PIECE_CHARS_MAX]

    def _output(self, first: int) -> OutputWords:
        """Return the words of the sentences from number `first` on."""
        return OutputWords(
            np.concatenate(self._ids[first:]),
            np.concatenate(self._idf[first:]),
            np.concatenate(self._is_number[first:]),
            np.concatenate(self._is_name[first:]),
        )


def cut(bounds: list[int], runs: list[Claim], first: int) -> list[Piece]:
    """Cut sentences around the runs that go through them; pieces in order.

    bounds: where each sentence begins among the words, and the end of the last; first: the number of the
    first one.
    """
    pieces: list[Piece] = []
    for number, (low, high) in enumerate(itertools.pairwise(bounds), first):
        cursor = low
        for run in (run for run in runs if run.start < high and run.end > low):
            if run.start - cursor >= PIECE_WORDS_MIN:
                pieces.append(Piece(cursor, run.start, number, None))
            cursor = max(cursor, run.end)
        if min(cursor, high) < high and high - cursor >= PIECE_WORDS_MIN:
            pieces.append(Piece(cursor, high, number, None))
    owner = np.searchsorted(bounds[:-1], [run.start for run in runs], "right") - 1 + first
    pieces.extend(
        Piece(run.start, run.end, segment, run) for run, segment in zip(runs, owner.tolist(), strict=True)
    )
    return sorted(pieces, key=lambda piece: piece.start)


def _keys(pieces: list[Piece], pairs: Pairs, base: int) -> Iterator[tuple[int, int, int]]:
    """Return each pair's words of the output, counted from -base, and its passage; no words for a run."""
    spans = [(one.start + base, one.end + base) if one.claim is None else (-1, -1) for one in pieces]
    piece: list[int] = pairs.piece.tolist()
    passages: list[int] = pairs.passage.tolist()
    return ((*spans[number], passage) for number, passage in zip(piece, passages, strict=True))


def _numbers(found: Words) -> NDArray[np.bool_]:
    # Most words are letters only, which one call tells.
    return np.array(
        [not word.isalpha() and any(char.isdigit() for char in word) for word in found.texts], bool
    )


def _names(text: str, found: Words, first: set[int]) -> NDArray[np.bool_]:
    """Return which words have a capital that is not a sentence's first."""
    at = enumerate(found.starts.tolist())
    return np.array([text[start].isupper() and place not in first for place, start in at], bool)

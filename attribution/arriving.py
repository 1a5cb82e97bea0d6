"""What is known of an output's sentences before the output ends, so that little is left to do when it does.

A sentence that is complete is folded, its fingerprints and its words are looked up, and it is described
beside the works of its own best passages. The end of the output decides the rest: where runs cut sentences,
and which works are strong elsewhere. What was found ahead is taken only where it is the same as if looked for
at the end: sentences with white space between them have the words of the whole text, and a description of
a whole sentence beside a passage (features.Alone) depends on nothing else.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from attribution.candidates import PASSAGES_MAX, own_passages, pairs_of, queries
from attribution.features import Alone, Described, OutputWords, Pairs, Piece, describe_alone
from attribution.index import Index, Ranked
from attribution.lexical import GRAM_WORDS, I64, grams
from attribution.normalise import Words, words
from attribution.segments import Segment

PIECE_WORDS_MIN = 4  # fewer words beside a run ("I read this:") restate nothing
SEGMENTS_MAX = 2_000  # about 40,000 words, longer than any answer; what follows is counted and not credited
COPIED = 0.5  # of a sentence's fingerprints: so many known ones, and a run will take it


class Arriving:
    """The sentences so far: words, 16 bytes a known fingerprint, 200 a described pair (8 a sentence)."""

    def __init__(self, index: Index | None) -> None:
        self._index = index if index is not None and index.work_ids else None
        self.sentences: list[Segment] = []
        self._words: list[Words] = []
        self._is_number: list[NDArray[np.bool_]] = []
        self._is_name: list[NDArray[np.bool_]] = []
        self._count = 0  # words
        self._is_apart = True  # white space between all sentences, and none left out
        self._last: NDArray[np.uint64] = np.zeros(0, np.uint64)  # the hashes that begin the next fingerprints
        self._held: list[tuple[I64, I64]] = []
        self._ranked: dict[bytes, Ranked] = {}
        self._alone: list[Alone] = []
        self._described: dict[tuple[int, int], int] = {}  # sentence, passage -> row of all of _alone

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
        index = self._index
        hashes = np.concatenate([self._last, *(found.hashes for found in fresh)])
        first = self._count - len(self._last)
        self._count = first + len(hashes)
        self._last = hashes[-(GRAM_WORDS - 1) :]
        if index is None:
            return
        positions, places = index.holders(grams(hashes))
        self._held.append((positions + first, places))
        output, bounds = self._output(len(self.sentences) - len(segments))
        self.ask([terms for terms, _ in queries(output, bounds)])

    def describe(self, first: int) -> tuple[I64, Described]:
        """Describe the sentences from number `first` on; return each pair's sentence, and what it shows."""
        index = self._index
        if index is None or not self._is_apart:
            return np.zeros(0, np.int64), Alone.of([]).beside(np.zeros(0, np.int64))
        output, bounds = self._output(first)
        offset = self._count - len(output.ids)
        held = np.zeros(self._count, bool)
        for positions, _ in self._held[-2:]:
            held[positions] = True
        own: list[dict[int, int]] = []
        asked = self.ask([terms for terms, _ in queries(output, bounds)])
        for (low, high), (passages, _) in zip(bounds, asked, strict=True):
            copied = np.count_nonzero(held[offset + low : offset + high])
            is_piece = high - low >= PIECE_WORDS_MIN and copied < COPIED * (high - low)
            own.append(own_passages(index, passages) if is_piece else {})
        pieces = [Piece(low, high, first + number, None) for number, (low, high) in enumerate(bounds)]
        pairs = pairs_of(index, own)
        alone = describe_alone(index, output, pieces, pairs)
        sentence = pairs.piece + first
        if len(sentence):
            at = len(self._described)
            self._alone.append(alone)
            self._described.update(
                zip(zip(sentence.tolist(), pairs.passage.tolist(), strict=True), itertools.count(at))
            )
        return sentence, alone.beside(pairs.piece)

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
        ids, idf = self._index.word_ids(found.hashes)
        if self._is_apart and self._words:
            return OutputWords(ids, idf, np.concatenate(self._is_number), np.concatenate(self._is_name))
        first = set(np.searchsorted(found.starts, [one.start for one in self.sentences]).tolist())
        return OutputWords(ids, idf, _numbers(found), _names(text, found, first))

    def held(self) -> tuple[int, I64, I64] | None:
        """Return what `runs.claims` asks for: the fingerprints known, and where they stand."""
        if not self._is_apart or not self._held:
            return None
        positions, places = zip(*self._held, strict=True)
        return max(self._count - GRAM_WORDS + 1, 0), np.concatenate(positions), np.concatenate(places)

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
        bounds: list[int] = np.cumsum([0, *(len(found.texts) for found in self._words)]).tolist()
        whole: list[int] = [
            one.segment
            if one.claim is None and one.start == bounds[one.segment] and one.end == bounds[one.segment + 1]
            else -1
            for one in pieces
        ]
        piece: list[int] = pairs.piece.tolist()
        passages: list[int] = pairs.passage.tolist()
        found = [
            self._described.get((whole[number], passage), -1)
            for number, passage in zip(piece, passages, strict=True)
        ]
        return Alone.of(self._alone), np.array(found, np.int64)

    def _each(self) -> zip[tuple[Words, Segment]]:
        return zip(self._words, self.sentences, strict=True)

    def _output(self, first: int) -> tuple[OutputWords, list[tuple[int, int]]]:
        """Return the words of the sentences from number `first` on, and where each begins and ends there."""
        assert self._index is not None  # callers ask first
        some = self._words[first:]
        ids, idf = self._index.word_ids(np.concatenate([found.hashes for found in some]))
        bounds: list[int] = np.cumsum([0, *(len(found.texts) for found in some)]).tolist()
        output = OutputWords(
            ids, idf, np.concatenate(self._is_number[first:]), np.concatenate(self._is_name[first:])
        )
        return output, list(itertools.pairwise(bounds))


def _numbers(found: Words) -> NDArray[np.bool_]:
    return np.array([any(char.isdigit() for char in word) for word in found.texts], bool)


def _names(text: str, found: Words, first: set[int]) -> NDArray[np.bool_]:
    """Return which words have a capital that is not a sentence's first."""
    at = enumerate(found.starts.tolist())
    return np.array([text[start].isupper() and place not in first for place, start in at], bool)

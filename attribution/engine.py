"""Text in, shares out: the engine that holds the other files together.

An answer streams, so its sentences are looked up and encoded as they complete; finish() then cuts out the
word-for-word runs, holds every piece against its candidates, scores and shares. attribute() is the same thing
with one push, so the result cannot depend on how the text was cut.

The engine reads no clock: its work is bounded by counts, and the same text gives the same shares on any day.
"""

from __future__ import annotations

import hashlib
import itertools
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from attribution.allocation import UNATTRIBUTED, to_ppm
from attribution.arriving import PIECE_CHARS_MAX, Arriving, cut
from attribution.background import Background
from attribution.building import SentenceEncoder, build
from attribution.candidates import candidates, queries
from attribution.copying import Copying
from attribution.encoder import Encoder
from attribution.features import (
    F32,
    FEATURES,
    PIECE_WORDS_MAX,
    Alone,
    Described,
    Pairs,
    Piece,
    describe_alone,
)
from attribution.grounding import CITED_ODDS, GROUNDED_ODDS, Context, Grounder, raised, spoken_for
from attribution.index import QUERIES_AT_ONCE, Index, Manifest
from attribution.lexical import distinct
from attribution.likeness import compare
from attribution.normalise import Words, words
from attribution.runs import GAP_WORDS_MAX, claims
from attribution.scoring import OPEN_TO, Scorer, context_rows, left_open
from attribution.segments import Halves, Segment, Segmenter
from attribution.terms import PPM, Attribution, Match, Share, SourceWork

METHOD = "endcredits/1"
# Files whose numbers decide shares. They are part of a method's name beside its models; numbers that only
# pace the work stand below, and are not.
DECIDING = (
    "arriving", "candidates", "features", "grounding", "lexical", "likeness", "runs", "scoring", "segments",
)  # fmt: skip
CHARACTERS_A_STEP = 1_200  # encoded between two breaths of finishing(); a text is no longer
# Content words an output must share with a work in all: greetings and "the capital of France is Paris"
# stand in some registered book, and owe it nothing.
CONTENT_WORDS_MIN = 4
# Pairs that say no more by themselves are not asked about in context: two in three of all, and in a labelled
# set's outputs none of them came above .13 there, where .19 is the least that can win.
HOPELESS = 0.001
# Of a piece described ahead, from which probability on it is encoded at once: works that are strong elsewhere
# raise some of those below OPEN_FROM in the end, and a vector too many costs less while an answer is written.
AHEAD_FROM = 0.12
AHEAD_MAX = 8  # sentences of one push that are described and encoded at once; more is no stream
CONTENT_SHARED, CONTAINED = FEATURES.index("content_shared"), FEATURES.index("contained")
PIECES_AT_ONCE = 32  # described together, and no more words than these: some megabytes of
WORDS_AT_ONCE = 800  # temporary arrays, and some milliseconds


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Scored:
    """All pairs of an output with their features: what training learns from and finish() decides from."""

    pieces: list[Piece]
    pairs: Pairs
    described: Described


class Attributor:
    """An opened catalogue and the models that read it. Use from one thread at a time."""

    def __init__(
        self, encoder: SentenceEncoder, scorer: Scorer | None, index: Index | None, method: str
    ) -> None:
        self.encoder, self.scorer, self.index, self.method = encoder, scorer, index, method

    @classmethod
    def open(cls, index_dir: Path | None, *, threads: int = 1) -> Attributor:
        """Open an index; None is an empty catalogue, to which nothing is ever owed.

        Raises ModelMissing, ModelMismatch, IndexMissing or IndexCorrupt, each with its remedy.
        """
        encoder, scorer, background = Encoder.open(threads=threads), Scorer.open(), Background.open()
        index = Index(index_dir, background, model_sha256=encoder.model_sha256) if index_dir else None
        digest = hashlib.sha256(
            f"{encoder.model_sha256}{scorer.sha256}{background.sha256}{rules()}".encode()
        ).hexdigest()
        return cls(encoder, scorer, index, f"{METHOD} {digest[:12]}")

    @property
    def is_empty(self) -> bool:
        """Whether the catalogue is empty, so that nothing is ever owed."""
        return self.index is None

    def close(self) -> None:
        """Let go of the index's files."""
        self.index = None

    def count_tokens(self, text: str) -> int:
        """Return the text's length in word pieces: an estimate of what a backend would count."""
        return (
            self.encoder.count_tokens(text) if isinstance(self.encoder, Encoder) else len(words(text).texts)
        )

    def stream(self, context: Context | None = None) -> AttributionStream:
        """Begin an output that arrives in pieces. context: of the request it answers (see `grounder`)."""
        return AttributionStream(self, context)

    def grounder(self) -> Grounder:
        """Begin a request whose texts arrive in pieces; its `finish` is the context of the answer."""
        return Grounder(self.index)

    def copying(self) -> Copying:
        """Begin an output that is watched for registered text as it arrives."""
        return Copying(self.index)

    def attribute(self, text: str, context: Context | None = None) -> Attribution:
        """Return who a whole text owes, and how much of it. context: as for `stream`."""
        stream = AttributionStream(self, context, ahead=False)
        stream.push(text)
        return stream.finish()


class AttributionStream:
    """One output as it arrives. It holds the text so far, a vector a sentence and a few passage numbers."""

    def __init__(self, attributor: Attributor, context: Context | None = None, *, ahead: bool = True) -> None:
        self._owner, self._is_ahead = attributor, ahead
        self.context = context or Context()  # may be replaced until the output is finished
        self._index = attributor.index
        self._halves, self._segmenter = Halves(), Segmenter()
        self._parts: list[str] = []
        self._arriving = Arriving(attributor.index)
        self._vectors: dict[str, F32] = {}

    def push(self, text: str) -> None:
        """Take more of the output; sentences it completes are looked up and encoded now."""
        whole = self._halves.push(text)
        self._parts.append(whole)
        segments = self._segmenter.push(whole)
        if segments:
            self._take(segments)
            if self._is_ahead and len(segments) <= AHEAD_MAX:
                self._look_ahead(len(segments))

    def finish(self) -> Attribution:
        """Return the shares of all that was pushed."""
        return _exhausted(self.finishing())

    def finishing(self) -> Generator[None, None, Attribution]:
        """finish() in steps of some 20 ms, so that a long output need not hold up the others' shares."""
        rest = self._halves.flush()
        self._parts.append(rest)
        self._take(self._segmenter.push(rest) + self._segmenter.flush())
        text = "".join(self._parts)
        found = self._arriving.words(text)
        yield
        scorer, index = self._owner.scorer, self._index
        if index is None or scorer is None or not len(found.texts) or not index.work_ids:
            return Attribution((), PPM, len(found.texts), self._owner.method)
        scored = yield from self._scoring(text, found)
        yield
        piece, work = scored.pairs.piece, scored.pairs.work
        alone = scorer.by_words(scored.described.rows)
        is_open = left_open(scored.pieces, piece, alone)
        scored = yield from self._comparing(text, found, scored, is_open)
        again = np.flatnonzero(is_open[piece])
        alone[again] = scorer.by_vectors(scored.described.rows[again])
        rows = scored.described.rows
        context = context_rows(scored.pieces, piece, work, scored.described.sentence, alone, rows)
        probability = np.zeros(len(rows), np.float32)
        possible = np.flatnonzero(alone > HOPELESS)
        probability[possible] = scorer.in_context(rows[possible], context[possible])
        probability = self._with_context(found, scored, probability)
        return self._share(found, scored, probability, scorer.threshold)

    def _with_context(self, found: Words, scored: Scored, probability: F32) -> F32:
        """Raise what the request speaks for; what it repeats of the user's own is nobody's."""
        index, kinds = self._index, self.context.kinds
        assert index is not None  # callers ask first
        if not kinds and not len(self.context.fingerprints):
            return probability
        own = self.context.own_words(found.hashes)
        work, piece = scored.pairs.work, scored.pairs.piece
        for kind, odds in (("grounded", GROUNDED_ODDS), ("cited", CITED_ODDS)):
            numbers = index.numbers_of(work for work, how in kinds.items() if how == kind)
            if numbers:
                is_alike = scored.described.rows[:, CONTAINED] > 0
                probability = raised(probability, np.isin(work, numbers) & is_alike, odds)
        if own.any():
            total = np.append(0, np.cumsum(own))
            is_own = [
                one.claim is None and 2 * (total[one.end] - total[one.start]) >= one.end - one.start
                for one in scored.pieces
            ]
            probability = np.where(np.array(is_own, bool)[piece], np.float32(0), probability)
        return probability

    def score(self, text: str, found: Words) -> Scored:
        """Cut the output into pieces and describe each beside its candidates, vectors and all."""
        scored = _exhausted(self._scoring(text, found))
        is_free = np.array([piece.claim is None for piece in scored.pieces], bool)
        return _exhausted(self._comparing(text, found, scored, is_free))

    def _comparing(
        self, text: str, found: Words, scored: Scored, chosen: NDArray[np.bool_]
    ) -> Generator[None, None, Scored]:
        """Compare the chosen pieces' vectors with those of their candidates."""
        index = self._index
        assert index is not None  # callers ask first
        numbers: list[int] = np.flatnonzero(chosen).tolist()
        if not numbers:
            return scored
        texts = [self._text_of(text, found, scored.pieces[number]) for number in numbers]
        for some in _portions(sorted(set(texts), key=len)):
            self._encode(some)
            yield
        vectors = np.stack([self._vectors[one] for one in texts])
        described = compare(index, scored.pairs, scored.described, vectors, chosen)
        return Scored(scored.pieces, scored.pairs, described)

    def _scoring(self, text: str, found: Words) -> Generator[None, None, Scored]:
        index = self._index
        assert index is not None  # callers ask first
        output = self._arriving.output(text, found)
        yield
        pieces = self._pieces(found)
        yield
        spans = [(piece.start, piece.end) for piece in pieces if piece.claim is None]
        for at in range(0, len(spans) - QUERIES_AT_ONCE, QUERIES_AT_ONCE):  # the last are asked with the rest
            self._arriving.ask([terms for terms, _ in queries(output, spans[at : at + QUERIES_AT_ONCE])])
            yield
        pairs = candidates(index, output, pieces, self._arriving.ask, spoken_for(index, self.context))
        yield
        alone, place = self._arriving.known(pieces, pairs)
        missing = np.flatnonzero(place < 0)
        place[missing] = len(alone.rows) + np.arange(len(missing))
        numbers = distinct(pairs.piece[missing])
        places: list[int] = numbers.tolist()
        some = [pieces[number] for number in places]
        piece = np.searchsorted(numbers, pairs.piece[missing])
        parts = [alone]
        for at, end in _blocks(some):
            yield
            low, high = np.searchsorted(piece, [at, end])
            own = missing[low:high]
            columns = (pairs.work, pairs.passage, pairs.low, pairs.high)
            block = Pairs(piece[low:high] - at, *(column[own] for column in columns))
            parts.append(describe_alone(index, output, some[at:end], block))
        return Scored(pieces, pairs, Alone.of(parts).taken(place).beside(pairs.piece))

    def _take(self, segments: list[Segment]) -> None:
        self._arriving.take(segments)

    def _look_ahead(self, count: int) -> None:
        """While the rest is being written: do for the last sentences what is likely to be asked for."""
        sentences = self._arriving.sentences
        scorer = self._owner.scorer
        texts, piece, described = self._arriving.describe(max(len(sentences) - count, 0))
        if scorer is None or not len(piece):
            return
        best = np.zeros(len(texts), np.float32)
        np.maximum.at(best, piece, scorer.by_words(described.rows))
        is_open = (best >= AHEAD_FROM) & (best <= OPEN_TO)
        self._encode([texts[number] for number in np.flatnonzero(is_open).tolist()])

    def _encode(self, texts: list[str]) -> None:
        fresh = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        if fresh:
            self._vectors.update(zip(fresh, self._owner.encoder.encode(fresh), strict=True))

    def _pieces(self, found: Words) -> list[Piece]:
        """Cut every sentence around the runs that go through it."""
        index = self._index
        assert index is not None  # callers ask first
        bounds = np.searchsorted(
            found.starts, [segment.start for segment in self._arriving.sentences]
        ).tolist()
        limit = (
            int(np.searchsorted(found.starts, self._arriving.sentences[-1].end))
            if self._arriving.sentences
            else 0
        )
        runs = [claim for claim in claims(index, found.hashes, self._arriving.held()) if claim.start < limit]
        return cut([*bounds, limit], runs, 0)

    def _text_of(self, text: str, found: Words, piece: Piece) -> str:
        """Return a whole sentence as it was encoded on arrival, or just the piece's words."""
        segment = self._arriving.sentences[piece.segment]
        start, end = int(found.starts[piece.start]), int(found.ends[piece.end - 1])
        next_start = int(found.starts[piece.end]) if piece.end < len(found.starts) else len(text)
        before = int(found.ends[piece.start - 1]) if piece.start else 0
        if before <= segment.start <= start and end <= segment.end <= next_start:
            return segment.text
        return text[start:end][:PIECE_CHARS_MAX]

    def _share(self, found: Words, scored: Scored, probability: F32, threshold: float) -> Attribution:
        index = self._index
        assert index is not None  # callers ask first
        winners = _winners(scored, probability, threshold, index)
        ends = _filled(scored.pieces, scored.pairs, winners)
        kinds = self.context.kinds
        matches: dict[int, list[Match]] = {}
        won: dict[str, int] = {}
        for number, pair in winners.items():
            piece, work = scored.pieces[number], int(scored.pairs.work[pair])
            claim = piece.claim
            if claim is not None:
                low, high = claim.place, claim.place + claim.end - claim.start
                high = min(high, int(index.work_token[work + 1]))
            else:
                sentence = int(scored.described.sentence[pair])
                low, high = int(index.sentence_token[sentence]), int(index.sentence_token[sentence + 1])
            match = Match(
                work_id=index.work_ids[work],
                kind=kinds.get(index.work_ids[work]) or ("verbatim" if claim is not None else "restated"),
                start=int(found.starts[piece.start]),
                end=int(found.ends[ends[number] - 1]),
                work_start=int(index.token_start[low]),
                work_end=int(index.token_start[high - 1]) + int(index.token_length[high - 1]),
                score=round(float(probability[pair]), 4),
            )
            matches.setdefault(work, []).append(match)
            won[match.work_id] = won.get(match.work_id, 0) + ends[number] - piece.start
        ppm = to_ppm(won, len(found.texts))
        shares = [
            Share(
                index.work_ids[work],
                ppm[index.work_ids[work]],
                tuple(sorted(own, key=lambda match: match.start)),
            )
            for work, own in matches.items()
            if index.work_ids[work] in ppm
        ]
        shares.sort(key=lambda share: (-share.ppm, share.work_id))
        return Attribution(tuple(shares), ppm[UNATTRIBUTED], len(found.texts), self._owner.method)


def rules() -> str:
    """Return every number that decides shares, a line each, with its name."""
    lines = [f"CONTENT_WORDS_MIN={CONTENT_WORDS_MIN} HOPELESS={HOPELESS}"]
    for file in DECIDING:
        for name, value in sorted(vars(sys.modules[f"attribution.{file}"]).items()):
            if name.isupper() and not name.startswith("_") and isinstance(value, int | float | str | tuple):
                lines.append(f"{file}.{name}={value!r}")
    return "\n".join(lines)


def _exhausted(steps: Generator[None, None, T]) -> T:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return cast("T", end.value)


def _portions(texts: list[str]) -> Iterator[list[str]]:
    """Cut a list into runs of at most CHARACTERS_A_STEP characters, or of one text."""
    portion: list[str] = []
    size = 0
    for text in texts:
        if portion and size + len(text) > CHARACTERS_A_STEP:
            yield portion
            portion, size = [], 0
        portion.append(text)
        size += len(text)
    if portion:
        yield portion


def _blocks(pieces: list[Piece]) -> Iterator[tuple[int, int]]:
    """Cut the pieces into runs that are described together, [start, end) each."""
    start, size = 0, 0
    for number, piece in enumerate(pieces):
        words_ = min(piece.end - piece.start, PIECE_WORDS_MAX)
        if number > start and (number - start == PIECES_AT_ONCE or size + words_ > WORDS_AT_ONCE):
            yield start, number
            start, size = number, 0
        size += words_
    if pieces:
        yield start, len(pieces)


def _winners(scored: Scored, probability: F32, threshold: float, index: Index) -> dict[int, int]:
    """Return piece -> its winning pair, where one reaches the threshold; what is common is nobody's."""
    winners: dict[int, int] = {}
    enough = np.flatnonzero(probability >= threshold)
    order = np.lexsort((scored.pairs.work[enough], -probability[enough], scored.pairs.piece[enough]))
    for pair in enough[order].tolist():
        number = int(scored.pairs.piece[pair])
        claim = scored.pieces[number].claim
        if claim is not None and claim.is_common:
            continue
        if claim is None and scored.described.rows[pair, CONTAINED] <= 0:
            continue  # not one of its words stands there ("Here it is:" before a Persian tale)
        winners.setdefault(number, pair)
    # What a commons has won is decided, and nobody's: the next work in line does not get it.
    winners = {
        number: pair
        for number, pair in winners.items()
        if not index.work_commons[int(scored.pairs.work[pair])]
    }
    shared: dict[int, float] = {}
    for pair in winners.values():
        work = int(scored.pairs.work[pair])
        shared[work] = shared.get(work, 0.0) + float(scored.described.rows[pair, CONTENT_SHARED])
    works = {work for work, count in shared.items() if count >= CONTENT_WORDS_MIN}
    return {
        number: winners[number]
        for number in sorted(winners)
        if int(scored.pairs.work[winners[number]]) in works
    }


def _filled(pieces: list[Piece], pairs: Pairs, winners: dict[int, int]) -> dict[int, int]:
    """Return where each won piece ends, a few words between two pieces of one work included."""
    ends = {number: pieces[number].end for number in winners}
    numbers = sorted(winners)
    for number, following in itertools.pairwise(numbers):
        same = pairs.work[winners[number]] == pairs.work[winners[following]]
        if (
            same
            and 0 < pieces[following].start - pieces[number].end <= GAP_WORDS_MAX
            and following == number + 1
        ):
            ends[number] = pieces[following].start
    return ends


def build_index(
    works: Iterable[SourceWork],
    index_dir: Path,
    *,
    previous: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    threads: int = 2,
) -> Manifest:
    """Write a new index directory; go on with an unfinished one; reuse the vectors of texts in `previous`.

    progress: called with (sentences done, sentences in all). Raises FileExistsError when a finished index is
    there.
    """
    encoders = [Encoder.open() for _ in range(max(threads, 1))]
    return build(works, index_dir, encoders, Background.open(), previous=previous, progress=progress)

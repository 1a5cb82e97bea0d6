"""Whose text a work is: every work held against the works that outrank it, once, when the index is built.

Works come in order of precedence (SourceWork.precedence), so "earlier" below means "of higher
precedence": an upheld claim, then a verified identifier, then the earlier registrant. A work of which
most words stand in runs of one earlier work is a *copy* of it; in runs of several, a *patchwork*; one
whose sentences restate an earlier work's sentences, in that work's order, is a *paraphrase*. All three
are held up, with the work they take from, and the matches go to that work: its runs are found first, and
a held work's passages never become candidates. A creator's own new edition is never held: the earliest
edition owns what both say, and the new one its new words. The same holds for an adaptation of the works
that its licence names (`Licences`); for what it takes from others it is held like any copy.

Nobody is asked for consent here: a work whose creator declined still outranks its copies.

The search for paraphrases compares mean vectors of blocks of sentences, and looks closely only at each
block's nearest earlier one. Blocks are compared within buckets around evenly spaced blocks, so the cost
grows with the power 1.5 of the catalogue, not with its square.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attribution.errors import IndexCorrupt
from attribution.index import Manifest
from attribution.lexical import GRAM_WORDS, I64
from attribution.replication import COPY, NOT_QUARANTINED, PARAPHRASE, PATCHWORK, REASONS
from attribution.terms import PPM, Held, SourceWork
from attribution.vectors import REMEDY

F32 = NDArray[np.float32]

RUN_WORDS_MIN = 6  # as in runs.py: fewer words in a row are anybody's
COPIED_PART = 0.5  # "most of its words"; of 8,700 honest works that are no doubles none has more than .4
COPIED_WORDS_MIN = 20  # a line of verse may share a saying with another one
HEAD_PART = 0.5  # of what is copied, from one work: a copy of that work; less is a patchwork

BLOCK_SENTENCES = 12
BLOCK_LIKE_MIN = (
    0.5  # centred block vectors: honest works' nearest lie at .52 in the middle, paraphrases above .8
)
BUCKETS_EACH = 3  # a block near a border is looked for on both sides
BUCKET_BLOCKS_MAX = 8_192  # of one bucket, earliest first: 256 MB of likenesses at a time is the most
LIKE_MIN = 0.6  # two sentences' cosine: a rewording of the same statement
RESTATED_PART = 0.35
ORDER_PART = 0.2  # of neighbours that restate neighbours in order: the same subject alone does not do that
SENTENCES_MIN = (
    10  # shorter works of one narrow field restate each other by accident, so more is asked of them:
)
SHORT_SENTENCES_MIN, SHORT_LIKE_MEAN, SHORT_ORDER_PART = 4, 0.8, 0.6
WORDS_A_SENTENCE_MAX = 40  # one endless list does not outweigh a chapter


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Per work: reason uint8, the work it takes from (-1: none), the part of its words in ppm."""

    reason: NDArray[np.uint8]
    of: NDArray[np.int32]
    part_ppm: NDArray[np.int32]

    @staticmethod
    def none(count: int) -> Verdicts:
        """Nothing is held."""
        return Verdicts(np.zeros(count, np.uint8), np.full(count, -1, np.int32), np.zeros(count, np.int32))

    def or_else(self, other: Verdicts) -> Verdicts:
        """Take the other's verdict where this one has none."""
        free = self.reason == NOT_QUARANTINED
        return Verdicts(
            np.where(free, other.reason, self.reason),
            np.where(free, other.of, self.of),
            np.where(free, other.part_ppm, self.part_ppm),
        )

    def released(self, free: NDArray[np.bool_]) -> Verdicts:
        """Hold none of these works."""
        return Verdicts(
            np.where(free, np.uint8(NOT_QUARANTINED), self.reason),
            np.where(free, np.int32(-1), self.of),
            np.where(free, np.int32(0), self.part_ppm),
        )

    def to_heads(self) -> Verdicts:
        """Name the head of each cluster: what a copy of a copy takes from."""
        of = self.of.copy()
        chained = np.isin(self.reason, (COPY, PARAPHRASE))
        for work in np.flatnonzero(of >= 0):  # in order of precedence, so a head is settled before its copies
            if chained[of[work]] and of[of[work]] >= 0:
                of[work] = of[of[work]]
        return Verdicts(self.reason, of, self.part_ppm)


def held(directory: Path) -> tuple[Held, ...]:
    """Return the review queue of an index: what earns nothing until a person has looked, and why.

    Raises IndexMissing or IndexCorrupt.
    """
    Manifest.read(directory)
    try:
        reasons: list[int] = np.load(directory / "work_reason.npy").tolist()
        of: list[int] = np.load(directory / "work_of.npy").tolist()
        parts: list[int] = np.load(directory / "work_part.npy").tolist()
        works: list[str] = [
            json.loads(line)["id"] for line in (directory / "works.jsonl").read_text().splitlines()
        ]
        return tuple(
            Held(
                work,
                REASONS[reason].code,
                works[source] if source >= 0 else None,
                part,
                REASONS[reason].note(works[source] if source >= 0 else None, part),
            )
            for work, reason, source, part in zip(works, reasons, of, parts, strict=True)
            if reason in REASONS
        )
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise IndexCorrupt(f"{directory}: {error}", remedy=REMEDY) from error


def quarantined(directory: Path) -> dict[str, str]:
    """Return {work id: why it earns nothing until somebody has looked}: `held` in a sentence each."""
    return {one.work_id: one.note for one in held(directory)}


@dataclass(frozen=True, slots=True)
class Licences:
    """Who may take from whom: {work: the works its licence names}, by their numbers in the index."""

    named: Mapping[int, NDArray[np.int64]]

    @staticmethod
    def of(works: Sequence[SourceWork]) -> Licences:
        """Return the licences of works in order of precedence; names that are not there say nothing."""
        if not any(work.adapts for work in works):
            return NO_LICENCES
        place = {work.work_id: number for number, work in enumerate(works)}
        return Licences(
            {
                number: np.array(sorted({place[one] for one in work.adapts if one in place}), np.int64)
                for number, work in enumerate(works)
                if work.adapts
            }
        )

    def allow(self, work: NDArray[np.integer[Any]], source: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
        """Return for each pair whether `work` may take from `source`."""
        allowed = np.zeros(len(work), bool)
        if self.named:
            # Most works name nobody, so only the pairs of those that do are looked at.
            some = np.flatnonzero(np.isin(work, list(self.named)))
            for number, named in self.named.items():
                mine = some[work[some] == number]
                allowed[mine] = np.isin(source[mine], named)
        return allowed


NO_LICENCES = Licences({})


def copies(arrays: Mapping[str, NDArray[Any]], creator: I64, licences: Licences = NO_LICENCES) -> Verdicts:
    """Return who copies whom, word for word. creator: one number a work; equal ones are one person."""
    bounds: I64 = arrays["work_token"]
    count, words = len(bounds) - 1, int(bounds[-1])
    if not words:
        return Verdicts.none(count)
    hashes, places = arrays["gram_hash"], arrays["gram_place"]
    owner = np.repeat(np.arange(count, dtype=np.int32), np.diff(bounds))
    work = owner[places]
    fresh = np.append(True, hashes[1:] != hashes[:-1])[: len(work)]
    first = work[np.flatnonzero(fresh)][np.cumsum(fresh) - 1]
    taken = (creator[first] != creator[work]) & ~licences.allow(work, first)
    source = np.full(words, -1, np.int32)  # of the fingerprint that begins at each word
    source[places[taken]] = first[taken]
    covered = np.zeros(words, bool)
    for step in range(min(GRAM_WORDS, words)):
        covered[step:] |= source[: words - step] >= 0
    edges = np.flatnonzero(np.diff(np.concatenate(([0], covered.view(np.int8), [0]))))
    starts, ends = edges[::2], edges[1::2]
    long = ends - starts >= RUN_WORDS_MIN
    marks = np.zeros(words + 1, np.int8)
    marks[starts[long]], marks[ends[long]] = 1, -1
    covered = np.cumsum(marks[:-1], dtype=np.int8) > 0
    copied = np.bincount(owner, covered, minlength=count)
    part = copied / np.maximum(np.diff(bounds), 1)
    verdicts = Verdicts.none(count)
    for number in np.flatnonzero((part >= COPIED_PART) & (copied >= COPIED_WORDS_MIN)).tolist():
        low, high = int(bounds[number]), int(bounds[number + 1])
        sources, votes = np.unique(source[low:high][source[low:high] >= 0], return_counts=True)
        head = int(np.argmax(votes))
        verdicts.reason[number] = COPY if votes[head] >= HEAD_PART * votes.sum() else PATCHWORK
        verdicts.of[number] = sources[head]
        verdicts.part_ppm[number] = round(float(part[number]) * PPM)
    return verdicts


@dataclass(frozen=True, slots=True)
class Sentences:
    """All works' sentences: packed rows (n, dim) and scales, words of each, first sentence of each work."""

    rows: NDArray[np.int8]
    scales: NDArray[np.float16]
    words: I64
    work_sentence: I64

    def vectors(self, low: int, high: int) -> F32:
        """Return rows [low, high) as floats."""
        return self.rows[low:high].astype(np.float32) * self.scales[low:high].astype(np.float32)[:, None]


def paraphrases(sentences: Sentences, creator: I64, licences: Licences = NO_LICENCES) -> Verdicts:
    """Return who restates whom, sentence by sentence and in order."""
    bounds = sentences.work_sentence
    count = len(bounds) - 1
    verdicts = Verdicts.none(count)
    starts, owner = _blocks(bounds)
    if len(owner) < 2:
        return verdicts
    nearest = _nearest_earlier(_block_vectors(sentences, starts), owner, creator, licences)
    weight = np.minimum(sentences.words, WORDS_A_SENTENCE_MAX).astype(np.float64)
    number = np.diff(bounds)
    # (work, earlier work) -> words restated, words in order, words times likeness
    restated: dict[tuple[int, int], list[float]] = {}
    for block in np.flatnonzero((nearest >= 0) & (number >= SHORT_SENTENCES_MIN)[owner]).tolist():
        near = int(nearest[block])
        work, other = int(owner[block]), int(owner[near])
        low = max(int(starts[max(near - 1, 0)]), int(bounds[other]))
        high = min(int(starts[min(near + 2, len(owner))]), int(bounds[other + 1]))
        first, last = int(starts[block]), int(starts[block + 1])
        like = sentences.vectors(first, last) @ sentences.vectors(low, high).T
        best, where = like.max(1), like.argmax(1)
        same = best >= LIKE_MIN
        mine = weight[first:last]
        steps = same[1:] & same[:-1] & (np.diff(where) > 0)
        sums = restated.setdefault((work, other), [0.0, 0.0, 0.0])
        sums[0] += float(mine[same].sum())
        sums[1] += float(steps.mean() * mine.sum()) if len(steps) else 0.0
        sums[2] += float(best @ mine)
    total = np.maximum(np.add.reduceat(np.append(weight, 0.0), bounds[:-1]), 1.0)
    for (work, other), sums in sorted(restated.items()):
        part, in_order, like_mean = (value / float(total[work]) for value in sums)
        found = part >= RESTATED_PART and in_order >= ORDER_PART
        if number[work] < SENTENCES_MIN:
            found = like_mean >= SHORT_LIKE_MEAN and in_order >= SHORT_ORDER_PART
        ppm = round(part * PPM)
        if found and ppm > verdicts.part_ppm[work]:
            verdicts.reason[work], verdicts.of[work], verdicts.part_ppm[work] = PARAPHRASE, other, ppm
    return verdicts


def _blocks(bounds: I64) -> tuple[I64, I64]:
    """Return where each block of sentences starts (with the end), and its work."""
    per_work = -(-np.diff(bounds) // BLOCK_SENTENCES)
    owner = np.repeat(np.arange(len(per_work), dtype=np.int64), per_work)
    within = np.arange(len(owner)) - np.repeat(np.cumsum(per_work) - per_work, per_work)
    starts = bounds[owner] + within * BLOCK_SENTENCES
    return np.append(starts, bounds[-1]).astype(np.int64), owner


def _block_vectors(sentences: Sentences, starts: I64) -> F32:
    """Return each block's mean vector by words, what all have in common taken off, unit length."""
    count = len(starts) - 1
    result = np.zeros((count, sentences.rows.shape[1]), np.float32)
    for at in range(0, count, 512):
        end = min(at + 512, count)
        low, high = int(starts[at]), int(starts[end])
        weight = np.minimum(sentences.words[low:high], WORDS_A_SENTENCE_MAX).astype(np.float32)
        rows = sentences.vectors(low, high) * weight[:, None]
        result[at:end] = np.add.reduceat(rows, starts[at:end] - low, axis=0)
    for _ in range(2):  # lengths, then the common part, then lengths again
        result /= np.maximum(np.linalg.norm(result, axis=1, keepdims=True), np.float32(1e-6))
        if _ == 0 and count > 50:  # of a handful there is nothing in common to take off
            result -= result.mean(axis=0)
    return result


def _nearest_earlier(vectors: F32, owner: I64, creator: I64, licences: Licences) -> I64:
    """Return each block's likest block of an earlier work by somebody else; -1 where none is like it.

    A work that the block's licence names is as good as its own.
    """
    count = len(vectors)
    best, found = np.full(count, np.float32(BLOCK_LIKE_MIN)), np.full(count, -1, np.int64)
    buckets = max(1, int(count**0.5))
    centres = vectors[np.linspace(0, count - 1, buckets).astype(np.int64)]
    each = min(BUCKETS_EACH, buckets)
    inside = np.zeros((count, each), np.int64)
    for at in range(0, count, 4_096):
        like = vectors[at : at + 4_096] @ centres.T
        inside[at : at + 4_096] = np.argpartition(-like, each - 1, axis=1)[:, :each]
    order = np.argsort(inside.ravel(), kind="stable")
    limits = np.searchsorted(inside.ravel()[order], np.arange(buckets + 1))
    for bucket in range(buckets):
        members = (order[limits[bucket] : limits[bucket + 1]] // each)[:BUCKET_BLOCKS_MAX]
        whose, person = owner[members], creator[owner[members]]
        for at in range(0, len(members), 1_024):
            some = members[at : at + 1_024]
            like = vectors[some] @ vectors[members].T
            like[(whose[None] >= owner[some][:, None]) | (person[None] == creator[owner[some]][:, None])] = -1
            for row in np.flatnonzero(np.isin(owner[some], list(licences.named))).tolist():
                like[row, np.isin(whose, licences.named[int(owner[some[row]])])] = -1
            near = like.argmax(axis=1)
            value = like[np.arange(len(some)), near]
            better = value > best[some]
            best[some[better]], found[some[better]] = value[better], members[near[better]]
    return found

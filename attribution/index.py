"""The catalogue as the engine reads it: one directory of arrays mapped into memory, and how it is opened.

Opening reads a manifest and maps files: no hashing, no parsing but of the list of works, so a server starts
and swaps indexes quickly. verify_index reads and hashes everything. Works lie in order of precedence
(SourceWork.precedence), so "the earliest holder" is always the first one found.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attribution.background import Background
from attribution.errors import IndexCorrupt, IndexMissing, ModelMismatch
from attribution.exact import in_steps, product
from attribution.lexical import (
    HOLDERS_MAX,
    I64,
    POSTINGS_MAX,
    SHORTLIST_MAX,
    bm25_impacts,
    distinct,
    ranges,
)
from attribution.vectors import REMEDY, Vectors, mapped

FORMAT = 2  # of the files below; another number is another set of files, or other words and passages in them
MANIFEST = "manifest.json"
ARRAYS = (
    "token_word", "token_start", "token_length", "work_token", "sentence_token", "sentence_work",
    "work_sentence",
    "passage_sentence", "passage_work", "work_passage", "vocab_hash", "vocab_idf", "posting_start",
    "posting_passage",
    "posting_impact", "gram_hash", "gram_place", "work_reason", "passage_listed",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an index is made of. files: name -> (bytes, sha256 hex)."""

    format: int
    model_sha256: str
    background_sha256: str
    works: int
    sentences: int
    passages: int
    words: int
    files: dict[str, tuple[int, str]]

    def write(self, directory: Path) -> None:
        """Write it; a directory with a manifest is a finished index."""
        (directory / MANIFEST).write_text(json.dumps(asdict(self), indent=1, sort_keys=True) + "\n")

    @staticmethod
    def read(directory: Path, *, any_format: bool = False) -> Manifest:
        """Read it. Raises IndexMissing without one, IndexCorrupt when it is not one of ours.

        any_format: also one whose files an earlier version wrote.
        """
        path = directory / MANIFEST
        if not path.is_file():
            raise IndexMissing(
                f"{directory}: no finished index here", remedy="build one: endcredits index build"
            )
        try:
            raw: dict[str, Any] = json.loads(path.read_text())
            files = {str(name): (int(size), str(digest)) for name, (size, digest) in raw.pop("files").items()}
            manifest = Manifest(files=files, **raw)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise IndexCorrupt(f"{path}: not a manifest ({error})", remedy=REMEDY) from error
        if manifest.format != FORMAT and not any_format:
            raise IndexCorrupt(
                f"{path}: format {manifest.format}, this version reads {FORMAT}", remedy=REMEDY
            )
        return manifest


QUERIES_AT_ONCE = 32  # sentences of an answer; more at once means larger tables, not less work
_LOOKED_AT = 8 * SHORTLIST_MAX
Ranked = tuple[I64, NDArray[np.float32]]


class Index:
    """An open index: arrays by the names in ARRAYS, the works' ids and creators, the sentence vectors."""

    def __init__(self, directory: Path, background: Background, *, model_sha256: str) -> None:
        self.manifest = Manifest.read(directory)
        if self.manifest.model_sha256 != model_sha256:
            raise ModelMismatch(
                f"{directory}: built with model {self.manifest.model_sha256[:12]}, not {model_sha256[:12]}",
                remedy=REMEDY,
            )
        if self.manifest.background_sha256 != background.sha256:
            raise ModelMismatch(f"{directory}: built with another word table", remedy=REMEDY)
        check_sizes(directory, self.manifest)
        self.background = background
        try:
            arrays = {name: mapped(directory / f"{name}.npy") for name in ARRAYS}
            self.vectors = Vectors(directory)
            works = [json.loads(line) for line in (directory / "works.jsonl").read_text().splitlines()]
        except (OSError, ValueError) as error:
            raise IndexCorrupt(f"{directory}: {error}", remedy=REMEDY) from error
        self.work_ids: list[str] = [work["id"] for work in works]
        creators: dict[str, int] = {}
        self.work_creator: I64 = np.array(
            [creators.setdefault(work["creator"] or f"\0{work['id']}", len(creators)) for work in works],
            np.int64,
        )
        self.work_commons = np.array([bool(work.get("commons")) for work in works], bool)
        self.token_word: NDArray[np.int32] = arrays["token_word"]
        self.token_start: NDArray[np.int32] = arrays["token_start"]
        self.token_length: NDArray[np.uint16] = arrays["token_length"]
        self.work_token: I64 = arrays["work_token"]
        self.sentence_token: I64 = arrays["sentence_token"]
        self.sentence_work: NDArray[np.int32] = arrays["sentence_work"]
        self.work_sentence: I64 = arrays["work_sentence"]
        self.passage_sentence: I64 = arrays["passage_sentence"]
        self.passage_work: NDArray[np.int32] = arrays["passage_work"]
        self.work_passage: I64 = arrays["work_passage"]
        self.vocab_hash: NDArray[np.uint64] = arrays["vocab_hash"]
        self.vocab_idf: NDArray[np.float32] = arrays["vocab_idf"]
        self.posting_start: I64 = arrays["posting_start"]
        self.posting_passage: NDArray[np.int32] = arrays["posting_passage"]
        self.posting_impact: NDArray[np.float16] = arrays["posting_impact"]
        self.gram_hash: NDArray[np.uint64] = arrays["gram_hash"]
        self.gram_place: NDArray[np.int32] = arrays["gram_place"]
        self.work_reason: NDArray[np.uint8] = arrays["work_reason"]
        # Whether words lead to each passage: to later copies and held works none does.
        self.passage_listed: NDArray[np.bool_] = arrays["passage_listed"]
        # Scratch, zero between calls, 4 bytes a passage and a word: the only arrays a worker does not share.
        self._sums = np.zeros(len(self.passage_work), np.float32)
        self._column = np.zeros(len(self.vocab_hash), np.int32)
        ends = self.sentence_token[self.passage_sentence[[0, -1]]]
        self._passage_words = max(float(ends[1] - ends[0]) / max(len(self.passage_work), 1), 1.0)

    @functools.cached_property
    def _numbers(self) -> dict[str, int]:
        """Made when the first request speaks for a work: 100 bytes a work."""
        return {work: number for number, work in enumerate(self.work_ids)}

    def numbers_of(self, works: Iterable[str]) -> list[int]:
        """Return these works' numbers in order, without those that are not here."""
        return sorted(self._numbers[work] for work in works if work in self._numbers)

    def word_ids(self, hashes: NDArray[np.uint64]) -> tuple[I64, NDArray[np.float32]]:
        """Return each word's id here (negative, and made of its hash: unknown) and its idf."""
        idf = self.background.idf(hashes, len(self.passage_work))
        ids = -1 - (hashes >> np.uint64(1)).astype(np.int64)
        if len(self.vocab_hash) and len(hashes):
            at = np.minimum(np.searchsorted(self.vocab_hash, hashes), len(self.vocab_hash) - 1)
            known = self.vocab_hash[at] == hashes
            ids[known] = at[known]
            idf[known] = self.vocab_idf[at[known]]
        return ids, idf

    def holders(self, fingerprints: NDArray[np.uint64]) -> tuple[I64, I64]:
        """Return (position, place) of every fingerprint found, HOLDERS_MAX places each, earliest first."""
        if not len(self.gram_hash):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        order = np.argsort(fingerprints, kind="stable")  # asked in their order, neighbours share pages
        low = np.searchsorted(self.gram_hash, fingerprints[order], "left").astype(np.int64)
        low = np.minimum(low, len(self.gram_hash) - 1)
        found = np.flatnonzero(self.gram_hash[low] == fingerprints[order])
        found = found[np.argsort(order[found])]
        order, low = order[found].astype(np.int64), low[found]
        high = np.searchsorted(self.gram_hash, fingerprints[order], "right").astype(np.int64)
        at, which = ranges(low, np.minimum(high, low + HOLDERS_MAX))
        position = order[which]
        return position, self.gram_place[at].astype(np.int64)

    def work_at(self, place: I64) -> I64:
        """Return the works that hold these places of the word stream."""
        return np.searchsorted(self.work_token, place, "right").astype(np.int64) - 1

    def sentence_at(self, place: I64) -> I64:
        """Return the sentences that hold these places of the word stream."""
        return np.searchsorted(self.sentence_token, place, "right").astype(np.int64) - 1

    def column_of(self, terms: I64, word: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return the place of each of these words among `terms` (distinct, known), or -1."""
        self._column[terms] = np.arange(1, len(terms) + 1, dtype=np.int32)
        found = self._column[word]
        self._column[terms] = 0
        found -= 1
        return found

    def shortlist(self, terms: I64) -> I64:
        """Return the SHORTLIST_MAX or fewer passages that look best by these terms' postings, rarest first.

        No more than POSTINGS_MAX numbers are added, however large the catalogue: the rarest terms' whole
        rows, and of the first that no longer fits, the earliest registered part.
        """
        room = POSTINGS_MAX
        rows, weights = list[NDArray[np.int32]](), list[NDArray[np.float16]]()
        starts, ends = self.posting_start[terms].tolist(), self.posting_start[terms + 1].tolist()
        for low, high in zip(starts, ends, strict=True):
            end = min(high, low + room)
            rows.append(self.posting_passage[low:end])
            weights.append(self.posting_impact[low:end])
            room -= end - low
            if not room:
                break
        if room == POSTINGS_MAX:
            return np.zeros(0, np.int64)
        passages = np.concatenate(rows)
        np.add.at(self._sums, passages, np.concatenate(weights).astype(np.float32))
        found = self._sums[passages]
        self._sums[passages] = 0
        if len(passages) > _LOOKED_AT:  # a passage stands here once for each of its terms
            best = np.argpartition(found, len(found) - _LOOKED_AT)[-_LOOKED_AT:]
            passages, found = passages[best], found[best]
        order = np.lexsort((passages, -found))
        passages = passages[order]
        fresh = np.append(True, passages[1:] != passages[:-1])
        return passages[fresh][:SHORTLIST_MAX].astype(np.int64)

    def passage_sums(self, terms: I64, asked: NDArray[np.float32], passages: I64) -> NDArray[np.float32]:
        """Return the BM25 sums (queries, passages) of queries over `terms`, from the passages' own words.

        terms: distinct and known; asked: float32 (queries, terms), 1 where a query has the term.
        """
        low = self.sentence_token[self.passage_sentence[passages]]
        high = self.sentence_token[self.passage_sentence[passages + 1]]
        place, row = ranges(low, high)
        column = self.column_of(terms, self.token_word[place])
        hit = np.flatnonzero(column >= 0)
        counts = np.zeros((len(passages), len(terms)), np.float32)
        np.add.at(counts.reshape(-1), row[hit] * len(terms) + column[hit], np.float32(1))
        impacts = self.impacts(counts, terms, high - low)
        return product(impacts, asked).T

    def impacts(self, counts: NDArray[np.float32], terms: I64, words: I64) -> NDArray[np.float32]:
        """Return BM25 numbers (passages, terms) of counted terms in passages of so many words.

        In steps of 2^-10, so that sums of some hundred are exact in float32 in whatever order they are made.
        """
        cells = np.flatnonzero(counts)
        tf, row = counts.reshape(-1)[cells], cells // max(len(terms), 1)
        idf = self.vocab_idf[terms][cells - row * len(terms)]
        result = np.zeros(counts.shape, np.float32)
        found = bm25_impacts(tf, words[row].astype(np.float32), idf, self._passage_words)
        result.reshape(-1)[cells] = in_steps(found)
        return result

    def best_passages(self, queries: Sequence[I64], count: int) -> list[Ranked]:
        """Return for each query (distinct known terms, rarest first) its best passages and their BM25 sums.

        Best first, ties by the earlier passage; a query's answer does not depend on those asked beside it.
        """
        result: list[Ranked] = []
        for at in range(0, len(queries), QUERIES_AT_ONCE):
            some = queries[at : at + QUERIES_AT_ONCE]
            short = [self.shortlist(terms) for terms in some]
            passages, terms = distinct(np.concatenate(short)), distinct(np.concatenate(some))
            if not len(passages):
                result += [(own, np.zeros(0, np.float32)) for own in short]
                continue
            asked = np.zeros((len(some), len(terms)), np.float32)
            for row, own in zip(asked, some, strict=True):
                row[np.searchsorted(terms, own)] = 1
            sums = self.passage_sums(terms, asked, passages)
            for row, own in zip(sums, short, strict=True):
                found = row[np.searchsorted(passages, own)]
                best = np.lexsort((own, -found))[:count]
                result.append((own[best], found[best]))
        return result


def check_sizes(directory: Path, manifest: Manifest) -> None:
    """Compare the files' sizes with the manifest: what opening can afford. Raises IndexCorrupt."""
    for name, (size, _) in manifest.files.items():
        path = directory / name
        if not path.is_file():
            raise IndexCorrupt(f"{path} is missing", remedy=REMEDY)
        if path.stat().st_size != size:
            raise IndexCorrupt(f"{path} has {path.stat().st_size} bytes, not {size}", remedy=REMEDY)


def verify_index(index_dir: Path) -> Manifest:
    """Read and hash every file of an index. Raises IndexMissing or IndexCorrupt, with the remedy."""
    manifest = Manifest.read(index_dir)
    check_sizes(index_dir, manifest)
    for name, (_, digest) in manifest.files.items():
        if file_sha256(index_dir / name) != digest:
            raise IndexCorrupt(f"{index_dir / name} is not what was built: its sha256 differs", remedy=REMEDY)
    return manifest


def file_sha256(path: Path) -> str:
    """Return a file's sha256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

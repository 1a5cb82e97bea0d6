"""The catalogue as the engine reads it: one directory of arrays mapped into memory, and how it is opened.

Opening reads a manifest and maps files: no hashing, no parsing but of the list of works, so a server starts
and swaps indexes quickly. verify_index reads and hashes everything. Works lie in order of precedence
(SourceWork.precedence), so "the earliest holder" is always the first one found.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attribution.background import Background
from attribution.errors import IndexCorrupt, IndexMissing, ModelMismatch
from attribution.lexical import HOLDERS_MAX, I64, POSTINGS_MAX, ranges
from attribution.vectors import REMEDY, Vectors

FORMAT = 1  # of the files below; another number is another set of files
MANIFEST = "manifest.json"
ARRAYS = (
    "token_word", "token_start", "token_length", "work_token", "sentence_token", "sentence_work",
    "work_sentence",
    "passage_sentence", "passage_work", "work_passage", "vocab_hash", "vocab_idf", "posting_start",
    "posting_passage",
    "posting_impact", "gram_hash", "gram_place", "work_reason",
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
    def read(directory: Path) -> Manifest:
        """Read it. Raises IndexMissing without one, IndexCorrupt when it is not one of ours."""
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
        if manifest.format != FORMAT:
            raise IndexCorrupt(
                f"{path}: format {manifest.format}, this version reads {FORMAT}", remedy=REMEDY
            )
        return manifest


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
            arrays = {name: np.load(directory / f"{name}.npy", mmap_mode="r") for name in ARRAYS}
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
        self.work_token: I64 = np.array(arrays["work_token"])
        self.sentence_token: I64 = np.array(arrays["sentence_token"])
        self.sentence_work: NDArray[np.int32] = np.array(arrays["sentence_work"])
        self.work_sentence: I64 = np.array(arrays["work_sentence"])
        self.passage_sentence: I64 = np.array(arrays["passage_sentence"])
        self.passage_work: NDArray[np.int32] = np.array(arrays["passage_work"])
        self.work_passage: I64 = np.array(arrays["work_passage"])
        self.vocab_hash: NDArray[np.uint64] = arrays["vocab_hash"]
        self.vocab_idf: NDArray[np.float32] = arrays["vocab_idf"]
        self.posting_start: I64 = np.array(arrays["posting_start"])
        self.posting_passage: NDArray[np.int32] = arrays["posting_passage"]
        self.posting_impact: NDArray[np.float16] = arrays["posting_impact"]
        self.gram_hash: NDArray[np.uint64] = arrays["gram_hash"]
        self.gram_place: NDArray[np.int32] = arrays["gram_place"]
        self.work_reason: NDArray[np.uint8] = np.array(arrays["work_reason"])
        self._sums = np.zeros(len(self.passage_work), np.float32)

    def word_ids(self, hashes: NDArray[np.uint64]) -> tuple[I64, NDArray[np.float32]]:
        """Return each word's id here (negative and its own: unknown) and its idf."""
        ids = np.full(len(hashes), -1, np.int64)
        idf = self.background.idf(hashes, len(self.passage_work))
        if len(self.vocab_hash) and len(hashes):
            at = np.minimum(np.searchsorted(self.vocab_hash, hashes), len(self.vocab_hash) - 1)
            known = self.vocab_hash[at] == hashes
            ids[known] = at[known]
            idf[known] = self.vocab_idf[at[known]]
        unknown = ids < 0
        if unknown.any():
            _, own = np.unique(hashes[unknown], return_inverse=True)
            ids[unknown] = -1 - own
        return ids, idf

    def holders(self, fingerprints: NDArray[np.uint64]) -> tuple[I64, I64]:
        """Return (position, place) of every fingerprint found, HOLDERS_MAX places each, earliest first."""
        low = np.searchsorted(self.gram_hash, fingerprints, "left").astype(np.int64)
        high = np.searchsorted(self.gram_hash, fingerprints, "right").astype(np.int64)
        at, position = ranges(low, np.minimum(high, low + HOLDERS_MAX))
        return position, self.gram_place[at].astype(np.int64)

    def work_at(self, place: I64) -> I64:
        """Return the works that hold these places of the word stream."""
        return np.searchsorted(self.work_token, place, "right").astype(np.int64) - 1

    def sentence_at(self, place: I64) -> I64:
        """Return the sentences that hold these places of the word stream."""
        return np.searchsorted(self.sentence_token, place, "right").astype(np.int64) - 1

    def best_passages(
        self, terms: I64, idf: NDArray[np.float32], count: int
    ) -> tuple[I64, NDArray[np.float32]]:
        """Return the `count` passages with the largest BM25 sums over these distinct terms, best first."""
        known = terms >= 0
        terms, idf = terms[known], idf[known]
        order = np.argsort(-idf, kind="stable")
        terms = terms[order]
        lengths = self.posting_start[terms + 1] - self.posting_start[terms]
        within = np.cumsum(lengths) <= POSTINGS_MAX
        terms = terms[within]
        if not len(terms):
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        sums, seeds, seen = self._sums, list[NDArray[np.int32]](), 0
        for rank, term in enumerate(terms):
            low, high = int(self.posting_start[term]), int(self.posting_start[term + 1])
            passages = self.posting_passage[low:high]
            sums[passages] += self.posting_impact[low:high]
            # Only passages with one of the rarer terms can win; the common ones just add to their sums.
            if rank < 4 or seen < 4_000:
                seeds.append(passages)
                seen += len(passages)
        candidates = np.unique(np.concatenate(seeds)).astype(np.int64)
        found = sums[candidates]
        for term in terms:
            sums[self.posting_passage[int(self.posting_start[term]) : int(self.posting_start[term + 1])]] = (
                0.0
            )
        best = np.lexsort((candidates, -found))[:count]
        return candidates[best], found[best]

    def passage_sums(self, terms: I64, passages: I64) -> NDArray[np.float32]:
        """Return the BM25 sums of these terms for chosen passages."""
        sums = np.zeros(len(passages), np.float32)
        for term in terms[terms >= 0]:
            low, high = int(self.posting_start[term]), int(self.posting_start[term + 1])
            row = self.posting_passage[low:high]
            if not len(row):
                continue
            at = np.minimum(np.searchsorted(row, passages), len(row) - 1)
            sums += np.where(row[at] == passages, self.posting_impact[low:high][at], np.float32(0))
        return sums


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

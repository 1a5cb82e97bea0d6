"""How a catalogue becomes an index: words, passages, fingerprints, vectors, and a manifest written last.

A directory without a manifest is unfinished, and a second call goes on with its vectors, which are most of
the cost; the rest is a matter of seconds and is made again. Vectors of unchanged texts come from `previous`.

Copies are settled here, once: a passage whose fingerprints stand mostly in earlier works, or which is an
earlier one with words changed, is kept out of the word index, so a later copy never even becomes a candidate
for what its original says.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from attribution.altered import altered
from attribution.background import Background
from attribution.errors import IndexCorrupt, IndexMissing
from attribution.index import FORMAT, MANIFEST, Manifest, file_sha256
from attribution.lexical import GRAM_WORDS, I64, bm25_impacts, grams
from attribution.normalise import words
from attribution.novelty import Probe, common
from attribution.ownership import Licences, Sentences, Verdicts, copies, paraphrases
from attribution.replication import KNOWN_PART_MIN, NOT_QUARANTINED, quarantine
from attribution.segments import segments
from attribution.terms import SourceWork
from attribution.vectors import VectorWriter, pack

PASSAGE_WORDS = (
    60  # a passage closes with the sentence that reaches this: long enough for BM25, short enough to show
)
COPIED_PART = (
    0.4  # of a passage's fingerprints in earlier works: two changed words in a line still leave this much
)
CHUNK = 256  # sentences between two marks of progress: a cut build loses less than a second
WORDS_MAX = 2**31 - 1  # places are int32

Progress = Callable[[int, int], None]
Arrays = dict[str, NDArray[Any]]


class SentenceEncoder(Protocol):
    """What a build needs of an encoder."""

    @property
    def dim(self) -> int: ...
    @property
    def model_sha256(self) -> str: ...
    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]: ...


@dataclass(frozen=True, slots=True)
class _Cut:
    """One work's words and sentences."""

    hashes: NDArray[np.uint64]
    starts: NDArray[np.int32]
    lengths: NDArray[np.uint16]
    sentence_token: I64
    sentence_span: list[tuple[int, int]]

    @property
    def sha256(self) -> str:
        """What says that a text's sentences are still the same ones: the rules that cut them may change."""
        return hashlib.sha256(np.array(self.sentence_span, np.int64).tobytes()).hexdigest()


def build(
    works: Iterable[SourceWork],
    index_dir: Path,
    encoders: Sequence[SentenceEncoder],
    background: Background,
    *,
    previous: Path | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Write a new index into `index_dir` with these encoders, one thread each.

    Raises FileExistsError when a finished index is there, ValueError for a repeated work id.
    """
    if (index_dir / MANIFEST).exists():
        raise FileExistsError(f"{index_dir} holds a finished index; give another directory")
    index_dir.mkdir(parents=True, exist_ok=True)
    ordered = sorted(works, key=lambda work: work.precedence)
    if len({work.work_id for work in ordered}) != len(ordered):
        raise ValueError("two works have the same id; an index needs each id once")
    cuts = [_cut(work.text) for work in ordered]
    arrays = _layout(cuts)
    arrays |= _fingerprints(arrays, np.concatenate([np.zeros(0, np.uint64), *(cut.hashes for cut in cuts)]))
    arrays |= _passages(arrays)
    digests = [hashlib.sha256(work.text.encode("utf-8", "surrogatepass")).hexdigest() for work in ordered]
    rows = len(arrays["sentence_work"])
    reusable = _reusable(previous, dict(zip(digests, (cut.sha256 for cut in cuts), strict=True)), encoders[0])
    # What is reused decides which sentences are left to encode, so a cut build goes on only with the same.
    key = hashlib.sha256(
        "".join(
            [encoders[0].model_sha256, *digests, *(cut.sha256 for cut in cuts), "|", *sorted(reusable)]
        ).encode()
    ).hexdigest()
    writer = VectorWriter(index_dir, rows, encoders[0].dim, key)
    _encode(ordered, cuts, arrays, writer, encoders, reusable, progress)
    verdicts = _judged(ordered, arrays, index_dir, background, encoders[0].model_sha256)
    arrays |= {"work_reason": verdicts.reason, "work_of": verdicts.of, "work_part": verdicts.part_ppm}
    arrays |= _postings(arrays, background)
    writer.close()
    for name, array in arrays.items():
        if not name.startswith("_"):
            np.save(index_dir / f"{name}.npy", array)
    lines = (
        json.dumps(
            {
                "id": work.work_id,
                "creator": work.creator_id,
                "registered_us": work.registered_us,
                "sha256": digest,
                "cut": cut.sha256,
                **({"commons": True} if work.commons else {}),
            }
        )
        for work, digest, cut in zip(ordered, digests, cuts, strict=True)
    )
    (index_dir / "works.jsonl").write_text("".join(f"{line}\n" for line in lines))
    files = {p.name: (p.stat().st_size, file_sha256(p)) for p in sorted(index_dir.iterdir()) if p.is_file()}
    manifest = Manifest(
        format=FORMAT,
        model_sha256=encoders[0].model_sha256,
        background_sha256=background.sha256,
        works=len(ordered),
        sentences=rows,
        passages=len(arrays["passage_work"]),
        words=len(arrays["token_word"]),
        files=files,
    )
    manifest.write(index_dir)
    return manifest


def _cut(text: str) -> _Cut:
    found = words(text)
    spans = [(segment.start, segment.end) for segment in segments(text)]
    first = np.searchsorted(found.starts, np.array([start for start, _ in spans], np.int64), "left").astype(
        np.int64
    )
    last = np.append(first[1:], len(found.starts)) if len(first) else first
    kept = np.flatnonzero(last > first)
    lengths = np.minimum(found.ends - found.starts, 65_535).astype(np.uint16)
    return _Cut(found.hashes, found.starts, lengths, first[kept], [spans[place] for place in kept])


def _layout(cuts: list[_Cut]) -> Arrays:
    """Lay all works' words one after another; a distinct word's name is its place among the sorted hashes."""
    work_token = _offsets([len(cut.hashes) for cut in cuts])
    if work_token[-1] > WORDS_MAX:
        raise ValueError(f"{work_token[-1]} words in one index; {WORDS_MAX} is the most. Split the catalogue")
    work_sentence = _offsets([len(cut.sentence_token) for cut in cuts])
    hashes = np.concatenate([np.zeros(0, np.uint64), *(cut.hashes for cut in cuts)])
    vocab, token_word = np.unique(hashes, return_inverse=True)
    sentence_token = [cut.sentence_token + start for cut, start in zip(cuts, work_token, strict=False)]
    return {
        "work_token": work_token,
        "work_sentence": work_sentence,
        "vocab_hash": vocab,
        "token_word": token_word.astype(np.int32),
        "token_start": np.concatenate([np.zeros(0, np.int32), *(cut.starts for cut in cuts)]),
        "token_length": np.concatenate([np.zeros(0, np.uint16), *(cut.lengths for cut in cuts)]),
        "sentence_token": np.concatenate([np.zeros(0, np.int64), *sentence_token, work_token[-1:]]),
        "sentence_work": np.repeat(np.arange(len(cuts), dtype=np.int32), np.diff(work_sentence)),
    }


def _fingerprints(arrays: Arrays, hashes: NDArray[np.uint64]) -> Arrays:
    fingerprints = grams(hashes)
    place = np.arange(len(fingerprints), dtype=np.int32)
    # A fingerprint across the border of two works belongs to neither.
    ends = np.repeat(arrays["work_token"][1:], np.diff(arrays["work_token"]))[: len(place)]
    inside = place + GRAM_WORDS <= ends
    fingerprints, place = fingerprints[inside], place[inside]
    order = np.argsort(fingerprints, kind="stable")
    gram_hash, gram_place = fingerprints[order], place[order]
    work = np.searchsorted(arrays["work_token"], gram_place, "right") - 1
    fresh = np.append(True, gram_hash[1:] != gram_hash[:-1])[: len(gram_hash)]
    first = np.flatnonzero(fresh)[np.cumsum(fresh) - 1]
    is_earlier = work[first] != work
    elsewhere = np.full(
        len(hashes), -1, np.int8
    )  # per word: -1 no fingerprint, 0 first here, 1 an earlier work's
    elsewhere[gram_place] = is_earlier
    source = np.full(len(hashes), -1, np.int32)  # per word: where that earlier work has the fingerprint
    source[gram_place[is_earlier]] = gram_place[first[is_earlier]]
    return {"gram_hash": gram_hash, "gram_place": gram_place, "_elsewhere": elsewhere, "_source": source}


def _passages(arrays: Arrays) -> Arrays:
    starts: list[int] = []
    work_passage = [0]
    token = arrays["sentence_token"].tolist()
    bounds = arrays["work_sentence"].tolist()
    for low, high in itertools.pairwise(bounds):
        open_at = -1
        for sentence in range(low, high):
            if open_at < 0:
                open_at = sentence
                starts.append(sentence)
            if token[sentence + 1] - token[open_at] >= PASSAGE_WORDS:
                open_at = -1
        work_passage.append(len(starts))
    passage_sentence = np.array([*starts, bounds[-1]], np.int64)
    passage_work = np.repeat(np.arange(len(bounds) - 1, dtype=np.int32), np.diff(work_passage))
    return {
        "passage_sentence": passage_sentence,
        "passage_work": passage_work,
        "work_passage": np.array(work_passage),
    }


def _postings(arrays: Arrays, background: Background) -> Arrays:
    token_bounds = arrays["sentence_token"][arrays["passage_sentence"]]
    lengths = np.diff(token_bounds)
    count, vocabulary = len(lengths), len(arrays["vocab_hash"])
    passage_of = np.repeat(np.arange(count, dtype=np.int64), lengths)
    elsewhere = arrays["_elsewhere"][: len(passage_of)]
    known = np.bincount(passage_of, elsewhere >= 0, minlength=count)
    copied = np.bincount(passage_of, elsewhere == 1, minlength=count) / np.maximum(known, 1) >= COPIED_PART
    copied |= altered(arrays)
    keys = arrays["token_word"].astype(np.int64) * max(count, 1) + passage_of
    pairs, tf = np.unique(keys, return_counts=True)
    word, passage = pairs // max(count, 1), pairs % max(count, 1)
    idf = background.idf(arrays["vocab_hash"], count, np.bincount(word, minlength=vocabulary))
    listed = ~(copied | (arrays["work_reason"][arrays["passage_work"]] != NOT_QUARANTINED))
    own = listed[passage]
    word, passage, tf = word[own], passage[own], tf[own]
    impact = bm25_impacts(tf.astype(np.float32), lengths[passage].astype(np.float32), idf[word])
    return {
        "vocab_idf": idf,
        "posting_start": np.searchsorted(word, np.arange(vocabulary + 1)).astype(np.int64),
        "posting_passage": passage.astype(np.int32),
        "posting_impact": impact.astype(np.float16),
        "passage_listed": listed,
    }


def _reusable(
    previous: Path | None, wanted: dict[str, str], encoder: SentenceEncoder
) -> dict[str, tuple[Path, int, int]]:
    """Return text sha256 -> (directory, first row, one past the last) for what the previous index holds.

    wanted: text sha256 -> cut sha256; a text whose sentences are cut otherwise today is encoded anew.
    """
    if previous is None:
        return {}
    try:
        # A sentence's vector depends on its text and the model alone, whatever else an older version wrote.
        manifest = Manifest.read(previous, any_format=True)
        bounds = np.load(previous / "work_sentence.npy").tolist()
        lines = [json.loads(line) for line in (previous / "works.jsonl").read_text().splitlines()]
        old = [(line["sha256"], line.get("cut")) for line in lines]
    except (IndexMissing, IndexCorrupt, OSError, ValueError, KeyError):
        return {}  # nothing to reuse is slower, not wrong
    if manifest.model_sha256 != encoder.model_sha256:
        return {}
    # An index of before cuts were recorded has none; then the number of sentences must do.
    return {
        digest: (previous, low, high)
        for (digest, cut), low, high in zip(old, bounds, bounds[1:], strict=False)
        if digest in wanted and cut in {None, wanted[digest]}
    }


def _encode(
    ordered: list[SourceWork],
    cuts: list[_Cut],
    arrays: Arrays,
    writer: VectorWriter,
    encoders: Sequence[SentenceEncoder],
    reusable: dict[str, tuple[Path, int, int]],
    progress: Progress | None,
) -> None:
    fresh: list[int] = []
    bounds: list[int] = arrays["work_sentence"].tolist()
    if reusable:
        folder = next(iter(reusable.values()))[0]
        old_rows = np.load(folder / "vectors.npy", mmap_mode="r")
        old_scales = np.load(folder / "scales.npy", mmap_mode="r")
    else:
        old_rows, old_scales = np.zeros((0, 0), np.int8), np.zeros(0, np.float16)
    for number, work in enumerate(ordered):
        low, high = bounds[number], bounds[number + 1]
        found = (
            reusable.get(hashlib.sha256(work.text.encode("utf-8", "surrogatepass")).hexdigest())
            if reusable
            else None
        )
        if found and found[2] - found[1] == high - low:
            writer.put(np.arange(low, high), old_rows[found[1] : found[2]], old_scales[found[1] : found[2]])
        else:
            fresh.extend(range(low, high))
    total, reused = bounds[-1], bounds[-1] - len(fresh)
    if progress:
        progress(reused + writer.done, total)
    owner = arrays["sentence_work"]

    def text_of(row: int) -> str:
        work = int(owner[row])
        span = cuts[work].sentence_span[row - int(bounds[work])]
        return ordered[work].text[span[0] : span[1]]

    chunks = [fresh[at : at + CHUNK] for at in range(writer.done, len(fresh), CHUNK)]
    with ThreadPoolExecutor(len(encoders)) as pool:
        free = list(encoders)

        def encode(chunk: list[int]) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
            encoder = free.pop()
            try:
                return pack(encoder.encode([text_of(row) for row in chunk]))
            finally:
                free.append(encoder)

        for chunk, (rows, scales) in zip(chunks, pool.map(encode, chunks), strict=True):
            writer.put(np.array(chunk, np.int64), rows, scales)
            writer.mark(writer.done + len(chunk))
            if progress:
                progress(reused + writer.done, total)


def _likeness(sentences: Sentences) -> NDArray[np.float32]:
    """Return each sentence's cosine with the one that follows it; 0 for the last."""
    count = len(sentences.words)
    cosine = np.zeros(count, np.float32)
    for at in range(0, count - 1, 8192):
        end = min(at + 8192, count - 1)
        block = sentences.vectors(at, end + 1)
        cosine[at:end] = np.einsum("nd,nd->n", block[:-1], block[1:])
    return cosine


def _coherence(likeness: NDArray[np.float32], arrays: Arrays) -> NDArray[np.float32]:
    """Return each work's mean cosine of neighbouring sentences; 1 where there are too few to tell."""
    owner, result = arrays["sentence_work"], np.ones(len(arrays["work_sentence"]) - 1, np.float32)
    same = owner[1:] == owner[:-1]
    count = np.bincount(owner[1:][same], minlength=len(result))
    total = np.bincount(owner[1:][same], likeness[:-1][same], minlength=len(result))
    enough = count >= 4
    result[enough] = (total[enough] / count[enough]).astype(np.float32)
    return result


def _judged(
    ordered: list[SourceWork], arrays: Arrays, directory: Path, background: Background, model_sha256: str
) -> Verdicts:
    """Say which works are held up and why: all anew at every build, for a work's rivals may be new ones."""
    persons: dict[str, int] = {}
    creator: I64 = np.array(
        [persons.setdefault(work.creator_id or f"\0{work.work_id}", len(persons)) for work in ordered],
        np.int64,
    )
    sentences = Sentences(
        np.load(directory / "vectors.npy", mmap_mode="r"),
        np.load(directory / "scales.npy", mmap_mode="r"),
        np.diff(arrays["sentence_token"]),
        arrays["work_sentence"],
    )
    # Encoder and probe read English: any two Korean sentences look alike to the one, and worn to the other.
    foreign = _known_part(arrays, background) < KNOWN_PART_MIN
    licences = Licences.of(ordered)
    verdicts = copies(arrays, creator, licences)
    verdicts = verdicts.or_else(paraphrases(sentences, creator, licences).released(foreign)).to_heads()
    likeness = _likeness(sentences)
    reasons = _quarantine(_coherence(likeness, arrays), arrays, background)
    nothing = Verdicts.none(len(ordered))
    verdicts = verdicts.or_else(Verdicts(reasons, nothing.of, nothing.part_ppm))
    probe = Probe.open()
    if probe.model_sha256 == model_sha256:
        worn = common(probe, sentences, arrays, background, creator, likeness)
        verdicts = verdicts.or_else(worn.released(foreign))
    return verdicts.released(np.array([work.reviewed or work.commons for work in ordered], bool))


def _known_part(arrays: Arrays, background: Background) -> NDArray[np.float64]:
    """Return the part of each work's words that the background table knows; 1 for a work without words."""
    idf = background.idf(arrays["vocab_hash"], 0)
    known = (idf < background.idf(np.zeros(1, np.uint64), 0)[0])[arrays["token_word"]]
    bounds = arrays["work_token"]
    total = np.concatenate(([0], np.cumsum(known)))
    lengths = np.diff(bounds)
    return np.where(lengths > 0, np.diff(total[bounds]) / np.maximum(lengths, 1), 1.0)


def _quarantine(coherence: NDArray[np.float32], arrays: Arrays, background: Background) -> NDArray[np.uint8]:
    vocab_idf = background.idf(arrays["vocab_hash"], 0)
    token_idf = vocab_idf[arrays["token_word"]]
    known = token_idf < background.idf(np.zeros(1, np.uint64), 0)[0]
    work = np.searchsorted(arrays["work_token"], arrays["gram_place"], "right") - 1
    count = len(arrays["work_token"]) - 1
    fresh = np.append(True, (np.diff(arrays["gram_hash"]) != 0) | (np.diff(work) != 0))[: len(work)]
    distinct = np.bincount(work, fresh, minlength=count) / np.maximum(np.bincount(work, minlength=count), 1)
    distinct[np.bincount(work, minlength=count) == 0] = 1
    sentences = np.diff(arrays["work_sentence"])
    return quarantine(coherence, sentences, token_idf, known, arrays["work_token"], distinct)


def _offsets(lengths: list[int]) -> I64:
    return np.concatenate(([0], np.cumsum(np.array(lengths, np.int64)))).astype(np.int64)

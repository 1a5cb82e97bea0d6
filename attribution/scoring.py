"""How likely it is that a piece is owed to a work: three small ONNX models, each asked where it is needed.

The first judges every pair by its words alone. Where that leaves a piece open, sentence vectors are made
and the second judges its pairs again. The third adds what the rest of the output says: whether the
neighbours point to the same work and near the same place in it, how much of the output is explained at all,
and whether anything stands there that nobody writes by chance. A piece is credited to its likeliest work
when that probability reaches the threshold, else to nobody.

Probabilities are rounded to 1e-4 before anything is decided from them: a processor's last bit decides
nothing.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from attribution.background import SCORER_DIR
from attribution.errors import ModelMismatch, ModelMissing
from attribution.features import F32, FEATURES, Piece
from attribution.lexical import I64

CONTEXT = (
    "p", "p_margin", "p_elsewhere", "p_before", "p_after", "explained_by_work", "explained", "runs_of_work",
    "pieces", "near", "rivals_elsewhere", "rank",
    "longest_run_elsewhere", "trigrams_elsewhere", "bigrams_idf_elsewhere", "contained_window_elsewhere",
    "run_words_elsewhere", "trace",
)  # fmt: skip
# What the strongest other piece of the same work shows, by these features: two texts on one subject are a
# little alike everywhere, a text drawn from another has a place or two that give it away.
_ELSEWHERE = ("longest_run", "trigrams", "bigrams_idf", "contained_window", "run_words")
MODELS = ("words.onnx", "vectors.onnx", "context.onnx")
# Pieces whose words leave it open are compared by vectors: their best work's probability from here to there.
OPEN_FROM, OPEN_TO = 0.2, 0.9
FEW_PIECES = 3  # with so few that no run took, all are compared: it costs little, and they have no neighbours
_REMEDY = "install the package again: the scorer's files come with it"


class _Session(Protocol):
    def run(self, output_names: None, input_feed: dict[str, F32], /) -> list[Any]: ...


class Scorer:
    """Feature rows in, probabilities out."""

    def __init__(
        self, words: _Session, vectors: _Session, context: _Session, threshold: float, sha256: str
    ) -> None:
        self._words, self._vectors, self._context = words, vectors, context
        self.threshold, self.sha256 = threshold, sha256

    @staticmethod
    def open(directory: Path | None = None, *, threads: int = 1) -> Scorer:
        """Load the scorer. Raises ModelMissing, or ModelMismatch for a file not as its manifest says."""
        import onnxruntime  # noqa: PLC0415  a heavy import that only an opened engine needs

        folder = directory or SCORER_DIR
        path = folder / "manifest.json"
        if not path.is_file():
            raise ModelMissing(f"{path} is missing", remedy=_REMEDY)
        raw = path.read_bytes()
        manifest: dict[str, Any] = json.loads(raw)
        if tuple(manifest["features"]) != FEATURES or tuple(manifest["context"]) != CONTEXT:
            raise ModelMismatch(f"{path}: made for other features", remedy=_REMEDY)
        sessions: list[_Session] = []
        runtime = cast("Any", onnxruntime)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        for name in MODELS:
            if not (folder / name).is_file():
                raise ModelMissing(f"{folder / name} is missing", remedy=_REMEDY)
            model = (folder / name).read_bytes()
            if hashlib.sha256(model).hexdigest() != manifest["sha256"][name]:
                raise ModelMismatch(f"{folder / name} is not what its manifest says", remedy=_REMEDY)
            sessions.append(runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"]))
        by_words, by_vectors, in_context = sessions
        digest = hashlib.sha256(raw).hexdigest()
        return Scorer(by_words, by_vectors, in_context, float(manifest["threshold"]), digest)

    def by_words(self, rows: F32) -> F32:
        """Return each pair's probability by words alone, rounded to 1e-4."""
        return _run(self._words, rows)

    def by_vectors(self, rows: F32) -> F32:
        """Return each pair's probability by words and vectors, rounded to 1e-4. COSINES must be filled in."""
        return _run(self._vectors, rows)

    def in_context(self, rows: F32, context: F32) -> F32:
        """Return each pair's probability given the whole output, rounded to 1e-4. COSINES are not read."""
        return _run(self._context, np.concatenate([rows, context], axis=1))


def _run(session: _Session, rows: F32) -> F32:
    if not len(rows):
        return np.zeros(0, np.float32)
    found = np.asarray(session.run(None, {"features": rows})[0], np.float64).reshape(-1)
    return np.round(np.clip(found, 0, 1), 4).astype(np.float32)


def left_open(pieces: list[Piece], piece: I64, probability: F32) -> NDArray[np.bool_]:
    """Return which pieces (pieces,) words alone do not decide, from each pair's probability by words."""
    best = np.zeros(len(pieces), np.float32)
    np.maximum.at(best, piece, probability)
    is_free = np.array([one.claim is None for one in pieces], bool)
    has_pair = np.zeros(len(pieces), bool)
    has_pair[piece] = True
    is_few = np.count_nonzero(is_free) <= FEW_PIECES
    return is_free & has_pair & (((best >= OPEN_FROM) | is_few) & (best <= OPEN_TO))


def context_rows(
    pieces: list[Piece], piece: I64, work: I64, sentence: I64, probability: F32, rows: F32
) -> F32:
    """Return what the rest of the output says about each pair: float32 (pairs, len(CONTEXT)).

    rows: the pairs' features; those in COSINES are not read.
    """
    count = len(piece)
    if not count:
        return np.zeros((0, len(CONTEXT)), np.float32)
    names, work_no = np.unique(work, return_inverse=True)
    grid = np.zeros((len(pieces), len(names)), np.float64)  # probability of each work for each piece
    grid[piece, work_no] = probability
    where = np.full((len(pieces), len(names)), -1_000_000, np.int64)
    where[piece, work_no] = sentence
    words = np.array([one.end - one.start for one in pieces], np.float64)
    is_run = np.array([one.claim is not None for one in pieces])
    total = words.sum()
    others = np.maximum(total - words, 1)

    own = grid[piece, work_no]
    best, arg, second = _top2(grid, axis=1)
    rival = np.where(arg[piece] == work_no, second[piece], best[piece])
    col_best, col_arg, col_second = _top2(grid, axis=0)
    elsewhere = np.where(col_arg[work_no] == piece, col_second[work_no], col_best[work_no])
    padded = np.vstack([np.zeros(len(names)), grid, np.zeros(len(names))])
    padded_where = np.vstack([np.full(len(names), -1_000_000), where, np.full(len(names), -1_000_000)])
    before, after = padded[piece, work_no], padded[piece + 2, work_no]
    weighted = (grid * words[:, None]).sum(axis=0)
    by_work = (weighted[work_no] - own * words[piece]) / others[piece]
    all_best = (best * words).sum()
    explained = (all_best - best[piece] * words[piece]) / others[piece]
    run_words = (grid * (words * is_run)[:, None]).sum(axis=0)
    runs = (run_words[work_no] - np.where(is_run[piece], own * words[piece], 0)) / others[piece]
    distance = np.minimum(
        np.abs(padded_where[piece, work_no] - sentence) + 20 * (1 - before),
        np.abs(padded_where[piece + 2, work_no] - sentence) + 20 * (1 - after),
    )
    other_works = explained - by_work
    rank = np.zeros(count)
    order = np.lexsort((-probability, piece))
    first = np.searchsorted(piece[order], piece[order])
    rank[order] = np.arange(count) - first
    columns = [
        own, own - rival, elsewhere, before, after, by_work, explained, runs,
        np.full(count, np.log1p(len(pieces))), 1 / (1 + np.maximum(distance, 0)), other_works, rank,
    ]  # fmt: skip
    shown = np.zeros((len(pieces), len(names)), np.float64)
    for name in _ELSEWHERE:
        shown[piece, work_no] = rows[:, FEATURES.index(name)]
        most, whose, next_most = _top2(shown, axis=0)
        columns.append(np.where(whose[work_no] == piece, next_most[work_no], most[work_no]))
    shown[piece, work_no] = rows[:, FEATURES.index("trigrams")] * words[piece]
    columns.append((shown.sum(axis=0)[work_no] - shown[piece, work_no]) / others[piece])
    return np.round(np.stack(columns, axis=1), 4).astype(np.float32)


def _top2(grid: NDArray[np.float64], axis: int) -> tuple[NDArray[np.float64], I64, NDArray[np.float64]]:
    """Return the largest value along the axis, where it is, and the second (0 when there is one only)."""
    arg = grid.argmax(axis=axis).astype(np.int64)
    best: NDArray[np.float64] = np.max(grid, axis=axis)
    if grid.shape[axis] < 2:
        return best, arg, np.zeros_like(best)
    second: NDArray[np.float64] = np.take(np.partition(grid, -2, axis=axis), -2, axis=axis)
    return best, arg, second

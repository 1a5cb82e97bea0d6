"""How likely it is that a piece is owed to a work: two small ONNX models, the second seeing the whole output.

The first scores each pair on its own. The second adds what the rest of the output says: whether the
neighbours
point to the same work, and near the same place in it; how much of the output is explained at all. A piece is
credited to its likeliest work when that probability reaches a threshold, else to nobody.

Probabilities are rounded to 1e-4 before anything is decided from them: a processor's last bit decides
nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
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
)  # fmt: skip
SHORT_PIECES = 2
_REMEDY = "install the package again: the scorer's files come with it"


class _Session(Protocol):
    def run(self, output_names: None, input_feed: dict[str, F32], /) -> list[Any]: ...


class Scorer:
    """Feature rows in, probabilities out."""

    def __init__(
        self, pair: _Session, context: _Session, thresholds: Mapping[str, float], sha256: str
    ) -> None:
        self._pair, self._context, self.sha256 = pair, context, sha256
        self._thresholds = thresholds

    def threshold(self, pieces: int) -> float:
        """Return the probability from which a piece is credited, in an output of so many pieces.

        Two, because the second model errs two ways: a lone statement has no neighbours to speak for it and
        is likelier than it looks; a long answer's pieces speak for each other and are less likely.
        """
        return self._thresholds["short" if pieces <= SHORT_PIECES else "long"]

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
        for name in ("scorer.onnx", "context.onnx"):
            if not (folder / name).is_file():
                raise ModelMissing(f"{folder / name} is missing", remedy=_REMEDY)
            model = (folder / name).read_bytes()
            if hashlib.sha256(model).hexdigest() != manifest["sha256"][name]:
                raise ModelMismatch(f"{folder / name} is not what its manifest says", remedy=_REMEDY)
            sessions.append(runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"]))
        return Scorer(sessions[0], sessions[1], manifest["threshold"], hashlib.sha256(raw).hexdigest())

    def pair(self, rows: F32) -> F32:
        """Return each pair's probability on its own, rounded to 1e-4."""
        return _run(self._pair, rows)

    def in_context(self, rows: F32, context: F32) -> F32:
        """Return each pair's probability given the whole output, rounded to 1e-4."""
        return _run(self._context, np.concatenate([rows, context], axis=1))


def _run(session: _Session, rows: F32) -> F32:
    if not len(rows):
        return np.zeros(0, np.float32)
    found = np.asarray(session.run(None, {"features": rows})[0], np.float64).reshape(-1)
    return np.round(np.clip(found, 0, 1), 4).astype(np.float32)


def context_rows(pieces: list[Piece], piece: I64, work: I64, sentence: I64, probability: F32) -> F32:
    """Return what the rest of the output says about each pair: float32 (pairs, len(CONTEXT))."""
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
    return np.round(np.stack(columns, axis=1), 4).astype(np.float32)


def _top2(grid: NDArray[np.float64], axis: int) -> tuple[NDArray[np.float64], I64, NDArray[np.float64]]:
    """Return the largest value along the axis, where it is, and the second (0 when there is one only)."""
    arg = grid.argmax(axis=axis).astype(np.int64)
    best: NDArray[np.float64] = np.max(grid, axis=axis)
    if grid.shape[axis] < 2:
        return best, arg, np.zeros_like(best)
    second: NDArray[np.float64] = np.take(np.partition(grid, -2, axis=axis), -2, axis=axis)
    return best, arg, second

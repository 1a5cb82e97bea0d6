"""Sentence vectors on disk: eight bits a number, memory-mapped, filled while an index is built.

Encoding every sentence is most of the cost of a build, so the rows are written as they are made with a mark
of how far they are good: a build that was cut goes on from there. A row is the unit vector times its own
scale to int8; the cosine of two such rows is off by less than .01.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attribution.errors import IndexCorrupt

REMEDY = "build the index again: endcredits index build"


def pack(rows: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """Return unit rows (n, dim) as int8 with one float16 scale a row."""
    peak: NDArray[np.float32] = np.maximum(np.max(np.abs(rows), axis=1), np.float32(1e-6))
    return np.round(rows * (127.0 / peak)[:, None]).astype(np.int8), (peak / 127.0).astype(np.float16)


class VectorWriter:
    """Rows of a growing index; `done` says how many a cut build had already made."""

    def __init__(self, directory: Path, rows: int, dim: int, key: str) -> None:
        self._mark = directory / "vectors.progress"
        self._key = key
        self.done = self._resume(directory, rows, dim)
        mode = "r+" if self.done else "w+"
        if rows == 0:
            np.save(directory / "vectors.npy", np.zeros((0, dim), np.int8))
            np.save(directory / "scales.npy", np.zeros(0, np.float16))
            self._rows, self._scales = np.zeros((0, dim), np.int8), np.zeros(0, np.float16)
            return
        self._rows = np.lib.format.open_memmap(directory / "vectors.npy", mode, np.int8, (rows, dim))
        self._scales = np.lib.format.open_memmap(directory / "scales.npy", mode, np.float16, (rows,))

    def _resume(self, directory: Path, rows: int, dim: int) -> int:
        try:
            mark = json.loads(self._mark.read_text())
            shape = np.load(directory / "vectors.npy", mmap_mode="r").shape
        except (OSError, ValueError):
            return 0
        return int(mark["done"]) if mark["key"] == self._key and shape == (rows, dim) else 0

    def put(self, at: NDArray[np.int64], rows: NDArray[np.int8], scales: NDArray[np.float16]) -> None:
        """Write packed rows at these places."""
        self._rows[at] = rows
        self._scales[at] = scales

    def mark(self, done: int) -> None:
        """Say that the first `done` pieces of work need not be made again, after they are on disk."""
        for part in (self._rows, self._scales):
            if isinstance(part, np.memmap):
                part.flush()
        temporary = self._mark.with_suffix(".new")
        temporary.write_text(json.dumps({"key": self._key, "done": done}))
        temporary.replace(self._mark)
        self.done = done

    def close(self) -> None:
        """Drop the mark: the rows are whole."""
        self.mark(self.done)
        self._mark.unlink()


class Vectors:
    """The rows of a finished index."""

    def __init__(self, directory: Path) -> None:
        self.rows: NDArray[np.int8] = np.load(directory / "vectors.npy", mmap_mode="r")
        self.scales: NDArray[np.float16] = np.load(directory / "scales.npy", mmap_mode="r")
        if len(self.rows) != len(self.scales):
            raise IndexCorrupt(f"{directory}: vectors and scales differ in length", remedy=REMEDY)

    def cosines(
        self, sentences: NDArray[np.int64], queries: NDArray[np.float32], query_of: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return the cosine of each sentence (n,) with its own query, queries[query_of] (n, dim)."""
        if not len(sentences):
            return np.zeros(0, np.float32)
        rows = self.rows[sentences].astype(np.float32)
        cosine = np.einsum("nd,nd->n", rows, queries[query_of]) * self.scales[sentences].astype(np.float32)
        return np.asarray(cosine, np.float32)

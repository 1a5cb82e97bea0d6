"""Sentence vectors on disk: eight bits a number, memory-mapped, filled while an index is built.

Encoding every sentence is most of the cost of a build, so the rows are written as they are made with a mark
of how far they are good: a build that was cut goes on from there. A row is the unit vector times its own
scale to int8; the cosine of two such rows is off by less than .01.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attribution.errors import IndexCorrupt
from attribution.exact import product

QUERY_STEPS = 4096
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


def mapped(path: Path) -> NDArray[Any]:
    """Return an array mapped into memory, shared with whoever maps it too.

    As a plain array: every slice of a memmap object costs more than the slice.
    """
    return np.load(path, mmap_mode="r").view(np.ndarray)


class Vectors:
    """The rows of a finished index."""

    def __init__(self, directory: Path) -> None:
        self.rows: NDArray[np.int8] = mapped(directory / "vectors.npy")
        self.scales: NDArray[np.float16] = mapped(directory / "scales.npy")
        if len(self.rows) != len(self.scales):
            raise IndexCorrupt(f"{directory}: vectors and scales differ in length", remedy=REMEDY)

    def cosines(self, sentences: NDArray[np.int64], queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the cosine (n, q) of each sentence (n,) with each query, unit rows (q, dim).

        Queries are taken in steps of 2^-12, rows are whole numbers: every sum stays a whole number below
        2^24 (|row| <= 127 sqrt(dim), |query| = 2^12), exact in float32 in whatever order a kernel adds.
        """
        rows = self.rows[sentences].astype(np.float32)
        sums = product(rows, np.round(queries * np.float32(QUERY_STEPS)))
        scales: NDArray[np.float32] = self.scales[sentences].astype(np.float32) / np.float32(QUERY_STEPS)
        return np.asarray(sums * scales[:, None], np.float32)

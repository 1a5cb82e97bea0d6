"""How common a word is in general, before any catalogue says so.

A catalogue of three works cannot know that "the" is common, and a creator could make any word look rare or
common by what they register. So rarity starts from a table of general text (public-domain books and openly
licensed abstracts) and the catalogue's own counts are added to it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attribution.errors import ModelMissing

SCORER_DIR = Path(__file__).parent / "models" / "scorer"


class Background:
    """Passage counts of known words: hashes uint64 sorted, counts, and the number of passages counted."""

    def __init__(
        self, hashes: NDArray[np.uint64], counts: NDArray[np.int64], passages: int, sha256: str
    ) -> None:
        self._hashes, self._counts, self._passages, self.sha256 = hashes, counts, passages, sha256

    @staticmethod
    def open(directory: Path | None = None) -> Background:
        """Read background.npz of the scorer's folder. Raises ModelMissing."""
        path = (directory or SCORER_DIR) / "background.npz"
        if not path.is_file():
            raise ModelMissing(
                f"{path} is missing", remedy="install the package again, or run training/train_scorer.py"
            )
        with np.load(path) as table:
            hashes, counts, passages = (
                table["hashes"],
                table["counts"].astype(np.int64),
                int(table["passages"]),
            )
        return Background(hashes, counts, passages, hashlib.sha256(path.read_bytes()).hexdigest())

    def idf(
        self, hashes: NDArray[np.uint64], passages: int, counts: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """Return log(1 + (N - n + .5) / (n + .5)) over this table's and a catalogue's passages together."""
        found = np.zeros(len(hashes), np.int64) if counts is None else counts.astype(np.int64).copy()
        if len(self._hashes) and len(hashes):
            at = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
            found += np.where(self._hashes[at] == hashes, self._counts[at], 0)
        total = self._passages + passages
        return np.log1p(np.maximum(total - found, 0) / (found + 0.5)).astype(np.float32)

from __future__ import annotations

import numpy as np
import pytest

from attribution.errors import IndexCorrupt
from attribution.vectors import Vectors, VectorWriter, pack


def unit_rows(count):
    rows = np.random.default_rng(1).standard_normal((count, 384)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_eight_bits_keep_a_cosine_to_a_hundredth(tmp_path):
    rows = unit_rows(20)
    writer = VectorWriter(tmp_path, 20, 384, "key")
    writer.put(np.arange(20), *pack(rows))
    writer.close()
    found = Vectors(tmp_path).cosines(np.arange(20), rows[:3])
    assert np.abs(found - rows @ rows[:3].T).max() < 0.01


def test_a_cosine_is_the_same_to_the_last_bit_whatever_is_asked_beside_it(tmp_path):
    rows = unit_rows(300)
    writer = VectorWriter(tmp_path, 300, 384, "key")
    writer.put(np.arange(300), *pack(rows))
    writer.close()
    vectors = Vectors(tmp_path)
    together = vectors.cosines(np.arange(300), rows[:40])
    for number in (0, 7, 39):
        alone = vectors.cosines(np.arange(299, -1, -1), rows[number : number + 1])[::-1, 0]
        assert np.array_equal(alone, together[:, number])


def test_progress_is_kept_for_the_same_texts_only(tmp_path):
    VectorWriter(tmp_path, 4, 384, "key").mark(3)
    assert VectorWriter(tmp_path, 4, 384, "key").done == 3
    assert VectorWriter(tmp_path, 4, 384, "another").done == 0
    assert not list(tmp_path.glob("*.new"))


def test_no_rows_are_an_index_too(tmp_path):
    VectorWriter(tmp_path, 0, 384, "key").close()
    assert Vectors(tmp_path).cosines(np.zeros(0, np.int64), unit_rows(1)).shape == (0, 1)


def test_rows_without_their_scales_are_corrupt(tmp_path):
    np.save(tmp_path / "vectors.npy", np.zeros((2, 384), np.int8))
    np.save(tmp_path / "scales.npy", np.zeros(1, np.float16))
    with pytest.raises(IndexCorrupt, match="endcredits index build"):
        Vectors(tmp_path)

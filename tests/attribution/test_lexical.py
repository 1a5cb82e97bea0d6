from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from attribution.lexical import Run, bm25_impacts, diagonals, grams, named, ranges
from attribution.normalise import words


def test_a_fingerprint_is_its_words_in_their_order():
    one, other = words("a b c d e f").hashes, words("b a c d e f").hashes
    assert grams(one)[1] != grams(other)[1]
    assert grams(one)[0] == grams(words("A b, c d e").hashes)[0]
    assert len(grams(one[:4])) == 0


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 6)), max_size=10))
def test_ranges_are_what_a_loop_would_give(pairs):
    starts = np.array([start for start, _ in pairs], np.int64)
    ends = np.array([start + length for start, length in pairs], np.int64)
    flat, owner = ranges(starts, ends)
    expected = [(at, row) for row, (start, length) in enumerate(pairs) for at in range(start, start + length)]
    assert list(zip(flat.tolist(), owner.tolist(), strict=True)) == expected


def test_hits_in_step_are_one_run():
    found = diagonals(np.array([3, 4, 5, 9]), np.array([103, 104, 105, 50]), 5, 100)
    assert sorted(found, key=lambda run: run.start) == [Run(3, 10, 103), Run(9, 14, 50)]
    assert diagonals(np.zeros(0, np.int64), np.zeros(0, np.int64), 5, 100) == []


def test_a_term_never_adds_more_than_its_bound():
    tf = np.array([1, 5, 500], np.float32)
    impact = bm25_impacts(tf, np.array([80, 80, 80], np.float32), np.array([2, 2, 2], np.float32))
    assert (impact < 2 * 2.2).all()
    assert (np.diff(impact) > 0).all()


@given(st.lists(st.integers(-5, 5), max_size=30))
def test_distinct_values_are_named_as_numpy_names_them(values):
    given_ = np.array(values, np.int64)
    for mine, numpys in zip(
        named(given_), np.unique(given_, return_index=True, return_inverse=True), strict=True
    ):
        assert np.array_equal(mine, numpys)

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attribution.allocation import UNATTRIBUTED, to_ppm
from attribution.terms import PPM


@given(
    st.dictionaries(st.text(min_size=1, max_size=5), st.integers(0, 10**6), max_size=12),
    st.integers(0, 10**6),
)
def test_shares_sum_to_a_million_and_none_is_off_by_a_ppm(won, rest):
    total = sum(won.values()) + rest
    ppm = to_ppm(won, total)
    assert sum(ppm.values()) == PPM
    for work, count in won.items():
        assert total == 0 or abs(ppm.get(work, 0) - count * PPM / total) < 1


def test_thirds_give_the_odd_ppm_by_hash_and_not_by_place():
    assert to_ppm({"a": 1, "b": 1, "c": 1}, 3) == to_ppm({"c": 1, "b": 1, "a": 1}, 3)


def test_no_words_at_all_are_nobodys():
    assert to_ppm({}, 0) == {UNATTRIBUTED: PPM}


def test_more_words_won_than_there_are_is_refused():
    with pytest.raises(ValueError, match="2 words won of 1"):
        to_ppm({"a": 2}, 1)

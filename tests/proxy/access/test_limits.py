"""Rates as values: what a bucket gives, when, and that nobody gets more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.access.limits import (
    MINUTE_US,
    UNLIMITED,
    Limits,
    filled,
    full,
    given_back,
    month_of,
    origin_of,
    origins_of,
    share,
    take,
)

SECOND_US = 1_000_000


def test_a_minutes_worth_may_be_taken_at_once_and_then_one_at_a_time():
    bucket = full(60, 0)
    for _ in range(60):
        bucket, wait_us = take(bucket, 60, 1, 0)
        assert wait_us == 0
    bucket, wait_us = take(bucket, 60, 1, 0)
    assert wait_us == SECOND_US
    bucket, wait_us = take(bucket, 60, 1, SECOND_US)
    assert wait_us == 0
    assert take(bucket, 60, 1, SECOND_US)[1] == SECOND_US


@given(
    st.integers(1, 10_000),
    st.lists(st.tuples(st.integers(0, 40 * SECOND_US), st.integers(1, 500)), max_size=60),
)
def test_no_sequence_of_requests_gets_more_than_its_rate_allows(per_min, asked):
    bucket, now_us, given_out, largest = full(per_min, 0), 0, 0, 0
    for pause_us, amount in asked:
        now_us += pause_us
        bucket, wait_us = take(bucket, per_min, amount, now_us)
        if not wait_us:
            given_out += amount
            largest = max(largest, amount)
    assert given_out * MINUTE_US <= per_min * (MINUTE_US + now_us) + max(0, largest - per_min) * MINUTE_US


@given(st.integers(1, 10_000), st.integers(0, 10_000), st.integers(1, 20_000), st.integers(0, MINUTE_US))
def test_who_waits_as_long_as_told_is_let_through_and_not_before(per_min, before, amount, now_us):
    bucket, _ = take(full(per_min, 0), per_min, before, 0)
    bucket, wait_us = take(bucket, per_min, amount, now_us)
    if wait_us:
        assert take(bucket, per_min, amount, now_us + wait_us)[1] == 0
        assert take(bucket, per_min, amount, now_us + wait_us - 1)[1] > 0


def test_more_than_a_minutes_worth_passes_when_the_bucket_is_full_and_the_next_waits_for_it():
    bucket, wait_us = take(full(100, 0), 100, 250, 0)
    assert wait_us == 0
    assert take(bucket, 100, 1, 0)[1] > 90 * SECOND_US


def test_what_was_not_used_is_given_back_and_what_was_used_beyond_is_taken():
    bucket, _ = take(full(100, 0), 100, 80, 0)
    assert given_back(bucket, 100, 30).level == 50 * MINUTE_US
    assert given_back(bucket, 100, -50).level == -30 * MINUTE_US
    assert given_back(bucket, 100, 1_000).level == 100 * MINUTE_US


def test_a_clock_that_steps_back_takes_nothing_away():
    bucket, _ = take(full(60, 5 * SECOND_US), 60, 10, 5 * SECOND_US)
    assert filled(bucket, 60, 0) == bucket


@pytest.mark.parametrize(("per_min", "workers", "part"), [(100, 4, 25), (10, 4, 2), (3, 4, 1), (0, 4, 0)])
def test_workers_share_a_rate(per_min, workers, part):
    assert share(per_min, workers) == part


def test_a_key_ends_when_its_time_comes():
    assert not UNLIMITED.has_expired(10**18)
    assert not Limits(expires_us=5).has_expired(4)
    assert Limits(expires_us=5).has_expired(5)


def test_months_are_utc():
    assert month_of(1_700_000_000_000_000) == "2023-11"
    assert month_of(1_701_388_799_999_999) == "2023-11"
    assert month_of(1_701_388_800_000_000) == "2023-12"


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://App.Example", "https://app.example"), ("http://localhost:3000", "http://localhost:3000"), ("null", None),
        ("https://", None), ("https://a/b", None), ("ftp://a", None), ("https://*.a", None), ("https://u@a", None), ("*", None),
    ],
)  # fmt: skip
def test_an_origin_is_scheme_host_and_port_and_nothing_else(text, origin):
    assert origin_of(text) == origin


def test_a_list_with_what_is_no_origin_is_refused_by_name():
    assert origins_of(["https://a", "https://A"]) == ("https://a",)
    with pytest.raises(ValueError, match="b/c"):
        origins_of(["https://a", "https://b/c"])

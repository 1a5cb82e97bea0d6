from __future__ import annotations

import datetime as dt
import re
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.clock import ALPHABET, RandomIds, SystemClock, base32, iso_utc, parse_time_us

times_us = st.integers(0, 4_102_444_800_000_000)  # 1970 to 2100


def test_an_id_is_its_prefix_and_26_lower_case_base32_characters():
    assert re.fullmatch(r"rct_[a-z2-7]{26}", RandomIds().new("rct"))


def test_ids_do_not_repeat():
    ids = RandomIds()
    assert len({ids.new("w") for _ in range(10_000)}) == 10_000


FORKING = """
import os
from proxy.clock import RandomIds
read, write = os.pipe()
RandomIds().new("w")
if os.fork() == 0:
    os.write(write, RandomIds().new("w").encode())
    os._exit(0)
theirs = os.read(read, 64).decode()[12:]  # the random part alone
print(theirs in {RandomIds().new("w")[12:] for _ in range(200)})
"""


def test_a_forked_process_draws_ids_of_its_own():
    ran = subprocess.run([sys.executable, "-c", FORKING], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"


@given(st.integers(0, 2**130 - 1))
def test_a_number_is_written_five_bits_a_character(number):
    assert (
        sum(ALPHABET.index(letter) << 5 * place for place, letter in enumerate(base32(number)[::-1]))
        == number
    )


@given(st.integers(0, 2**130 - 1), st.integers(0, 2**130 - 1))
def test_ids_sort_as_the_numbers_they_write(one, other):
    assert (base32(one) < base32(other)) == (one < other)


def test_ids_born_later_sort_later():
    ids = RandomIds()
    first = ids.new("rct")
    born_ms = time.time_ns() // 1_000_000
    while time.time_ns() // 1_000_000 <= born_ms:  # ids of one millisecond have no order among themselves
        pass
    assert first < ids.new("rct")


def test_the_system_clock_tells_microseconds_of_utc():
    assert abs(SystemClock().now_us() - dt.datetime.now(dt.UTC).timestamp() * 1e6) < 5_000_000


def test_the_monotonic_clock_never_steps_back():
    clock = SystemClock()
    assert clock.monotonic_s() <= clock.monotonic_s()


@given(times_us)
def test_a_printed_time_reads_back_to_the_microsecond(time_us):
    assert parse_time_us(iso_utc(time_us)) == time_us


@given(times_us, times_us)
def test_printed_times_sort_as_the_times_do(one, other):
    assert (iso_utc(one) < iso_utc(other)) == (one < other)


@pytest.mark.parametrize(
    ("text", "time_us"),
    [
        ("1970-01-02", 86_400_000_000),
        ("1970-01-01T00:00:01", 1_000_000),
        ("1970-01-01T01:00:01+01:00", 1_000_000),
        (" 1970-01-01T00:00:00.000007Z\n", 7),
    ],
)
def test_a_time_without_a_zone_is_utc(text, time_us):
    assert parse_time_us(text) == time_us


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "2026-02-30"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError, match=r".*"):
        parse_time_us(text)

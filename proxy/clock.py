"""Time and ids, the two sources of non-determinism, passed in so that tests can hold them still.

Times are microseconds since the epoch, UTC, as integers: they sort, they store alike on SQLite and
PostgreSQL, and no timezone can be lost on the way. Ids are 26 base32 characters (130 bits, of which 48 are
the millisecond, so that they sort by birth and indexes stay warm), after a prefix that says what they name.
"""

from __future__ import annotations

import datetime as dt
import os
import time
from typing import Protocol

# base32's letters in ASCII order, so that ids sort as text in the order of their birth.
ALPHABET = "234567abcdefghijklmnopqrstuvwxyz"
RANDOM_BYTES = 11  # of one id, of which 82 bits are taken
_PAIRS = [one + other for one in ALPHABET for other in ALPHABET]
_random: list[bytes] = []  # drawn for the next ids: asking the kernel costs more than all the rest of an id
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_random.clear)


class Clock(Protocol):
    """Where the time comes from."""

    def now_us(self) -> int:
        """Return microseconds since the epoch, UTC."""
        ...

    def monotonic_s(self) -> float:
        """Return seconds on a clock that never steps; only differences mean anything."""
        ...


class Ids(Protocol):
    """Where new ids come from."""

    def new(self, prefix: str) -> str:
        """Return `prefix` + "_" + 26 lower-case base32 characters, unique for ever."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic_s(self) -> float:
        return time.monotonic()


class RandomIds:
    """Time-ordered random ids: 48 bits of milliseconds, 82 random bits."""

    def new(self, prefix: str) -> str:
        number = ((time.time_ns() // 1_000_000) & (2**48 - 1)) << 82
        number |= int.from_bytes(_drawn(), "big") & (2**82 - 1)
        return prefix + "_" + base32(number)


def _drawn() -> bytes:
    """Return RANDOM_BYTES that nobody else gets, in whichever thread."""
    try:
        return _random.pop()
    except IndexError:
        data = os.urandom(64 * RANDOM_BYTES)
        _random.extend(data[at : at + RANDOM_BYTES] for at in range(RANDOM_BYTES, len(data), RANDOM_BYTES))
        return data[:RANDOM_BYTES]


def base32(number: int) -> str:
    """Return a 130-bit integer as 26 base32 characters, most significant first."""
    return "".join([_PAIRS[(number >> shift) & 1023] for shift in range(120, -1, -10)])


def iso_utc(time_us: int) -> str:
    """Return RFC 3339 text with microseconds and Z, the one form times are printed in for machines."""
    moment = dt.datetime.fromtimestamp(time_us // 1_000_000, dt.UTC).replace(microsecond=time_us % 1_000_000)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time_us(text: str) -> int:
    """Return microseconds for a date or an RFC 3339 time; a time without a zone is taken as UTC.

    Raises ValueError for anything else.
    """
    moment = dt.datetime.fromisoformat(text.strip())
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    delta = moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds

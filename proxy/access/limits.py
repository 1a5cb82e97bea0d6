"""What a key may use and how much of it, as values; no store, no clock, no web.

A key has its models and its end; an app has its rates, its monthly budget, its origins and the rest, so that
a new key changes none of them. Rates are token buckets in integers: `per_min` is both what a minute brings
and what a burst may take at once. A bucket may fall below empty when an answer was longer than foreseen; the
next request waits for it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace

MINUTE_US = 60_000_000  # one token is this many units, so that a microsecond brings `per_min` of them


@dataclass(frozen=True, slots=True)
class Limits:
    """What one key may use. 0, None and () are no limit.

    models: patterns, * matches any run of characters. budget_grains: for each calendar month, UTC, in
    `currency`. origins: pages whose scripts may read our answers ("https://app.example"). audited: a
    sample of its exchanges may be kept for the causal audit.
    """

    models: tuple[str, ...] = ()
    expires_us: int | None = None
    requests_per_min: int = 0
    tokens_per_min: int = 0
    budget_grains: int | None = None
    currency: str = ""
    origins: tuple[str, ...] = ()
    known_endpoints_only: bool = False
    audited: bool = False

    def has_expired(self, now_us: int) -> bool:
        """Tell whether the key's time is over."""
        return self.expires_us is not None and now_us >= self.expires_us


UNLIMITED = Limits()


@dataclass(frozen=True, slots=True)
class Bucket:
    """What is left, in units of a MINUTE_US-th of a token, as of `at_us`."""

    level: int
    at_us: int


def full(per_min: int, now_us: int) -> Bucket:
    """Return a bucket that nobody has taken from."""
    return Bucket(per_min * MINUTE_US, now_us)


def filled(bucket: Bucket, per_min: int, now_us: int) -> Bucket:
    """Return the bucket as it is now."""
    gone_us = max(0, now_us - bucket.at_us)  # a clock that steps back takes nothing away
    return Bucket(min(bucket.level + gone_us * per_min, per_min * MINUTE_US), max(now_us, bucket.at_us))


def take(bucket: Bucket, per_min: int, amount: int, now_us: int) -> tuple[Bucket, int]:
    """Return the bucket after `amount` was taken, and 0; or as it is, and the microseconds to wait.

    More than a whole minute's worth is let through when the bucket is full, and leaves it below empty.
    """
    now = filled(bucket, per_min, now_us)
    needed = min(amount, per_min) * MINUTE_US
    if now.level >= needed:
        return replace(now, level=now.level - amount * MINUTE_US), 0
    return now, -(-(needed - now.level) // per_min)


def given_back(bucket: Bucket, per_min: int, amount: int) -> Bucket:
    """Return the bucket with `amount` more in it; a negative one is taken, below empty if it must be."""
    return replace(bucket, level=min(bucket.level + amount * MINUTE_US, per_min * MINUTE_US))


def share(per_min: int, workers: int) -> int:
    """Return one worker's part of a rate: together they never give more, but for one each."""
    return max(1, per_min // workers) if per_min else 0


def month_of(now_us: int) -> str:
    """Return the calendar month, UTC, as "2026-11"."""
    return dt.datetime.fromtimestamp(now_us // 1_000_000, dt.UTC).strftime("%Y-%m")


def origin_of(text: str) -> str | None:
    """Return an origin as browsers send it (scheme, host, port if it is unusual), None for what is none."""
    scheme, _, host = text.strip().lower().partition("://")
    is_plain = host.isascii() and host.isprintable() and not set(host) & set("/?#@ ,;*")
    return f"{scheme}://{host}" if scheme in {"http", "https"} and host and is_plain else None


def origins_of(texts: Sequence[str]) -> tuple[str, ...]:
    """Return the origins in `texts`. Raises ValueError naming one that is none."""
    found: list[str] = []
    for text in texts:
        origin = origin_of(text)
        if origin is None:
            raise ValueError(text)
        found.append(origin)
    return tuple(dict.fromkeys(found))

"""What can be said was generated."""

from __future__ import annotations

from proxy.wire.output import NOTHING, TokenCounts


def test_an_explicit_zero_is_not_the_same_as_no_word():
    assert TokenCounts(0, 0) != TokenCounts()


def test_nothing_says_nothing():
    assert (NOTHING.texts, NOTHING.finished, NOTHING.counts, NOTHING.usage_only) == ((), (), None, False)

from __future__ import annotations

import pytest

from attribution.terms import PPM, Attribution, Share, SourceWork


def test_shares_that_do_not_sum_cannot_exist():
    Attribution((Share("w", 400_000, ()),), 600_000, 10, "method")
    with pytest.raises(ValueError, match="1,000,000"):
        Attribution((Share("w", 400_000, ()),), PPM, 10, "method")


def test_an_upheld_claim_outranks_a_verified_identifier_and_that_outranks_being_first():
    first = SourceWork("first", "x", 1)
    verified = SourceWork("verified", "x", 2, standing=1)
    upheld = SourceWork("upheld", "x", 3, standing=2)
    ranked = sorted([first, verified, upheld], key=lambda work: work.precedence)
    assert [work.work_id for work in ranked] == ["upheld", "verified", "first"]


def test_a_standing_that_nobody_defined_cannot_exist():
    with pytest.raises(ValueError, match="standing 3"):
        SourceWork("a", "x", standing=3)

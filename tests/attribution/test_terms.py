from __future__ import annotations

import pytest

from attribution.terms import PPM, Attribution, Share


def test_shares_that_do_not_sum_cannot_exist():
    Attribution((Share("w", 400_000, ()),), 600_000, 10, "method")
    with pytest.raises(ValueError, match="1,000,000"):
        Attribution((Share("w", 400_000, ()),), PPM, 10, "method")

from __future__ import annotations

import numpy as np

from attribution.exact import in_steps, product


def test_a_product_in_parts_is_the_product():
    left = np.random.default_rng(1).integers(0, 9, (700, 300)).astype(np.float32)
    for columns in (1, 2, 40):
        right = left[:columns] * np.float32(0.25)
        assert np.array_equal(product(left, right), left @ right.T)


def test_sums_of_steps_are_the_same_in_any_order():
    values = in_steps(np.random.default_rng(1).random(500).astype(np.float32) * 16)
    assert len({np.float32(np.cumsum(order, dtype=np.float32)[-1]) for order in (values, values[::-1])}) == 1

"""Sums that are the same in whatever order they are made, and products that stay on one thread.

A share must not depend on what else was asked in the same breath, nor on how a processor's kernels cut a
product into lanes. So what is summed is rounded first, to steps so coarse that float32 holds every sum.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLAS_ALONE_MAX = 4 << 16  # multiplications of a product that OpenBLAS does on one thread
BLAS_VECTOR_ALONE_MAX = 9_000  # the same of a matrix and one vector


def in_steps(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Round to steps of 2^-10: sums below 2^14 are then exact in float32, so their order decides nothing."""
    return np.asarray(np.round(values * np.float32(1024)) / np.float32(1024), np.float32)


def product(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return left @ right.T, row blocks small enough for BLAS to leave them on the calling thread.

    On its own threads it would spin there while the event loop wants the core, for a product of
    microseconds. Ours are exact (`in_steps`), so how they are cut decides nothing.
    """
    inner, columns = right.shape[1], len(right)
    alone = BLAS_ALONE_MAX if columns > 1 else BLAS_VECTOR_ALONE_MAX
    step = max(alone // max(inner * columns, 1), 1)
    if len(left) <= step:
        return left @ right.T
    result = np.empty((len(left), columns), np.float32)
    turned = right.T
    for at in range(0, len(left), step):
        np.matmul(left[at : at + step], turned, out=result[at : at + step])
    return result

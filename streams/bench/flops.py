"""The rate of matrix products, which bounds a transformer."""

from __future__ import annotations

import torch

from encoders.models.device import Placement
from streams.bench.timing import seconds

MATMULS = 8


def matmul_gflops(placement: Placement, size: int) -> float:
    """Measure plain products of square matrices on all threads.

    Parameters
    ----------
    placement : Placement
        The device and the number format.
    size : int
        Rows and columns of each matrix.

    Returns
    -------
    float
        In 1e9 operations a second.
    """
    dtype = getattr(torch, placement.dtype)
    left, right = (torch.ones(size, size, dtype=dtype, device=placement.device) for _ in range(2))

    product_of = torch._int_mm if dtype is torch.int8 else torch.matmul

    def multiply(times: int) -> float:
        for _ in range(times):
            product = product_of(left, right)
        return float(product[0, 0])  # waits for a GPU

    multiply(1)  # the first call allocates and chooses kernels
    return 2 * size**3 * MATMULS / seconds(multiply, MATMULS) / 1e9

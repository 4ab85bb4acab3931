"""The steps of a fine-tuning: which groups each learns from, and at which learning rate. Knows no model."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ranker.train.query_groups import QueryGroups

WARM_UP = 0.1
BATCH_GROUPS = 8


def batches(training: QueryGroups, epochs: int, seed: int) -> list[npt.NDArray[np.intp]]:
    """Return the indices of the groups of each step, each epoch in another order."""
    orders = [np.random.default_rng([seed, epoch]).permutation(training.learnable) for epoch in range(epochs)]
    order = np.concatenate([np.empty(0, np.intp), *orders])
    return [order[begin : begin + BATCH_GROUPS] for begin in range(0, len(order), BATCH_GROUPS)]


def rate_factor(step: int, steps: int) -> float:
    """Return the factor of the learning rate: linear warm-up, then linear decay to 0."""
    warm = max(1, round(WARM_UP * steps))
    return min((step + 1) / warm, (steps - step) / max(1, steps - warm))


def evenly_spaced(count: int, limit: int) -> npt.NDArray[np.intp]:
    """Return at most `limit` of the indices below `count`."""
    return np.unique(np.linspace(0, max(0, count - 1), min(count, limit)).astype(np.intp))

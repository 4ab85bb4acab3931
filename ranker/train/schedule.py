"""The steps of a fine-tuning: which groups each learns from, and at which learning rate. Knows no model."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ranker.train.query_groups import QueryGroups

WARM_UP = 0.1
BATCH_GROUPS = 8
FEWEST_STEPS = 50
"""Where there is time for fewer, a step learns from fewer groups; chosen by us: AdamW moves a weight by about its
learning rate a step, however many groups that learns from."""


def order_of(training: QueryGroups, epochs: int, seed: int) -> npt.NDArray[np.intp]:
    """Return the indices of the groups in the order of learning, each epoch in another one."""
    orders = [np.random.default_rng([seed, epoch]).permutation(training.learnable) for epoch in range(epochs)]
    return np.concatenate([np.empty(0, np.intp), *orders])


def batches(order: npt.NDArray[np.intp], size: int = BATCH_GROUPS) -> list[npt.NDArray[np.intp]]:
    """Return the indices of the groups of each step."""
    return [order[begin : begin + size] for begin in range(0, len(order), size)]


def batch_size(groups: float, fewest: int = 1) -> int:
    """Return how many groups a step learns from, if there is time for so many groups in all.

    >>> batch_size(1_000), batch_size(200), batch_size(20)
    (8, 4, 1)
    """
    return int(np.clip(groups // FEWEST_STEPS, min(fewest, BATCH_GROUPS), BATCH_GROUPS))


def rate_factor(step: int, steps: int) -> float:
    """Return the factor of the learning rate: linear warm-up, then linear decay to 0."""
    warm = max(1, round(WARM_UP * steps))
    return min((step + 1) / warm, (steps - step) / max(1, steps - warm))


def evenly_spaced(count: int, limit: int) -> npt.NDArray[np.intp]:
    """Return at most `limit` of the indices below `count`."""
    return np.unique(np.linspace(0, max(0, count - 1), min(count, limit)).astype(np.intp))

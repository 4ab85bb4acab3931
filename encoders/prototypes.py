"""Several interests, not one mean: a user's recent history as a few prototypes.

A mean of two tastes is neither (PinnerSage, Pal et al. 2020, section 3). The prototypes are a pure function of the
state's history, so they cost a state no bytes and do not depend on the order of arrival. Called by `ranker.candidates`.
"""

from __future__ import annotations

import numpy as np

from encoders.interest import TYPES, Decay, Entries, Vector

SAME_INTEREST = 0.5
"""Cosine from which an item joins a prototype; chosen by us: MiniLM puts items of one shop category at .5 to .8."""
MOST = 4


def prototypes(history: Entries, vectors: Vector, decay: Decay) -> Vector:
    """Cluster a history by leaders, newest event first.

    Parameters
    ----------
    history : (n,) `ENTRY`, by time, newest last.
    vectors : (n, dim) float32, unit length, the items' text vectors.

    Returns
    -------
    (k, dim) float32, unit length, k <= `MOST`, the heaviest first. Weights: event type, and decay at the geometric mean
    of the two half-lives, so that a prototype lives longer than a session and shorter than a season.
    """
    if not len(history):
        return np.empty((0, vectors.shape[1]), np.float32)
    half_life_ms = (decay.session_half_life_ms * decay.long_half_life_ms) ** 0.5
    age_ms = history["time_ms"][-1] - history["time_ms"]
    type_weight = np.array([decay.weight(type_) for type_ in TYPES], np.float32)
    weights = type_weight[history["type"]] * np.exp2(-age_ms / half_life_ms).astype(np.float32)
    sums = np.empty((MOST, vectors.shape[1]), np.float32)
    mass = np.zeros(MOST, np.float32)
    count = 0
    for vector, weight in zip(vectors[::-1], weights[::-1], strict=True):
        near = _unit(sums[:count]) @ vector
        if count < MOST and (count == 0 or near.max() < SAME_INTEREST):
            sums[count] = max(weight, np.float32(1e-6)) * vector
            mass[count] = weight
            count += 1
        else:
            nearest = int(near.argmax())
            sums[nearest] += weight * vector
            mass[nearest] += weight
    return _unit(sums[:count][np.argsort(-mass[:count], kind="stable")])


def _unit(vectors: Vector) -> Vector:
    norms = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    unit: Vector = (vectors / norms).astype(np.float32)
    return unit

"""Several interests, not one mean: a user's recent history as a few prototypes.

A mean of two tastes is neither (PinnerSage, Pal et al. 2020, section 3). The prototypes are a pure function of the
state's history, so they cost a state no bytes and do not depend on the order of arrival.
"""

from __future__ import annotations

import numpy as np

from encoders.interest import TYPES, Decay, Entries, Vector

SAME_INTEREST = 0.5
"""Cosine from which an item joins a prototype; chosen by us: MiniLM puts items of one shop category at .5 to .8."""
MOST = 4
_LEAST = 1e-6
"""Weight below which an event's does not fall: years ago is still a direction."""


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
    weights = np.maximum(_LEAST, type_weight[history["type"]] * np.exp2(-age_ms / half_life_ms)).astype(np.float32)
    members = _led(weights[::-1].tolist(), (vectors[::-1] @ vectors[::-1].T).tolist())
    mass = np.zeros((len(members), len(weights)), np.float32)
    for prototype, places in enumerate(members):
        mass[prototype, places] = weights[::-1][places]
    return _unit(mass[np.argsort(-mass.sum(axis=1), kind="stable")] @ vectors[::-1])


def _led(weights: list[float], alike: list[list[float]]) -> list[list[int]]:
    """The places that make each prototype, newest event first, from all inner products: none of this needs a vector."""
    members: list[list[int]] = []
    products: list[list[float]] = []  # of each prototype's sum with every vector
    squares: list[float] = []  # of that sum's length
    for place, weight in enumerate(weights):
        cosines = [own[place] / max(square, 1e-24) ** 0.5 for own, square in zip(products, squares, strict=True)]
        if len(members) < MOST and (not members or max(cosines) < SAME_INTEREST):
            members.append([place])
            products.append([weight * cosine for cosine in alike[place]])
            squares.append(weight * weight)
        else:
            nearest = cosines.index(max(cosines))
            members[nearest].append(place)
            squares[nearest] += 2 * weight * products[nearest][place] + weight * weight
            products[nearest] = [a + weight * b for a, b in zip(products[nearest], alike[place], strict=True)]
    return members


def _unit(vectors: Vector) -> Vector:
    norms = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    unit: Vector = (vectors / norms).astype(np.float32)
    return unit

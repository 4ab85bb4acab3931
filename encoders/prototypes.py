"""Several interests instead of one mean: a user's recent history as a few prototypes.

A mean of two tastes is neither of them (PinnerSage, Pal et al. 2020, section 3). The prototypes are a pure function of
the state's history, so they cost no bytes in the state and do not depend on the order of arrival.
"""

from __future__ import annotations

from math import sqrt

import numpy as np
import numpy.typing as npt

from encoders.events.entries import Entries
from encoders.interest import Decay, Vector

SAME_INTEREST = 0.5
"""Cosine from which an item joins a prototype; chosen by us: with MiniLM, items of one shop category have .5 to .8."""
MAX_PROTOTYPES = 4
_MIN_WEIGHT = 1e-6
"""Smallest weight of an event: an event of years ago is still a direction."""


def prototypes(history: Entries, vectors: Vector, decay: Decay) -> Vector:
    """Cluster a history by leaders, newest event first.

    Parameters
    ----------
    history : (n,) ENTRY
        By time, newest last. No event with a negative weight: its item is no interest.
    vectors : (n, dim) float32
        The items' text vectors, unit length.
    decay : Decay

    Returns
    -------
    (k, dim) float32
        Unit length, k <= `MAX_PROTOTYPES`, the heaviest first. An event's weight is that of its type, decayed with the
        geometric mean of the two half-lives: a prototype lives longer than a session and shorter than the long term.
    """
    if not len(history):
        return np.empty((0, vectors.shape[1]), np.float32)
    half_life_ms = (decay.session_half_life_ms * decay.long_half_life_ms) ** 0.5
    age_ms = history["time_ms"][-1] - history["time_ms"]
    weights = np.maximum(_MIN_WEIGHT, decay.entry_weights(history) * np.exp2(-age_ms / half_life_ms)).astype(np.float32)
    newest_first = vectors[::-1]
    shares = _shares(weights[::-1].tolist(), (newest_first @ newest_first.T).astype(np.float64)).astype(np.float32)
    return _unit(shares[np.argsort(-shares.sum(axis=1), kind="stable")] @ newest_first)


def _shares(weights: list[float], products: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """What of each event is in each prototype, (k, n), from all inner products of the vectors, newest event first."""
    shares = np.zeros((MAX_PROTOTYPES, len(weights)))
    squares: list[float] = []  # of each prototype: squared length of its sum
    for index, weight in enumerate(weights):
        with_event = (shares @ products[index]).tolist()
        cosines = [one / sqrt(max(square, 1e-24)) for one, square in zip(with_event, squares, strict=False)]
        nearest = cosines.index(max(cosines)) if cosines else 0
        if len(squares) < MAX_PROTOTYPES and (not squares or cosines[nearest] < SAME_INTEREST):
            nearest = len(squares)
            squares.append(0.0)
        shares[nearest, index] = weight
        squares[nearest] += 2 * weight * with_event[nearest] + weight * weight
    return shares[: len(squares)]


def _unit(vectors: Vector) -> Vector:
    norms = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    unit: Vector = (vectors / norms).astype(np.float32)
    return unit

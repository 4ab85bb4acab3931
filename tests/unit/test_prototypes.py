"""Prototypes equal their definition, computed one vector at a time."""

from __future__ import annotations

import numpy as np
import pytest

from encoders.events.entries import ENTRY, Entries
from encoders.events.types import FULL
from encoders.interest import Decay, Vector
from encoders.prototypes import MAX_PROTOTYPES, SAME_INTEREST, prototypes

DIM = 24
DAY = 86_400_000


def drawn(rng: np.random.Generator, events: int) -> tuple[Entries, Vector]:
    """A history over a month, about a few kinds of items."""
    kinds = rng.normal(size=(6, DIM))
    vectors = kinds[rng.integers(0, 6, events)] + 0.4 * rng.normal(size=(events, DIM))
    history = np.zeros(events, ENTRY)
    history["time_ms"] = np.sort(rng.integers(0, 30 * DAY, events)) + 1_700_000_000_000
    history["strength"] = FULL
    history["type"] = rng.integers(0, 2, events)
    return history, (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def one_at_a_time(history: Entries, vectors: Vector, decay: Decay) -> Vector:
    """The plain reference: each event, newest first, joins the nearest prototype or founds one."""
    half_life_ms = (decay.session_half_life_ms * decay.long_half_life_ms) ** 0.5
    sums, mass = list[Vector](), list[float]()
    for entry, vector in list(zip(history, vectors, strict=True))[::-1]:
        age_ms = int(history["time_ms"][-1]) - int(entry["time_ms"])
        weight = max(1e-6, (1.0, 3.0)[entry["type"]] * 2.0 ** (-age_ms / half_life_ms))
        cosines = [float(total @ vector / np.linalg.norm(total)) for total in sums]
        if len(sums) < MAX_PROTOTYPES and (not sums or max(cosines) < SAME_INTEREST):
            sums.append(weight * vector)
            mass.append(weight)
        else:
            nearest = int(np.argmax(cosines))
            sums[nearest] = sums[nearest] + weight * vector
            mass[nearest] += weight
    order = sorted(range(len(sums)), key=lambda index: -mass[index])
    return np.array([sums[index] / np.linalg.norm(sums[index]) for index in order], np.float32)


@pytest.mark.parametrize("events", [1, 2, 7, 50])
def test_equal_to_the_reference(events: int) -> None:
    rng = np.random.default_rng()
    for _ in range(20):
        history, vectors = drawn(rng, events)
        found, expected = prototypes(history, vectors, Decay()), one_at_a_time(history, vectors, Decay())
        assert found.shape == expected.shape
        assert found == pytest.approx(expected, abs=1e-4)


def test_two_tastes_are_two_prototypes_and_no_history_none() -> None:
    history = np.zeros(4, ENTRY)
    two = np.eye(DIM, dtype=np.float32)[[0, 1, 0, 1]]
    assert len(prototypes(history, two, Decay())) == 2
    assert prototypes(history[:0], two[:0], Decay()).shape == (0, DIM)

"""Synthetic vectors that are distributed as the vectors of texts are, and synthetic interests of users among them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from encoders.interest import Vector

MEAN, DEPARTMENTS, KINDS, FAMILIES, OWN = 0.18, 0.12, 0.20, 0.25, 0.25
"""Shares of a vector's squared length that it has in common: with all items, with 5,000, 250 and 10; and its own.

So the cosine of two random items is about .18, within a department .30, within a kind .50, within a family .75. Chosen
to resemble MiniLM's vectors of the 4,224 texts of the UCI shop, where the median cosine is .18, that of the 100th
nearest item .40, and of the 10th nearest .57. A larger catalogue is denser: 30,000 of these have .22, .53 and .67.
"""
_CLUSTER_ITEMS = (5_000, 250, 10)
_SPECTRUM_DECAY = 0.4
"""The spectrum falls as rank^-.4. The participation ratio of 100,000 vectors is 64; that of the shop's texts is 85."""
_CHUNK_ITEMS = 50_000
_PROTOTYPE_NOISE = 0.03
"""Noise of each component of a prototype: its cosine with the item that it was drawn around is .86."""


def text_like(items: int, dim: int, seed: int) -> Vector:
    """Draw unit vectors from a tree of clusters in which every level has the same spectrum.

    The axes are rotated at random, because no axis of an encoder has a meaning.

    Returns
    -------
    ndarray of float32, shape (items, dim)
    """
    rng = np.random.default_rng(seed)
    spectrum = (1.0 + np.arange(dim, dtype=np.float32)) ** np.float32(-_SPECTRUM_DECAY)
    spectrum /= np.linalg.norm(spectrum)
    rotation = np.linalg.qr(rng.standard_normal((dim, dim), np.float32))[0]

    def draw(count: int, share: float) -> Vector:
        drawn: Vector = rng.standard_normal((count, dim), np.float32) * spectrum * np.float32(share**0.5)
        return drawn

    common = _unit(draw(1, 1.0)) * np.float32(MEAN**0.5)
    shares = (DEPARTMENTS, KINDS, FAMILIES)
    centres = [
        draw(max(1, items // cluster_items), share) for cluster_items, share in zip(_CLUSTER_ITEMS, shares, strict=True)
    ]
    vectors = np.empty((items, dim), np.float32)
    for begin in range(0, items, _CHUNK_ITEMS):
        chunk = vectors[begin : begin + _CHUNK_ITEMS]
        family = rng.integers(0, len(centres[-1]), len(chunk))
        drawn = common + draw(len(chunk), OWN)
        for level in centres:
            drawn += level[family * len(level) // len(centres[-1])]
        chunk[:] = _unit(drawn @ rotation)
    return vectors


def interests_in(vectors: Vector, seed: int) -> Callable[[], Vector]:
    """Return a function that draws a user's queries as `ranker.recall.candidates.interests` makes them.

    The queries are four prototypes and two means: unit vectors, float32 of shape (6, dim).
    """
    rng = np.random.default_rng(seed)

    def draw() -> Vector:
        items = vectors[rng.integers(0, len(vectors), 4)]
        prototypes = _unit(items + np.float32(_PROTOTYPE_NOISE) * rng.standard_normal(items.shape, np.float32))
        return np.concatenate([prototypes, _unit(np.stack([prototypes[:2].mean(axis=0), prototypes.mean(axis=0)]))])

    return draw


def _unit(vectors: Vector) -> Vector:
    unit: Vector = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit

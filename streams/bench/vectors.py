"""Vectors as texts' lie, and users' interests among them, as many as are asked for. Called by the benchmarks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from encoders.interest import Vector

MEAN, DEPARTMENTS, KINDS, FAMILIES, OWN = 0.18, 0.12, 0.20, 0.25, 0.25
"""Shares of a vector's squared length: of all items, of 5,000, of 250 and of 10 together, and its own.

So two items of anywhere have a cosine of about .18, of one department .30, of one kind .50, of one family .75. Chosen
after MiniLM's vectors of the 4,224 texts of the UCI shop: median .18, the 100th nearest .40, the 10th .57. A larger
catalogue is denser: 30,000 drawn like this have .22, .53 and .67.
"""
_TOGETHER = (5_000, 250, 10)
_FALL = 0.4
"""The spectrum falls as rank^-.4: the participation ratio of 100,000 is 64; the shop's texts have 85."""
_AT_ONCE = 50_000
_BLUR = 0.03
"""Noise of each component of a prototype: it lies .86 from the item that it was drawn around."""


def text_like(items: int, dim: int, seed: int) -> Vector:
    """Draw (items, dim) float32 of unit length: a tree of clusters in which every level has the same spectrum.

    The axes are turned at random, as no axis of an encoder means anything.
    """
    rng = np.random.default_rng(seed)
    spectrum = (1.0 + np.arange(dim, dtype=np.float32)) ** np.float32(-_FALL)
    spectrum /= np.linalg.norm(spectrum)
    turn = np.linalg.qr(rng.standard_normal((dim, dim), np.float32))[0]

    def draw(count: int, share: float) -> Vector:
        drawn: Vector = rng.standard_normal((count, dim), np.float32) * spectrum * np.float32(share**0.5)
        return drawn

    common = _unit(draw(1, 1.0)) * np.float32(MEAN**0.5)
    shares = (DEPARTMENTS, KINDS, FAMILIES)
    centres = [draw(max(1, items // together), share) for together, share in zip(_TOGETHER, shares, strict=True)]
    vectors = np.empty((items, dim), np.float32)
    for begin in range(0, items, _AT_ONCE):
        some = vectors[begin : begin + _AT_ONCE]
        family = rng.integers(0, len(centres[-1]), len(some))
        drawn = common + draw(len(some), OWN)
        for level in centres:
            drawn += level[family * len(level) // len(centres[-1])]
        some[:] = _unit(drawn @ turn)
    return vectors


def interests_in(vectors: Vector, seed: int) -> Callable[[], Vector]:
    """Draw queries as `ranker.recall.candidates.interests` makes them, (6, dim): four prototypes and two means."""
    rng = np.random.default_rng(seed)

    def draw() -> Vector:
        around = vectors[rng.integers(0, len(vectors), 4)]
        tastes = _unit(around + np.float32(_BLUR) * rng.standard_normal(around.shape, np.float32))
        return np.concatenate([tastes, _unit(np.stack([tastes[:2].mean(axis=0), tastes.mean(axis=0)]))])

    return draw


def _unit(vectors: Vector) -> Vector:
    unit: Vector = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit

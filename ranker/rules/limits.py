"""Limits on the exposure of items, and items in classes of the same memberships. Knows no search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

TOLERANCE = 1e-9
"""Of a sum of exposures."""


class ExposureLimit(NamedTuple):
    """A limit on the exposure of some items: `sign * exposure >= least`.

    Attributes
    ----------
    members : frozenset of int
    sign : int
        1 for at least, -1 for at most.
    least : float
    """

    members: frozenset[int]
    sign: int
    least: float

    def shortfall(self, exposure: float) -> float:
        """Return by how much an exposure breaks the limit; 0 if it keeps it."""
        missing = self.least - self.sign * exposure
        return missing if missing > TOLERANCE else 0.0

    def exposure(self, indices: Sequence[int], exposures: Sequence[float]) -> float:
        """Return the members' exposure in an order."""
        return sum(one for index, one in zip(indices, exposures, strict=True) if index in self.members)


class ItemClass:
    """Items with the same memberships, best first.

    Attributes
    ----------
    signs : tuple of int
        By limit: its sign if they are its members, else 0.
    items : list of int
    taken : int
        How many of them are in the branch.
    better : list of ItemClass
        Those that every limit likes as much or more.
    """

    def __init__(self, signs: tuple[int, ...]) -> None:
        self.signs = signs
        self.items: list[int] = []
        self.taken = 0
        self.better: list[ItemClass] = []


def classes_of(waiting: Sequence[int], limits: Sequence[ExposureLimit], size: int) -> list[ItemClass]:
    """Return the items by their memberships; no order has more than the best `size` of a class."""
    classes: dict[tuple[int, ...], ItemClass] = {}
    for index in waiting:
        signs = tuple(limit.sign if index in limit.members else 0 for limit in limits)
        one = classes.setdefault(signs, ItemClass(signs))
        if len(one.items) < size:
            one.items.append(index)
    for one in classes.values():
        one.better = [
            other
            for other in classes.values()
            if other is not one and all(a >= b for a, b in zip(other.signs, one.signs, strict=True))
        ]
    return list(classes.values())

"""Fill ranks with items under limits on sums of exposures, at the smallest loss of gain.

The value of an order is the sum of its gains times exposures, less `PENALTY` times the shortfall of each limit. Only
limits that an order breaks enter the search: first none, then those that the best order breaks, until it breaks no
other. An order that is the best under some of the limits and keeps the others is the best under all.

The search is branch and bound, rank by rank. Items with the same memberships keep their order, so a branch is a class
of items. A Lagrangian relaxation bounds what a branch can reach. Knows no rule and no list.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

from ranker.rules.limits import TOLERANCE, ExposureLimit, ItemClass, classes_of

PENALTY = 1e4
"""Of a shortfall of 1. Gains times exposures of ten ranks sum to less than 2, so no gain is worth a limit."""
MAX_STEPS = 1_000
"""Branches that one search looks at, some milliseconds; chosen by us. With one group the most that we saw is 300."""
FEW_STEPS = 100
"""The same where the smallest loss does not matter."""
MAX_TURNS = 8
"""Searches, each with the limits that the result of the one before breaks."""
MAX_CHANGES = 300
"""Changes that are tried of an order that breaks limits, before the search."""
MAX_PRICE = 2.0
"""Twice the highest gain."""
HALVINGS = 12
"""Of the interval of a price; fewer where many limits have prices, for which a rougher one will do."""


class Filled(NamedTuple):
    """The items of the ranks, and whether the search ended before it was complete."""

    indices: list[int]
    cut: bool


def least_loss(
    exposures: Sequence[float],
    waiting: Sequence[int],
    gains: Mapping[int, float],
    limits: Collection[ExposureLimit],
    exact: bool,
) -> Filled:
    """Choose an item for each rank.

    Parameters
    ----------
    exposures : (n,) sequence of float
        Of the ranks, descending.
    waiting : sequence of int
        The items, `n` or more, by descending gain.
    gains : mapping of int to float
        Of each item, above 0 and at most 1.
    limits : collection of ExposureLimit
    exact : bool
        Whether to search for the smallest loss. False: any order that keeps the limits will do.
    """
    indices, active, complete = list(waiting[: len(exposures)]), list[ExposureLimit](), True
    for turn in range(1, MAX_TURNS + 1):
        active += (broken := _broken(indices, exposures, [one for one in limits if one not in active]))
        if not broken or not exposures:
            return Filled(indices, exact and not complete)
        search = _Search(exposures, waiting, gains, active)
        complete = search.run(MAX_STEPS // turn if exact else FEW_STEPS)
        indices = search.best
    return Filled(indices, exact and (not complete or len(_broken(indices, exposures, limits)) > 0))


def _broken(
    indices: Sequence[int], exposures: Sequence[float], limits: Collection[ExposureLimit]
) -> list[ExposureLimit]:
    return [one for one in limits if one.shortfall(one.exposure(indices, exposures))]


class _Branch(NamedTuple):
    """The orders that begin with the same items.

    Attributes
    ----------
    indices : list of int
        These items.
    gained, priced : float
        The sums of their gains, and of their gains and prices, times exposures.
    sums : list of float
        By limit: the exposure of its members.
    missing : float
        A lower bound of the shortfalls.
    """

    indices: list[int]
    gained: float
    priced: float
    sums: list[float]
    missing: float


class _Search:
    """The search for the best order under limits that are all active.

    Attributes
    ----------
    best : list of int
        The best order so far.
    """

    def __init__(
        self,
        exposures: Sequence[float],
        waiting: Sequence[int],
        gains: Mapping[int, float],
        limits: Sequence[ExposureLimit],
    ) -> None:
        self._exposures, self._gains, self._limits, self._size = exposures, gains, limits, len(exposures)
        self._sums = [0.0, *accumulate(exposures)]
        self._classes = classes_of(waiting, limits, self._size)
        self._class_of = {index: one for one in self._classes for index in one.items}
        self._shared = max(sum(sign > 0 for sign in one.signs) for one in self._classes)
        self._left = [sum(len(c.items) for c in self._classes if c.signs[number]) for number in range(len(limits))]
        self._prices = [0.0] * len(limits)
        self._set_prices()
        self._priced = {index: gains[index] + self._price(one) for index, one in self._class_of.items()}
        self._relaxed = self._relaxation()
        self._duty = sum(price * limit.least for price, limit in zip(self._prices, limits, strict=True))
        self.best = self._mended(self._relaxed[: self._size])
        self._best_value = self._value(self.best)
        self._steps = 0

    def run(self, steps: int) -> bool:
        """Search. Returns whether the search is complete."""
        self._steps = steps
        self._visit(_Branch([], 0.0, 0.0, [0.0] * len(self._limits), 0.0))
        return self._steps > 0

    def _visit(self, branch: _Branch) -> None:
        """Look at the orders of a branch that may be better than the best so far, the likeliest first."""
        if len(branch.indices) == self._size:
            if (value := self._value(branch.indices)) > self._best_value + TOLERANCE:
                self.best, self._best_value = branch.indices, value
            return
        extended = [(self._extended(branch, one), one) for one in self._classes if self._may_follow(one)]
        self._steps -= len(extended)
        extended.sort(key=lambda pair: (round(pair[0].missing, 9), -pair[0].priced))
        for longer, one in extended:
            if self._steps > 0 and self._reach(longer) > self._best_value + TOLERANCE:
                self._take(one, 1)
                self._visit(longer)
                self._take(one, -1)

    def _mended(self, order: list[int]) -> list[int]:
        """An order that breaks limits, with such changes at one or two ranks as raise its value."""
        value, tries = self._value(order), MAX_CHANGES
        classes, is_better = [self._class_of[index] for index in order], True
        while value < -TOLERANCE and is_better:
            is_better = False
            for first in range(self._size):
                changes = [(first, one) for one in self._classes] + [(rank, classes[rank]) for rank in range(first)]
                for second, one in changes:
                    changed = list(classes)
                    changed[second], changed[first] = classes[first], one
                    tries -= 1
                    if tries > 0 and (new := self._value(self._best_of(changed))) > value + TOLERANCE:
                        value, classes, is_better = new, changed, True
        return self._best_of(classes)

    def _best_of(self, classes: Sequence[ItemClass]) -> list[int]:
        """The order of the best items of these classes; none if a class has too few."""
        rest = {one: iter(one.items) for one in classes}
        order = [next(rest[one], -1) for one in classes]
        return [] if -1 in order else order

    def _may_follow(self, one: ItemClass) -> bool:
        """Whether an order may go on with a class: no better class has an item that gains more."""
        if one.taken == len(one.items):
            return False
        gain = self._gains[one.items[one.taken]]
        return not any(
            other.taken < len(other.items) and self._gains[other.items[other.taken]] > gain for other in one.better
        )

    def _take(self, one: ItemClass, change: int) -> None:
        one.taken += change
        for number, sign in enumerate(one.signs):
            self._left[number] -= change * abs(sign)

    def _extended(self, branch: _Branch, one: ItemClass) -> _Branch:
        """The branch with the next item of a class."""
        index, exposure = one.items[one.taken], self._exposures[len(branch.indices)]
        sums = [total + exposure * abs(sign) for total, sign in zip(branch.sums, one.signs, strict=True)]
        return _Branch(
            [*branch.indices, index],
            branch.gained + exposure * self._gains[index],
            branch.priced + exposure * self._priced[index],
            sums,
            self._missing(len(branch.indices) + 1, sums, one),
        )

    def _missing(self, rank: int, sums: Sequence[float], last: ItemClass) -> float:
        """What the limits miss at the least, if the order goes on as they like best."""
        missing = wanted = 0.0
        end, items = self._size, len(self._class_of) - rank
        for number, limit in enumerate(self._limits):
            members = self._left[number] - abs(last.signs[number])
            if limit.sign > 0:
                missing += limit.shortfall(sums[number] + self._sums[min(rank + members, end)] - self._sums[rank])
                wanted += limit.shortfall(sums[number])
            else:
                others = min(rank + items - members, end)
                missing += limit.shortfall(sums[number] + self._sums[end] - self._sums[others])
        return max(missing, wanted - self._shared * (self._sums[end] - self._sums[rank]))

    def _reach(self, branch: _Branch) -> float:
        """An upper bound of the values of a branch."""
        rank, chosen, reached = len(branch.indices), set(branch.indices), branch.priced
        if branch.missing > TOLERANCE:
            return branch.gained + self._sums[-1] - self._sums[rank] - PENALTY * branch.missing
        for index in self._relaxed:
            if rank == self._size:
                break
            if index not in chosen:
                reached += self._exposures[rank] * self._priced[index]
                rank += 1
        return reached - self._duty

    def _value(self, indices: Sequence[int]) -> float:
        if not indices:
            return -math.inf
        gained = sum(self._gains[i] * exposure for i, exposure in zip(indices, self._exposures, strict=True))
        missing = sum(limit.shortfall(limit.exposure(indices, self._exposures)) for limit in self._limits)
        return gained - PENALTY * missing

    def _price(self, one: ItemClass) -> float:
        return sum(price * sign for price, sign in zip(self._prices, one.signs, strict=True))

    def _relaxation(self) -> list[int]:
        """All items by gain and price: the best order if a limit may be broken for its price."""
        price = {one: self._price(one) for one in self._classes}
        return sorted(self._class_of, key=lambda index: -self._gains[index] - price[self._class_of[index]])

    def _set_prices(self) -> None:
        """Find for each limit, one after the other, the lowest price at which the relaxation keeps it."""
        halvings = max(4, HALVINGS - len(self._limits))
        for _ in range(2 if 1 < len(self._limits) < 5 else 1):
            for number, limit in enumerate(self._limits):
                low, high = 0.0, MAX_PRICE
                for _ in range(halvings):
                    self._prices[number] = (low + high) / 2
                    order = self._relaxation()[: self._size]
                    if limit.shortfall(limit.exposure(order, self._exposures)):
                        low = self._prices[number]
                    else:
                        high = self._prices[number]
                self._prices[number] = high

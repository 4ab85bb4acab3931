"""One shopper of the synthetic shop: hidden tastes that drift, and visits that follow them.

Tastes and visits are generated in the order of time, as far as a caller needs them, and always in the same way. So the
seed and the number alone determine a shopper. Knows one shopper and the shelves.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from operator import attrgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.datasets.shop_catalogue import BRAND_LEVELS, Leaf, Shelves

DAY_MS = 86_400_000

# All chosen by us, so that taste rules: the oracle's first ten items hold about every second click, and every
# fifth where a visit begins.
FAVOURITES = (0.6, 0.3, 0.1)  # share of the visits that follow the first, second and third favourite
DRIFT_DAYS = 6.0  # mean time between two new favourites
VISIT_DAYS = 1.5  # median shopper's mean time between two visits
MORE_CLICKS = 0.85  # chance that another click follows
CLICK_S = 40.0  # mean time between two clicks
NEXT_DOOR, ANYWHERE = 0.12, 0.06  # chance that a click leaves the category
BUYS = 0.35  # chance that a visit ends in a purchase
WORD, BRAND, PRICE, OTHER_AUDIENCE = 1.5, 1.2, 1.5, -4.0  # parts of a click's logit
PRICE_LEVEL_SPREAD, PACE_SPREAD = 0.35, 0.5  # standard deviations over the shoppers
MAX_CLICKS = 30  # of a visit
SEEN, BOUGHT = 0.3, 0.02  # what a click, a purchase leaves of an item's weight for later visits


class Favourite(NamedTuple):
    """The index of a leaf, and the words and brands that are liked in it; they attract in every leaf."""

    leaf: int
    words: tuple[str, ...]
    brands: tuple[str, ...]


class Taste(NamedTuple):
    """What a shopper likes for a while; `price_level` is the logarithm of price over usual price."""

    since_ms: int
    audience: frozenset[str]
    favourites: tuple[Favourite, ...]
    price_level: float


@dataclass(frozen=True)
class _Visit:
    leaf: int
    clicks: list[tuple[int, int]]  # time in ms, index of the item
    purchase: tuple[int, int] | None

    @property
    def start_ms(self) -> int:
        return self.clicks[0][0]

    @property
    def end_ms(self) -> int:
        return self.purchase[0] if self.purchase else self.clicks[-1][0]

    def wear(self, left: NDArray[np.float64]) -> None:
        """Reduce the weight, (items,), of the items that were seen or bought, for later visits."""
        seen = [index for _, index in self.clicks]
        left[seen] = np.minimum(left[seen], SEEN)
        if self.purchase:
            left[self.purchase[1]] = BOUGHT


class SyntheticShopper:
    """One shopper's tastes and visits, generated as far as a caller needs them."""

    def __init__(self, shelves: Shelves, moves: NDArray[np.float64], seed: int, number: int, start_ms: int) -> None:
        self.number, self.user_id = number, f"shopper-{number:04d}"
        self._shelves, self._moves = shelves, moves
        self._taste_rng = np.random.default_rng([seed, 1, number])
        self._visit_rng = np.random.default_rng([seed, 2, number])
        self._tastes = [self._first_taste(start_ms)]
        self._visits: list[_Visit] = []
        self._left = np.ones(len(shelves.items))  # of each item's weight, after the visits so far
        self._pause_ms = DAY_MS * VISIT_DAYS * self._visit_rng.lognormal(0, PACE_SPREAD)
        self._next_ms = start_ms + int(self._visit_rng.exponential(self._pause_ms))
        self._moves_sum = np.cumsum(moves, axis=1)
        self._sizes = np.diff(shelves.starts, append=len(shelves.items))
        self._weights_of: tuple[Taste | None, NDArray[np.float64]] = (None, np.empty(0))

    def events(self) -> Iterator[tuple[int, int, int, int, int, bool]]:
        """Yield time, shopper, visit, step of the visit, index of the item, and whether it was bought."""
        for number in count():
            while len(self._visits) <= number:
                self._visit()
            visit = self._visits[number]
            for step, (time_ms, index) in enumerate(visit.clicks):
                yield time_ms, self.number, number, step, index, False
            if visit.purchase:
                yield visit.purchase[0], self.number, number, len(visit.clicks), visit.purchase[1], True

    def taste(self, time_ms: int) -> Taste:
        while self._tastes[-1].since_ms <= time_ms:
            last = self._tastes[-1]
            pause_ms = 1 + int(self._taste_rng.exponential(DRIFT_DAYS * DAY_MS))
            self._tastes.append(self._drifted(last, last.since_ms + pause_ms))
        return self._tastes[max(0, bisect_right(self._tastes, time_ms, key=attrgetter("since_ms")) - 1)]

    def probabilities(self, time_ms: int) -> NDArray[np.float64]:
        """See `SyntheticShop.probabilities`."""
        while self._next_ms <= time_ms:
            self._visit()
        visits = self._visits[: bisect_right(self._visits, time_ms, key=attrgetter("start_ms"))]
        now = visits.pop() if visits and visits[-1].end_ms >= time_ms else None
        left = np.ones(len(self._shelves.items))
        for visit in visits:
            visit.wear(left)
        if now is None:
            taste = self.taste(time_ms)
            leaf_weights = np.array(FAVOURITES) @ self._moves[[favourite.leaf for favourite in taste.favourites]]
        else:
            taste, leaf_weights = self.taste(now.start_ms), self._moves[now.leaf]
            left[[index for clicked_ms, index in now.clicks if clicked_ms <= time_ms]] = 0
        weights = self._weights(taste) * left
        totals = np.add.reduceat(weights, self._shelves.starts)
        share = np.divide(leaf_weights, totals, out=np.zeros_like(totals), where=totals > 0)
        probable: NDArray[np.float64] = weights * share[self._shelves.leaf]
        probable /= probable.sum()
        return probable

    def _visit(self) -> None:
        """Generate the next visit."""
        rng, time_ms = self._visit_rng, self._next_ms
        taste = self.taste(time_ms)
        weights = self._weights(taste) * self._left
        leaf = taste.favourites[rng.choice(len(FAVOURITES), p=FAVOURITES)].leaf
        clicks = []
        for _ in range(min(int(rng.geometric(1 - MORE_CLICKS)), MAX_CLICKS)):
            index = self._draw(leaf, weights)
            clicks.append((time_ms, index))
            weights[index] = 0
            time_ms += 1000 + int(rng.exponential(CLICK_S * 1000))
        bought = clicks[rng.integers(len(clicks))][1] if rng.random() < BUYS else None
        visit = _Visit(leaf, clicks, None if bought is None else (time_ms, bought))
        visit.wear(self._left)
        self._visits.append(visit)
        self._next_ms = visit.end_ms + 1 + int(rng.exponential(self._pause_ms))

    def _draw(self, leaf: int, weights: NDArray[np.float64]) -> int:
        """Draw the leaf of the next click, then an item of it; draw again if the leaf has no item left."""
        while True:
            drawn = int(np.searchsorted(self._moves_sum[leaf], self._visit_rng.random(), side="right"))
            start = int(self._shelves.starts[drawn])
            sums = np.cumsum(weights[start : start + self._sizes[drawn]])
            if sums[-1] > 0:
                return start + int(np.searchsorted(sums, self._visit_rng.random() * sums[-1], side="right"))

    def _weights(self, taste: Taste) -> NDArray[np.float64]:
        """Each item's weight within its leaf, without the effect of visits: exp(logit) times popularity."""
        if self._weights_of[0] is not taste:
            shelves = self._shelves
            audience, feature, variant, brand = shelves.traits.T
            words = np.isin(shelves.words, [word for favourite in taste.favourites for word in favourite.words])
            brands = np.isin(shelves.words, [word for favourite in taste.favourites for word in favourite.brands])
            suits = np.isin(shelves.words, ["", *taste.audience])
            logit = WORD * (words[feature] + words[variant]) + BRAND * brands[brand]
            logit += OTHER_AUDIENCE * ~suits[audience] - PRICE * (shelves.level - taste.price_level) ** 2
            self._weights_of = (taste, np.exp(logit) * shelves.popularity)
        return self._weights_of[1]

    def _first_taste(self, start_ms: int) -> Taste:
        rng = self._taste_rng
        audience = {"women's" if rng.random() < 0.5 else "men's"} | ({"kids'"} if rng.random() < 0.25 else set())
        taste = Taste(start_ms, frozenset(audience), (), rng.normal(0, PRICE_LEVEL_SPREAD))
        for _ in FAVOURITES:
            taste = self._drifted(taste, start_ms)
        return taste

    def _drifted(self, taste: Taste, since_ms: int) -> Taste:
        """The taste with a new first favourite."""
        rng, leaves = self._taste_rng, self._shelves.leaves
        old = {favourite.leaf for favourite in taste.favourites}
        audiences = taste.audience | {""}
        suitable = [n for n, leaf in enumerate(leaves) if n not in old and audiences & set(leaf.parts[0])]
        chosen = int(rng.choice(suitable))
        _, features, _, variants, brands = leaves[chosen].parts
        near = np.exp(-((np.log(BRAND_LEVELS) - taste.price_level) ** 2) / PRICE_LEVEL_SPREAD**2)
        favourite = Favourite(
            chosen,
            (str(rng.choice(features)), *map(str, rng.choice(variants, 2, replace=False))),
            tuple(map(str, rng.choice(brands, 2, replace=False, p=near / near.sum()))),
        )
        return taste._replace(since_ms=since_ms, favourites=(favourite, *taste.favourites)[: len(FAVOURITES)])


def moves(leaves: list[Leaf]) -> NDArray[np.float64]:
    """The probability that a click of a visit to one leaf (row) is in another (column): (leaves, leaves) float64."""
    departments = np.array([leaf.department for leaf in leaves])
    stay = np.eye(len(leaves))
    near = (departments[:, None] == departments) - stay
    near /= near.sum(axis=1, keepdims=True)
    chances: NDArray[np.float64] = (1 - NEXT_DOOR - ANYWHERE) * stay + NEXT_DOOR * near + ANYWHERE / len(leaves)
    return chances

"""A synthetic shop, determined by a seed: a catalogue, and shoppers whose hidden tastes drift as they click.

A shopper has three favourite categories, in each a liked feature, two liked colours (or sizes, scents) and two liked
brands, and a price level. From time to time a new favourite becomes the first and the last one is dropped. A visit
follows one favourite: most clicks stay in its category, some go to the same department, a few anywhere. Within a
category, taste decides first, then popularity (Zipf). About every third visit ends in a purchase.

Clicks are drawn from exactly the distribution that `SyntheticShop.probabilities` returns, so `SyntheticShop.oracle` is
the upper bound for any recommender. Knows neither Kafka nor the clock.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import islice
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from streams.contracts import Click, Item, Purchase
from streams.datasets.shop_catalogue import CURRENCY, build
from streams.datasets.shop_shopper import SyntheticShopper, Taste, moves

START_MS = 1_767_225_600_000  # 2026-01-01


class SyntheticShop:
    """A catalogue, shoppers, and their events.

    Parameters
    ----------
    seed : int
        Determines everything.
    items : int
        Size of the catalogue, 600 to 21,600.
    shoppers : int
        Number of users.
    start_ms : int
        Time of the earliest possible event, milliseconds since the epoch.

    Raises
    ------
    ValueError
        The size of the catalogue is out of range.
    """

    def __init__(self, seed: int, items: int = 3000, shoppers: int = 300, start_ms: int = START_MS) -> None:
        self.start_ms = start_ms
        self.shelves = build(np.random.default_rng([seed, 0]), items)
        self.items: list[Item] = sorted(self.shelves.items, key=attrgetter("item_id"))
        steps = moves(self.shelves.leaves)
        self._shoppers = [SyntheticShopper(self.shelves, steps, seed, number, start_ms) for number in range(shoppers)]
        self._by_id = {shopper.user_id: shopper for shopper in self._shoppers}

    @property
    def user_ids(self) -> list[str]:
        return list(self._by_id)

    def events(self, n: int) -> Iterator[Click | Purchase]:
        """The first `n` events of all shoppers in the order of time; no two share a millisecond."""
        last_ms = self.start_ms - 1
        for time_ms, number, visit, step, index, bought in islice(
            heapq.merge(*(shopper.events() for shopper in self._shoppers)), n
        ):
            last_ms = max(last_ms + 1, time_ms)
            item, user_id = self.shelves.items[index], self._shoppers[number].user_id
            session_id = f"{user_id}-{visit}"
            event_id = f"{session_id}-{step}"
            if bought:
                yield Purchase(
                    event_id=event_id,
                    user_id=user_id,
                    item_id=item.item_id,
                    timestamp=last_ms,
                    session_id=session_id,
                    price=item.price,
                    currency=CURRENCY,
                )
            else:
                yield Click(
                    event_id=event_id,
                    user_id=user_id,
                    item_id=item.item_id,
                    timestamp=last_ms,
                    session_id=session_id,
                )

    def taste(self, user_id: str, time_ms: int) -> Taste:
        """What the shopper likes at a time. A recommender does not know it."""
        return self._by_id[user_id].taste(time_ms)

    def probabilities(self, user_id: str, time_ms: int) -> NDArray[np.float64]:
        """The probability of each item to be clicked, if the shopper clicks now: (items,) float64, as `shelves.items`.

        During a visit it is that of the visit's next click, given the visit's favourite; else of a new visit's first.
        """
        return self._by_id[user_id].probabilities(time_ms)

    def oracle(self, user_id: str, time_ms: int, k: int) -> list[str]:
        """The `k` item ids with the highest true click probability now, best first."""
        best = np.argsort(-self.probabilities(user_id, time_ms), kind="stable")[:k]
        return [self.shelves.items[index].item_id for index in best]

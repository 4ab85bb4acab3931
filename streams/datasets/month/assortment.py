"""The items of a generated month: a stock on the first day, and some new ones each day. Knows no person."""

from __future__ import annotations

import numpy as np

from streams.contracts import Item
from streams.datasets.worlds.steps import DAY_MS, START_MS
from streams.datasets.worlds.words import NAMES, title_of

TOPICS = len(NAMES)
STOCK, NEW_A_DAY = 320, 5
"""Chosen by us: 20 items of each topic to begin with, and half as many again after a month."""
QUALITY = 0.5
"""Standard deviation of what all people find an item more appealing than another, in log-odds of a click."""
FORMS = ("{0} and {1} in {2}", "the {0} of {2}", "all about {0}", "{0}, {1} and {2}", "a {0} from {2}")
CURRENCY = "EUR"


class Assortment:
    """The items of a month of a seed. Those of a longer month begin with those of a shorter one.

    Attributes
    ----------
    items : list of Item
        In the order in which they appear; `timestamp` says when.
    topic : (items,) intp
    quality : (items,) float64
        Log-odds.
    day : (items,) intp
        On which day each appears; 0 for the stock.
    """

    def __init__(self, seed: int, days: int) -> None:
        rng = np.random.default_rng([seed, 0])
        self.day = np.repeat(np.arange(days + 1), [STOCK] + [NEW_A_DAY] * days)
        topics, qualities = list[int](), list[float]()
        self.items: list[Item] = []
        for number, day in enumerate(self.day.tolist()):
            topics.append(int(rng.integers(TOPICS)))
            qualities.append(float(rng.normal(0, QUALITY)))
            age_ms = int(rng.integers(1, 60) * DAY_MS) if day == 0 else 0
            self.items.append(
                Item(
                    item_id=f"item-{number}",
                    title=title_of(rng, topics[-1], str(rng.choice(FORMS))),
                    categories=[NAMES[topics[-1]]],
                    price=round(float(rng.lognormal(3, 0.3)), 2),
                    currency=CURRENCY,
                    timestamp=START_MS + day * DAY_MS - age_ms,
                )
            )
        self.topic, self.quality = np.array(topics, np.intp), np.array(qualities)
        self.index = {item.item_id: index for index, item in enumerate(self.items)}

    def there(self, day: int) -> int:
        """Return how many items have appeared by a day: the first of `items`."""
        return int(np.searchsorted(self.day, day, side="right"))

"""A synthetic shop whose log is unfair to small sellers, determined by a seed.

The catalogue, the shoppers and their choices are those of `SyntheticShop`; a seller says nothing about an item. One
large seller has three fifths of the items, four small ones the rest. Until a shopper's last visit the shop showed the
small sellers' items to few: of the events about them three in four did not happen. In the last visit all items are
shown alike, so that it tells what users choose.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence

from msgspec.structs import replace

from streams.contracts import Click, Item

LARGE, SMALL = "large", ("small-1", "small-2", "small-3", "small-4")
SMALL_SHARE = 0.4
"""Of the items."""
LOST = 0.75
"""The share of the events about small sellers' items that did not happen."""


def sold(items: Sequence[Item], seed: int) -> list[Item]:
    """Give each item a seller."""
    rng = random.Random(seed)
    sellers = (rng.choice(SMALL) if rng.random() < SMALL_SHARE else LARGE for _ in items)
    return [replace(item, provider=seller) for item, seller in zip(items, sellers, strict=True)]


def seen(items: Iterable[Item], events: Iterable[Click], seed: int) -> Iterator[Click]:
    """Leave out the events that did not happen."""
    rng, kept = random.Random(seed + 1), list(events)
    sellers = {item.item_id: item.provider for item in items}
    last = {event.user_id: event.session_id for event in kept}
    for event in kept:
        is_lost = rng.random() < LOST and sellers[event.item_id] != LARGE
        if not is_lost or event.session_id == last[event.user_id]:
            yield event

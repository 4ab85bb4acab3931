"""The synthetic shop as a replay without a past: its events happen from now on, so many a second.

Knows neither files nor Kafka.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import msgspec

from streams.contracts import Purchase
from streams.datasets.messages import Account, ReplayMessage
from streams.datasets.shop import SyntheticShop


class LiveShop:
    """The shop's catalogue, and the next events of its shoppers.

    Parameters
    ----------
    shop : SyntheticShop
    events : int
        How many events there are.
    per_s : float
        Events a second.
    now_ms : int, optional
        When the first event happens, milliseconds since the epoch; by default now. The ids of the events begin with
        it, so that a second replay of the same shop is no repeat of the first.
    """

    def __init__(self, shop: SyntheticShop, events: int, per_s: float, now_ms: int | None = None) -> None:
        self._shop, self._events, self._per_s = shop, events, per_s
        self._now_ms = round(time.time() * 1000) if now_ms is None else now_ms
        self.topics = ("items", "clicks", "purchases")
        self.account = Account(len(shop.items) + events)

    def progress(self, taken: int) -> tuple[int, int]:
        """In messages; see `Replay`."""
        return taken, self.account.rows

    def messages(self) -> Iterator[ReplayMessage]:
        """The messages, items first, then the events in the order of time."""
        for item in self._shop.items:
            yield ReplayMessage("items", item.item_id.encode(), msgspec.json.encode(item), None)
        for number, event in enumerate(self._shop.events(self._events)):
            at_ms = self._now_ms + round(number * 1000 / self._per_s)
            moved = msgspec.structs.replace(event, event_id=f"{self._now_ms}-{event.event_id}", timestamp=at_ms)
            topic = "purchases" if isinstance(event, Purchase) else "clicks"
            yield ReplayMessage(topic, event.user_id.encode(), msgspec.json.encode(moved), at_ms)

"""Let a state tier take in a log: items when they appear, all events into the counts, some users' into their states.

The counts take in the events in bulk (`ranker.recall.log_counter`), and interest states are kept only for the users of
the cases. At a case the tier gives the request of a worker that took in every event of every user, one after the other.
Knows no request.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from encoders.describe import describe_item
from encoders.event_time import milliseconds
from encoders.events.entries import Event, item_key
from encoders.events.shown_lists import newest, read, written
from encoders.interest import Vector
from encoders.text.vector_store import Encoder, rounded
from ranker.evaluation.protocols import Split
from ranker.evaluation.signs import SaidWish
from ranker.progress import Progress
from ranker.recall.counts import MAX_PENDING_EVENTS
from ranker.recall.log_counter import LogColumns, LogCounter
from streams.contracts import Item, Preference
from streams.settings import Settings
from streams.state.stated_wishes import note_wish
from streams.state.tier import StateTier
from streams.state.wish_reader import WishReader

ENCODED = 16_384
"""Items that are encoded between two reports of progress; the fewer calls, the less padding."""
COUNTED = 64 * MAX_PENDING_EVENTS
"""Events that are counted between two reports."""


class LogFeed:
    """The items, and the learnable events of a split, on their way into a state tier.

    Parameters
    ----------
    tier : StateTier
        Without items and events.
    settings : Settings
        Those of the tier.
    encoder : Encoder
        Encodes the items.
    items : sequence of Item
    split : Split

    Attributes
    ----------
    events : int
        The number of learnable events.
    """

    def __init__(
        self, tier: StateTier, settings: Settings, encoder: Encoder, items: Sequence[Item], split: Split
    ) -> None:
        self._tier, self._encoder = tier, encoder
        self._log = log = split.learnt
        self.events = len(log)
        self._taken = 0
        self._keys = np.array([item_key(item) for item in log.names.items], np.uint64)
        columns = LogColumns(
            self._keys, log.user, log.item, log.time_ms, np.minimum(1, log.weights(tier.decay.weights))
        )
        limit = settings.candidates.max_events_per_hour
        self._counter = LogCounter(tier.counts, settings.interest.history, limit, columns)
        asked = np.zeros(len(log.names.users), bool)
        asked[[log.user_codes[case.user] for case in split.cases if case.user in log.user_codes]] = True
        self._of_asked = np.flatnonzero(asked[log.user])
        self._first_ms = int(split.log.time_ms[0])
        self._items = sorted(items, key=lambda item: (_appeared_ms(item), item.item_id))
        self._pending: list[tuple[Item, Vector]] = []  # the one that appears first is the last
        users = {case.user for case in split.cases}
        self._signs = [sign for sign in reversed(split.log.signs) if sign.user in users]  # the first is the last
        self._queries: dict[str, Vector] = {}
        self._wishes = WishReader(settings)

    def encode_items(self, progress: Progress) -> None:
        """Encode all items, whenever they appear: in batches each takes a third of the time."""
        for begin in range(0, len(self._items), ENCODED):
            items = self._items[begin : begin + ENCODED]
            vectors = rounded(self._encoder.encode([describe_item(item) for item in items]))
            self._pending += zip(items, vectors, strict=True)
            progress(len(self._pending), len(self._items) + self.events)
        self._pending.reverse()
        texts = list(dict.fromkeys(sign.event.query.text for sign in self._signs if sign.event and sign.event.query))
        self._queries = dict(zip(texts, self._encoder.encode_events(texts), strict=True)) if texts else {}

    def take_items(self, until_ms: int) -> None:
        """Take in the items that have appeared by a time."""
        while self._pending and _appeared_ms(self._pending[-1][0]) <= until_ms:
            item, vector = self._pending.pop()
            self._tier.put_item(item, vector, self._first_ms)

    def take_signs(self, before_ms: int) -> None:
        """Take in what else the users of the cases did before a time."""
        while self._signs and self._signs[-1].time_ms < before_ms:
            sign = self._signs.pop()
            if sign.event:
                self._tier.learn(sign.user, sign.event, self._queries)
            if sign.shown:
                users = self._tier.users
                users.put(sign.user, shown=written(newest([*read(users.get(sign.user).shown), sign.shown])))
            if sign.wish:
                self._take_wish(sign.user, sign.time_ms, sign.wish)

    def _take_wish(self, user: str, said_ms: int, said: SaidWish) -> None:
        """Keep a wish as a worker without a model for wishes does."""
        message = Preference(
            event_id=said.wish_id,
            user_id=user,
            timestamp=said_ms,
            text=said.text,
            expires_at=said.expires_ms,
            revoke=said.revokes,
        )
        understood, tier = self._wishes.read(message), self._tier
        texts = understood.sought
        vectors = dict(zip(texts, self._encoder.encode_events(texts), strict=True)) if texts else {}
        note_wish(tier.users, user, message, understood, vectors, tier.decay)

    def take_events(self, until: int, progress: Progress) -> None:
        """Take in the first learnable events, up to this number of them, and the items that appeared meanwhile."""
        while self._taken < until:
            begin, end = self._taken, min(until, self._taken + COUNTED)
            for index in self._of_asked[slice(*np.searchsorted(self._of_asked, [begin, end]))].tolist():
                event = self._log[index]
                self.take_items(event.time_ms)
                key = int(self._keys[self._log.item[index]])
                self._tier.learn(event.user, Event(key, event.time_ms, event.kind, event.strength))
            self._counter.count(begin, end)
            self._taken = end
            self.take_items(int(self._log.time_ms[end - 1]))
            if end < until:
                self.report(progress)

    def report(self, progress: Progress) -> None:
        """Report how many items are encoded and events taken in, of all."""
        progress(len(self._items) + self._taken, len(self._items) + self.events)


def _appeared_ms(item: Item) -> int:
    return 0 if item.timestamp is None else milliseconds(item.timestamp)

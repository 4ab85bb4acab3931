"""A worker under load: the generated shop's items and clicks to it, its requests and lists from it.

Knows what a click and a list are, and nothing of what is measured with them. Called by `pipeline`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from itertools import count
from statistics import median

import msgspec
import numpy as np

from streams.bench.ground import ECHO, BenchFailed
from streams.bench.traffic import Message, Reader, Received, Timings, answers, producer, send, timed
from streams.contracts import Click, Trigger
from streams.datasets.shop import SyntheticShop
from streams.settings import Settings

SEED, ITEMS = 7, 1_000


class Answer(msgspec.Struct):
    """What tells, of a rank request or a list, which event it answers, and whether the model made it."""

    trigger: Trigger | None = None
    degraded: str | None = None


class Traffic:
    """Everything that is sent to a worker and read from it; the items are sent at once."""

    def __init__(self, settings: Settings, embedded: bool) -> None:
        self.settings, kafka = settings, settings.kafka
        self.lists, self.requests, self.echoes = (
            Reader(kafka, self.settings.topic(name), embedded) for name in ("recommendations", "rank-requests", ECHO)
        )
        self._sender = producer(kafka)
        self._numbers = count()
        self._random = np.random.default_rng(SEED)
        self.items = SyntheticShop(SEED, ITEMS, shoppers=1).items
        for item in self.items:
            self._sender.produce(self.settings.topic("items"), key=item.item_id, value=msgspec.json.encode(item))
        self._sender.flush()

    def close(self) -> None:
        for reader in (self.lists, self.requests, self.echoes):
            reader.close()

    def click(self, user_id: str, time_ms: int, item_id: str | None = None) -> Message:
        """Make an event of its own; of any item unless one is given."""
        item_id = item_id or self.items[int(self._random.integers(ITEMS))].item_id
        event = Click(event_id=f"e{next(self._numbers)}", user_id=user_id, item_id=item_id, timestamp=time_ms)
        return Message(event.event_id, self.settings.topic("clicks"), user_id, msgspec.json.encode(event))

    def send(self, clicks: Sequence[Message]) -> None:
        """Send clicks, and wait for nothing but Kafka."""
        send(self._sender, clicks)

    def answered(self, clicks: Sequence[Message], per_s: float | None, degraded: str | None) -> Timings:
        """Send clicks and time their lists, each of which must have been made by the model, or say why not."""
        timings = timed(self._sender, clicks, self.lists, event_of, per_s)
        self._check(timings.answers.values(), degraded)
        return timings

    def settle(self, clicks: Sequence[Message]) -> None:
        """Wait for the lists of clicks that were sent, all made by the model."""
        self._check(answers(self.lists, [click.id for click in clicks], event_of).values(), None)

    def echoed(self, like: Timings, per_s: float, seconds: float) -> Timings:
        """Time plain round trips through the same Kafka, with messages as long as those lists."""
        value = b"." * round(median(len(received.value) for received in like.answers.values()))
        topic = self.settings.topic(ECHO)
        ids = [f"echo{next(self._numbers)}" for _ in range(round(per_s * seconds))]
        messages = [Message(id_, topic, id_, value) for id_ in ids]
        return timed(self._sender, messages, self.echoes, lambda received: received.key.decode(), per_s)

    def _check(self, lists: Iterable[Received], degraded: str | None) -> None:
        for received in lists:
            if (got := msgspec.json.decode(received.value, type=Answer).degraded) != degraded:
                raise BenchFailed(f"a list: got degraded {got!r}, expected {degraded!r}; is the machine busy?")


def event_of(received: Received) -> str | None:
    """Tell which event a rank request or a list answers."""
    trigger = msgspec.json.decode(received.value, type=Answer).trigger
    return trigger.event_id if trigger else None


def now_ms() -> int:
    """Tell the wall clock, as events have it."""
    return round(time.time() * 1000)

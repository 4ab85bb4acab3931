"""The backend of a shop that a worker under load serves: sends items and clicks, reads rank requests and lists.

Knows clicks and lists; knows no benchmark.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import count
from statistics import median

import msgspec
import numpy as np

from streams.bench.kafka_clients import (
    ReceivedMessage,
    RoundTrips,
    SentEvent,
    TopicReader,
    producer,
    round_trips,
    send,
    wait_for_replies,
)
from streams.bench.servers import ECHO_TOPIC, BenchFailed, Servers, worker_topics
from streams.contracts import Click, Trigger
from streams.datasets.shop import SyntheticShop
from streams.settings import Settings

SEED, ITEMS = 7, 1_000


class ListHeader(msgspec.Struct):
    """The fields of a rank request or a list that say which event it is for, and whether the model ranked it."""

    trigger: Trigger | None = None
    degraded: str | None = None


class WorkerClient:
    """Sends to one worker, and reads what the worker writes. The constructor sends all items.

    Attributes
    ----------
    settings : Settings
        The worker's.
    items : list of Item
        The catalogue.
    lists, requests, echoes : TopicReader
        Of the worker's lists, its rank requests, and the benchmark's own echo topic.
    """

    def __init__(self, settings: Settings, embedded: bool, items: int) -> None:
        self.settings, kafka = settings, settings.kafka
        self.lists, self.requests, self.echoes = (
            TopicReader(kafka, self.settings.topic(name), embedded)
            for name in ("recommendations", "rank-requests", ECHO_TOPIC)
        )
        self._sender = producer(kafka)
        self._numbers = count()
        self._random = np.random.default_rng(SEED)
        self.items = SyntheticShop(SEED, items, shoppers=1).items
        for item in self.items:
            self._sender.produce(self.settings.topic("items"), key=item.item_id, value=msgspec.json.encode(item))
            self._sender.poll(0)
        self._sender.flush()

    def close(self) -> None:
        for reader in (self.lists, self.requests, self.echoes):
            reader.close()

    def click(self, user_id: str, time_ms: int, item_id: str | None = None) -> SentEvent:
        """Make a click with an event id of its own, on a random item unless `item_id` is given."""
        item_id = item_id or self.items[int(self._random.integers(len(self.items)))].item_id
        event = Click(event_id=f"e{next(self._numbers)}", user_id=user_id, item_id=item_id, timestamp=time_ms)
        return SentEvent(event.event_id, self.settings.topic("clicks"), user_id, msgspec.json.encode(event))

    def send(self, clicks: Sequence[SentEvent]) -> None:
        """Send clicks; wait until Kafka has them, not for their lists."""
        send(self._sender, clicks)

    def round_trips(self, clicks: Sequence[SentEvent], per_s: float | None, degraded: str | None) -> RoundTrips:
        """Send clicks and time their lists.

        Parameters
        ----------
        clicks : sequence of SentEvent
        per_s : float or None
            Clicks a second; None for as fast as possible.
        degraded : str or None
            The value that every list must have in its field `degraded`.

        Raises
        ------
        BenchFailed
            A list has another `degraded`, or lists are missing.
        """
        trips = round_trips(self._sender, clicks, self.lists, event_of, per_s)
        _check_degraded(trips.replies.values(), degraded)
        return trips

    def wait_for_lists(self, clicks: Sequence[SentEvent]) -> None:
        """Wait for the lists of clicks that were sent before; the model must have ranked all of them.

        Raises
        ------
        BenchFailed
            A list was not ranked by the model, or lists are missing.
        """
        replies = wait_for_replies(self.lists, [click.id for click in clicks], event_of)
        _check_degraded(replies.values(), None)

    def echo_round_trips(self, lists: RoundTrips, per_s: float, duration_s: float) -> RoundTrips:
        """Time plain round trips through the same Kafka, with messages of the median size of these lists."""
        value = b"." * round(median(len(message.value) for message in lists.replies.values()))
        topic = self.settings.topic(ECHO_TOPIC)
        ids = [f"echo{next(self._numbers)}" for _ in range(round(per_s * duration_s))]
        messages = [SentEvent(id_, topic, id_, value) for id_ in ids]
        return round_trips(self._sender, messages, self.echoes, lambda message: message.key.decode(), per_s)


@contextmanager
def worker_client(servers: Servers, model: str, items: int | None = None) -> Iterator[WorkerClient]:
    """Make topics for one worker that ranks with `model`; yield a client of them that has sent `items` items."""
    with (
        worker_topics(servers, model) as settings,
        closing(WorkerClient(settings, servers.embedded, items or ITEMS)) as client,
    ):
        yield client


def event_of(message: ReceivedMessage) -> str | None:
    """Return the id of the event that a rank request or a list is for; None if no event caused it."""
    trigger = msgspec.json.decode(message.value, type=ListHeader).trigger
    return trigger.event_id if trigger else None


def now_ms() -> int:
    """Return the wall clock in milliseconds since 1970, as events have it."""
    return round(time.time() * 1000)


def _check_degraded(lists: Iterable[ReceivedMessage], expected: str | None) -> None:
    for message in lists:
        if (got := msgspec.json.decode(message.value, type=ListHeader).degraded) != expected:
            raise BenchFailed(f"a list: got degraded {got!r}, expected {expected!r}; is the machine busy?")

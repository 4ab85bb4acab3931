"""Measure what the stream costs: the time from an event to its list, and lists a second beside the scorer alone.

A real worker, real clients, and the generated shop's catalogue. On a machine with few cores the clients, Kafka and the
worker share the cores, and the scorer alone has them all: the figures get worse by that, never better.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from ranker.progress import StageProgress
from streams.bench import random_models
from streams.bench.kafka_clients import ReceivedMessage, RoundTrips, SentEvent
from streams.bench.measurement import Measurement, Target, percentile
from streams.bench.scorer_alone import ScorerAlone
from streams.bench.servers import Servers
from streams.bench.worker_client import ITEMS, WorkerClient, event_of, now_ms, worker_client
from streams.testing.worker_process import worker

ROUNDS = 3
RATE_PER_S, RATE_S, USERS = 50, 15.0, 200
ECHO_S = 4.0
WARM_UP_S = 2.0
HISTORY = 10
DAY_MS, MINUTE_MS = 86_400_000, 60_000

Peer = tuple[str, Sequence[float]]
"""The peer's name, and its figure of each round."""


@dataclass(frozen=True)
class ModelLoad:
    """The load on a worker that ranks with a model.

    Attributes
    ----------
    lists : int
        Lists requested at once, in each round.
    half_rate_s : float
        Seconds of each round at half the rate that the rounds at once showed.
    caches_texts : bool
        Whether the model caches what it computed of a text, so that every item must be cached before the rounds.
    saturated : Target, optional
        Of the ratio of lists a second to the scorer's own.
    p50, p99 : Target, optional
        Of the ratio of the times from event to list to the scorer's time for one list.
    """

    lists: int
    half_rate_s: float
    caches_texts: bool
    saturated: Target | None = None
    p50: Target | None = None
    p99: Target | None = None


BI_ENCODER = ModelLoad(250, 5.0, True, saturated=Target(0.8, at_most=False, of="ratio"))
PACKED = ModelLoad(24, 10.0, False, p50=Target(2, at_most=True, of="ratio"), p99=Target(5, at_most=True, of="ratio"))


def measure(servers: Servers, stage: StageProgress) -> list[Measurement]:
    """Measure the stream without a model, then with the user's model, then with a packed encoder of MiniLM's shape.

    Raises
    ------
    BenchFailed
        The worker ended, lost lists, or ranked without its model.
    """
    with tempfile.TemporaryDirectory(prefix="afterclick-bench-", ignore_cleanup_errors=True) as folder:
        model = servers.settings.ranker.model
        packed = random_models.encoder(Path(folder) / "encoder", "MiniLM", random_models.MINILM)
        packed_name = f"packed encoder of {packed.name}'s shape"
        return [
            *_without_model(servers, stage),
            *WithModel(servers, stage, model, model, BI_ENCODER).measure(),
            *WithModel(servers, stage, packed_name, str(packed.folder), PACKED).measure(),
        ]


def _without_model(servers: Servers, stage: StageProgress) -> list[Measurement]:
    """Measure the time from event to list with a scorer that returns at once: the cost of the stream itself."""
    lists, echoes = [], []
    with worker_client(servers, "none") as client, _ready_worker(client, stage):
        for number in range(ROUNDS):
            stage(f"{RATE_PER_S} events/s through the machinery, round {number + 1} of {ROUNDS}")
            clicks = [client.click(f"user-{event % USERS}", now_ms()) for event in range(round(RATE_PER_S * RATE_S))]
            trips = client.round_trips(clicks, RATE_PER_S, "no-model")
            lists.append(trips)
            echoes.append(client.echo_round_trips(trips, RATE_PER_S, ECHO_S))
    name = f"event to list at {RATE_PER_S} events/s, a scorer that returns at once"
    peer = {
        percent: (f"plain Kafka round trip p{percent}", [percentile(echo.latencies_ms(), percent) for echo in echoes])
        for percent in (50, 99)
    }
    return _latencies(name, lists, peer, {50: Target(15, at_most=True), 99: Target(60, at_most=True)})


class WithModel:
    """The stream with a model: lists a second beside the scorer alone, then event-to-list time at half that rate.

    Both sides do the same work: the scorer alone scores the very requests that the worker had, in order, in batches of
    the same size. Both start with equal caches. Before the rounds the worker ranks a history for each user and, if the
    model caches texts, a click on every item; the scorer alone reads every text of those requests. So the candidates
    are cached on both sides. Each round's histories are another number of days old than any before, so their lines
    are new to both sides when the round begins.
    """

    def __init__(self, servers: Servers, stage: StageProgress, name: str, model: str, load: ModelLoad) -> None:
        self._servers, self._stage = servers, stage
        self._name, self._model, self._load = name, model, load
        self._item_users = [f"warm-{number}" for number in range(ITEMS)] if load.caches_texts else []
        self._users_of_rounds = [[f"user-{number}-{user}" for user in range(load.lists)] for number in range(ROUNDS)]

    def measure(self) -> list[Measurement]:
        """Run a worker with the model, and measure.

        Raises
        ------
        BenchFailed
            The worker ended, lost lists, or ranked without its model.
        """
        with worker_client(self._servers, self._model) as client:
            self._stage(f"Loading the {self._name}")
            alone = ScorerAlone(self._model, client.settings.ranker)
            warm_up = list(self._warm_up_clicks(client))
            client.send(warm_up)  # before the worker starts: it then makes one list for several events of a user
            newest = {click.key: click for click in warm_up}
            with _ready_worker(client, self._stage):
                self._stage(f"Lists of {len(newest):,} users, to warm up")
                client.wait_for_lists(list(newest.values()))
                self._stage("Warming up the scorer alone")
                alone.warm_up(client.requests.rest())
                saturated = self._saturated(client, alone)
                return [saturated, *self._half_rate(client, alone, saturated.figure / 2)]

    def _saturated(self, client: WorkerClient, alone: ScorerAlone) -> Measurement:
        """Measure lists a second when all users of a round click at once."""
        load, whole, by_itself = self._load, [], []
        for number, users in enumerate(self._users_of_rounds):
            self._stage(f"{load.lists} users click at once, round {number + 1} of {ROUNDS}")
            trips = client.round_trips([client.click(user, now_ms()) for user in users], None, None)
            whole.append(trips.per_s())
            by_itself.append(alone.per_s(_requests_of(client, trips)))
        return Measurement(
            f"lists of the whole pipeline, {load.lists} users at once, {self._name}",
            "lists/s",
            whole,
            "the scorer alone",
            by_itself,
            load.saturated,
            f"The {self._name} runs in {alone.placement.dtype} on {alone.placement.device}.",
        )

    def _half_rate(self, client: WorkerClient, alone: ScorerAlone, rate_per_s: float) -> list[Measurement]:
        """Measure the time from event to list at a rate that the worker carries."""
        load, lists, single_ms = self._load, [], []
        users = cycle(self._item_users + [user for users in self._users_of_rounds for user in users])
        for number in range(ROUNDS):
            self._stage(f"Half of that rate, {rate_per_s:.1f} events/s, round {number + 1} of {ROUNDS}")
            clicks = [client.click(next(users), now_ms()) for _ in range(round(rate_per_s * load.half_rate_s))]
            trips = client.round_trips(clicks, rate_per_s, None)
            lists.append(trips)
            if not load.caches_texts:  # with cached texts, scoring a list a second time would be a mere lookup
                single_ms.append(alone.one_list_ms(_requests_of(client, trips)))
        name = f"event to list at {rate_per_s:.1f} events/s, {self._name}"
        peer: Peer = ("the scorer alone, one list, p50", single_ms) if single_ms else ("", ())
        return _latencies(name, lists, {50: peer, 99: peer}, {50: load.p50, 99: load.p99})

    def _warm_up_clicks(self, client: WorkerClient) -> Iterator[SentEvent]:
        """Yield a click on each item, each by a user of its own; then each round's histories, a click a minute."""
        begin_ms = now_ms()
        for user, item in zip(self._item_users, client.items, strict=False):  # no such users, no items to cache
            yield client.click(user, begin_ms, item.item_id)
        for number, users in enumerate(self._users_of_rounds):
            newest_ms = begin_ms - (number + 2) * DAY_MS
            for user in users:
                for minutes in reversed(range(HISTORY)):
                    yield client.click(user, newest_ms - minutes * MINUTE_MS)


def _requests_of(client: WorkerClient, trips: RoundTrips) -> list[ReceivedMessage]:
    """Return the rank requests that the worker made for these events."""
    return [request for request in client.requests.rest() if event_of(request) in trips.sent_s]


def _latencies(
    name: str,
    lists: Sequence[RoundTrips],
    peer: Mapping[int, Peer],
    targets: Mapping[int, Target | None],
) -> list[Measurement]:
    """Return the median and the 99th percentile of each round, beside the peer's."""
    without_list = sum(trips.without_reply for trips in lists)
    note = f"{name}: {without_list} events got no list, only a newer list of their user." if without_list else ""
    return [
        Measurement(
            f"{name}, p{percent}",
            "ms",
            [percentile(trips.latencies_ms(WARM_UP_S), percent) for trips in lists],
            *peer[percent],
            targets[percent],
            note,
        )
        for percent in (50, 99)
    ]


@contextmanager
def _ready_worker(client: WorkerClient, stage: StageProgress) -> Iterator[None]:
    """Run a worker; yield when it is ready and has every item."""
    stage("Starting a worker")
    with worker(client.settings) as process:
        process.wait_ready()
        stage(f"Encoding {ITEMS:,} items")
        process.wait("afterclick_catalogue_items", ITEMS)
        yield
        stage("Stopping the worker")

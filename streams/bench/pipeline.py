"""What the stream costs: event-to-list time, and lists a second against those of the scorer alone.

A real worker, real clients, the generated shop's catalogue. On a machine with few cores the load, Kafka and the worker
share them, the scorer alone has them all: the figures are the worse for it, never the better. Called by `bench`.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from statistics import median

import msgspec
from rich.progress import Progress

from encoders.describe import describe_history
from encoders.event_time import milliseconds
from ranker.load import load_scorer
from ranker.score import Scorer, ScoreRequest
from streams.bench import shapes
from streams.bench.clicks import ITEMS, Traffic, event_of, now_ms
from streams.bench.ground import Ground, topics
from streams.bench.rows import Row, Target, percentile
from streams.bench.traffic import Message, Received, Timings
from streams.contracts import RankRequest
from streams.testing.worker_process import worker

ROUNDS = 3
RATE_PER_S, RATE_S, USERS = 50, 15.0, 200
ECHO_S = 4.0
WARM_UP_S = 2.0
HISTORY, SINGLE_LISTS = 10, 20
WARM_LINES, WARM_CANDIDATES = 20, 100  # of one request that only warms
DAY_MS, MINUTE_MS = 86_400_000, 60_000

Say = Callable[[str], None]
Peer = tuple[str, Sequence[float]]
"""What it is, and its figure of each round."""


@dataclass(frozen=True)
class Load:
    """What a model's worker is given.

    Attributes
    ----------
    lists : asked for at once, in each round.
    half_rate_s : seconds of each round at half the rate that this showed.
    keeps_texts : whether the model keeps what it read of a text, so that every item is to be warm before the rounds.
    saturated, p50, p99 : targets, if there are any: lists a second over the scorer's own, and times over those of one
        list.
    """

    lists: int
    half_rate_s: float
    keeps_texts: bool
    saturated: Target | None = None
    p50: Target | None = None
    p99: Target | None = None


BI_ENCODER = Load(250, 5.0, True, saturated=Target(0.8, at_most=False, of="ratio"))
PACKED = Load(24, 10.0, False, p50=Target(2, at_most=True, of="ratio"), p99=Target(5, at_most=True, of="ratio"))


def measure(ground: Ground, progress: Progress) -> list[Row]:
    """Measure the machinery, then the whole with its model, then with a packed encoder of MiniLM's shape.

    Raises
    ------
    BenchFailed
        The worker ended, lost lists, or ranked without its model.
    """
    with (
        _saying(progress) as say,
        tempfile.TemporaryDirectory(prefix="afterclick-bench-", ignore_cleanup_errors=True) as folder,
    ):
        model = ground.settings.ranker.model
        packed = shapes.encoder(Path(folder) / "encoder", "MiniLM", shapes.MINILM)
        return [
            *_machinery(ground, say),
            *_with_model(ground, say, model, model, BI_ENCODER),
            *_with_model(ground, say, f"packed encoder of {packed.name}'s shape", str(packed.folder), PACKED),
        ]


def _machinery(ground: Ground, say: Say) -> list[Row]:
    """Event-to-list time where the scorer returns at once: what the stream itself costs."""
    lists, echoes = [], []
    with _traffic(ground, "none") as traffic, _working(traffic, say):
        for number in range(ROUNDS):
            say(f"{RATE_PER_S} events/s through the machinery, round {number + 1} of {ROUNDS}")
            clicks = [traffic.click(f"user-{place % USERS}", now_ms()) for place in range(round(RATE_PER_S * RATE_S))]
            timings = traffic.answered(clicks, RATE_PER_S, "no-model")
            lists.append(timings)
            echoes.append(traffic.echoed(timings, RATE_PER_S, ECHO_S))
    what = f"event to list at {RATE_PER_S} events/s, a scorer that returns at once"
    peer = {
        percent: (f"plain Kafka round trip p{percent}", [percentile(echo.latencies_ms(), percent) for echo in echoes])
        for percent in (50, 99)
    }
    return _latency_rows(what, lists, peer, {50: Target(15, at_most=True), 99: Target(60, at_most=True)})


def _with_model(ground: Ground, say: Say, name: str, model: str, load: Load) -> list[Row]:
    """Lists a second of the whole, and of its scorer alone with the same work; then event-to-list at half of that.

    The same work: the scorer alone answers the very requests that the worker had, in order, in batches as large.
    Equal caches: before the rounds the worker ranks a history for each user, and where the model keeps texts a click
    on every item, and the scorer alone sees every text of those requests, so the candidates are warm in both. In a
    round, each history is some days old, another number of days than ever before, so its lines are new to both when
    the round begins.
    """
    warm_users = [f"warm-{number}" for number in range(ITEMS)] if load.keeps_texts else []
    users = [[f"user-{number}-{place}" for place in range(load.lists)] for number in range(ROUNDS)]
    with _traffic(ground, model) as traffic:
        settings = traffic.settings
        say(f"Loading the {name}")
        scorer = load_scorer(model, settings.ranker.device, settings.ranker.dtype)
        alone = Alone(scorer, settings.ranker.batch_lists)
        warm_up = list(_warm_up(traffic, warm_users, users))
        traffic.send(warm_up)  # before there is a worker: it then needs few lists for many events
        newest = {click.key: click for click in warm_up}
        with _working(traffic, say):
            say(f"Lists of {len(newest):,} users, to warm up")
            traffic.settle(list(newest.values()))
            say("Warming up the scorer alone")
            alone.warm_up(traffic.requests.rest())
            whole, by_itself = [], []
            for number, of_round in enumerate(users):
                say(f"{load.lists} users click at once, round {number + 1} of {ROUNDS}")
                timings = traffic.answered([traffic.click(user, now_ms()) for user in of_round], None, None)
                whole.append(timings.per_s())
                by_itself.append(alone.per_s(_answered(traffic, timings)))

            rate, lists, single_ms = median(whole) / 2, [], []
            everybody = cycle(warm_users + [user for of_round in users for user in of_round])
            for number in range(ROUNDS):
                say(f"Half of that rate, {rate:.1f} events/s, round {number + 1} of {ROUNDS}")
                clicks = [traffic.click(next(everybody), now_ms()) for _ in range(round(rate * load.half_rate_s))]
                timings = traffic.answered(clicks, rate, None)
                lists.append(timings)
                if not load.keeps_texts:  # one that does has read all of a list when it comes again: that is a lookup
                    single_ms.append(alone.one_ms(_answered(traffic, timings)))
    saturated = Row(
        f"lists of the whole pipeline, {load.lists} users at once, {name}",
        "lists/s",
        whole,
        "the scorer alone",
        by_itself,
        load.saturated,
        f"The {name} runs in {scorer.placement.dtype} on {scorer.placement.device}.",
    )
    what = f"event to list at {rate:.1f} events/s, {name}"
    peer: Peer = ("the scorer alone, one list, p50", single_ms) if single_ms else ("", ())
    return [saturated, *_latency_rows(what, lists, {50: peer, 99: peer}, {50: load.p50, 99: load.p99})]


def _answered(traffic: Traffic, timings: Timings) -> list[Received]:
    """The rank requests of these events."""
    return [request for request in traffic.requests.rest() if event_of(request) in timings.sent_s]


class Alone:
    """A scorer in this process, given the requests that a worker had."""

    def __init__(self, scorer: Scorer, batch_lists: int) -> None:
        self._scorer = scorer
        self._batch_lists = batch_lists

    def warm_up(self, received: Sequence[Received]) -> None:
        """Score every line and every candidate of these requests once."""
        requests = _requests(received)
        lines = list(dict.fromkeys(line for request in requests for line in request.context.splitlines()))
        texts = list(dict.fromkeys(text for request in requests for text in request.candidates))
        for start in range(0, len(lines), WARM_LINES):
            self._scorer.score([ScoreRequest("\n".join(lines[start : start + WARM_LINES]), texts[:1])])
        for start in range(0, len(texts), WARM_CANDIDATES):
            self._scorer.score([ScoreRequest(lines[0], texts[start : start + WARM_CANDIDATES])])

    def per_s(self, received: Sequence[Received]) -> float:
        """Score them in batches, as the rank tier puts them; lists a second."""
        requests = _requests(received)
        begin = time.perf_counter()
        for start in range(0, len(requests), self._batch_lists):
            self._scorer.score(requests[start : start + self._batch_lists])
        return len(requests) / (time.perf_counter() - begin)

    def one_ms(self, received: Sequence[Received]) -> float:
        """Score some of them one by one; milliseconds of one, the median."""
        return median(_ms(self._scorer, request) for request in _requests(received)[:SINGLE_LISTS])


def _ms(scorer: Scorer, request: ScoreRequest) -> float:
    begin = time.perf_counter()
    scorer.score([request])
    return (time.perf_counter() - begin) * 1e3


def _requests(received: Sequence[Received]) -> list[ScoreRequest]:
    """Put rank requests into words, as the rank tier does."""
    decoded = [msgspec.json.decode(request.value, type=RankRequest) for request in received]
    return [
        ScoreRequest(
            describe_history(request.history, milliseconds(request.as_of)),
            [candidate.text for candidate in request.candidates],
        )
        for request in decoded
    ]


def _warm_up(traffic: Traffic, warm_users: Sequence[str], users: Sequence[Sequence[str]]) -> Iterator[Message]:
    """A click on each item, each by a user of its own; then each round's histories, a minute between their clicks."""
    begin_ms = now_ms()
    for user, item in zip(warm_users, traffic.items, strict=False):  # without warm users, no items to warm
        yield traffic.click(user, begin_ms, item.item_id)
    for number, of_round in enumerate(users):
        newest_ms = begin_ms - (number + 2) * DAY_MS
        for user in of_round:
            for minutes in reversed(range(HISTORY)):
                yield traffic.click(user, newest_ms - minutes * MINUTE_MS)


def _latency_rows(
    what: str,
    lists: Sequence[Timings],
    peer: Mapping[int, Peer],
    targets: Mapping[int, Target | None],
) -> list[Row]:
    """Both percentiles, of each round, beside the peer's."""
    unanswered = sum(timings.unanswered for timings in lists)
    note = f"{what}: {unanswered} events were answered by a newer list of their user." if unanswered else ""
    return [
        Row(
            f"{what}, p{percent}",
            "ms",
            [percentile(timings.latencies_ms(WARM_UP_S), percent) for timings in lists],
            *peer[percent],
            targets[percent],
            note,
        )
        for percent in (50, 99)
    ]


@contextmanager
def _traffic(ground: Ground, model: str) -> Iterator[Traffic]:
    with topics(ground, model) as settings, closing(Traffic(settings, ground.embedded)) as traffic:
        yield traffic


@contextmanager
def _working(traffic: Traffic, say: Say) -> Iterator[None]:
    """A worker that is ready and knows every item."""
    say("Starting a worker")
    with worker(traffic.settings) as running:
        running.wait_ready()
        say(f"Encoding {ITEMS:,} items")
        running.wait("afterclick_catalogue_items", ITEMS)
        yield
        say("Stopping the worker")


@contextmanager
def _saying(progress: Progress) -> Iterator[Say]:
    """A bar that moves while something goes on, and says what."""
    task = progress.add_task("", total=None)
    try:
        yield lambda text: progress.update(task, description=text)
    finally:
        progress.remove_task(task)

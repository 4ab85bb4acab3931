"""What the stream costs: event-to-list time, and lists a second against those of the scorer alone.

A real worker, real clients, the generated shop's catalogue. On a machine with few cores the load, Kafka and the worker
share them, the scorer alone has them all: the figures are the worse for it, never the better. Called by `bench`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from statistics import median

import msgspec
from rich.progress import Progress

from encoders.describe import describe_history
from encoders.event_time import milliseconds
from ranker import Scorer, ScoreRequest, load_scorer
from streams.bench.clicks import ITEMS, Traffic, event_of, now_ms
from streams.bench.ground import Ground, topics
from streams.bench.rows import Row, Target, percentile
from streams.bench.traffic import Message, Received, Timings
from streams.contracts import RankRequest
from streams.worker_process import worker

ROUNDS = 3
RATE_PER_S, RATE_S, USERS = 50, 15.0, 200
ECHO_S = 4.0
WARM_UP_S = 2.0
BURST_LISTS, HISTORY = 250, 10
HALF_RATE_S, HALF_RATE_ECHO_S = 5.0, 3.0
WARM_LINES, WARM_CANDIDATES = 20, 100  # of one request that only warms
DAY_MS, MINUTE_MS = 86_400_000, 60_000

Say = Callable[[str], None]


def measure(ground: Ground, progress: Progress) -> list[Row]:
    """Measure the machinery, then the whole with its model.

    Raises
    ------
    BenchFailed
        The worker ended, lost lists, or ranked without its model.
    """
    with _saying(progress) as say:
        return _machinery(ground, say) + _with_model(ground, say)


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
    return _latency_rows(what, lists, echoes, {50: Target(15, at_most=True), 99: Target(60, at_most=True)})


def _with_model(ground: Ground, say: Say) -> list[Row]:
    """Lists a second of the whole, and of its scorer alone with the same work; then event-to-list at half of that.

    The same work: the scorer alone answers the very requests that the worker had, in order, in batches as large.
    Equal caches: before the rounds the worker ranks a click on every item, then a history for each user, and the
    scorer alone sees every text of those requests, so the candidates are warm in both. In a round, each history
    is some days old, another number of days than ever before, so its lines are new to both when the round begins.
    """
    model = ground.settings.ranker.model
    warm_users = [f"warm-{number}" for number in range(ITEMS)]
    users = [[f"user-{number}-{place}" for place in range(BURST_LISTS)] for number in range(ROUNDS)]
    with _traffic(ground, model) as traffic:
        settings = traffic.settings
        say(f"Loading {model}")
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
                say(f"{BURST_LISTS} users click at once, round {number + 1} of {ROUNDS}")
                timings = traffic.answered([traffic.click(user, now_ms()) for user in of_round], None, None)
                whole.append(timings.per_s())
                requests = [request for request in traffic.requests.rest() if event_of(request) in timings.sent_s]
                by_itself.append(alone.per_s(requests))

            rate, lists, echoes = median(whole) / 2, [], []
            everybody = iter(warm_users + [user for of_round in users for user in of_round])
            events = min(round(rate * HALF_RATE_S), (ITEMS + ROUNDS * BURST_LISTS) // ROUNDS)
            for number in range(ROUNDS):
                say(f"Half of that rate, {rate:.0f} events/s, round {number + 1} of {ROUNDS}")
                timings = traffic.answered(
                    [traffic.click(next(everybody), now_ms()) for _ in range(events)], rate, None
                )
                lists.append(timings)
                echoes.append(traffic.echoed(timings, rate, HALF_RATE_ECHO_S))
    saturated = Row(
        f"lists of the whole pipeline, {BURST_LISTS} users at once, {model}",
        "lists/s",
        whole,
        "the scorer alone",
        by_itself,
        Target(0.8, at_most=False, of="ratio"),
        f"{model} runs in {scorer.placement.dtype} on {scorer.placement.device}.",
    )
    return [saturated, *_latency_rows(f"event to list at {rate:.0f} events/s, {model}", lists, echoes, {})]


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
    for user, item in zip(warm_users, traffic.items, strict=True):
        yield traffic.click(user, begin_ms, item.item_id)
    for number, of_round in enumerate(users):
        newest_ms = begin_ms - (number + 2) * DAY_MS
        for user in of_round:
            for minutes in reversed(range(HISTORY)):
                yield traffic.click(user, newest_ms - minutes * MINUTE_MS)


def _latency_rows(
    what: str, lists: Sequence[Timings], echoes: Sequence[Timings], targets: dict[int, Target]
) -> list[Row]:
    """Both percentiles, of each round, beside those of the plain round trip."""
    unanswered = sum(timings.unanswered for timings in lists)
    note = f"{what}: {unanswered} events were answered by a newer list of their user." if unanswered else ""
    return [
        Row(
            f"{what}, p{percent}",
            "ms",
            [percentile(timings.latencies_ms(WARM_UP_S), percent) for timings in lists],
            f"plain Kafka round trip p{percent}",
            [percentile(timings.latencies_ms(), percent) for timings in echoes],
            targets.get(percent),
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

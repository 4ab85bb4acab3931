"""Measure the time from an event to its list for users who come back: their last events are days old.

The catalogue is as large as a shop's, the model is the user's own, and no click is left out: whoever comes back waits
for whatever a worker has not prepared. The clients and Kafka share the cores with the worker. On few cores the figures
get worse by that, never better.
"""

from __future__ import annotations

from collections.abc import Iterator

from ranker.progress import StageProgress
from streams.bench.kafka_clients import SentEvent
from streams.bench.measurement import Measurement, Target, percentile
from streams.bench.servers import Servers
from streams.bench.worker_client import WorkerClient, now_ms, worker_client
from streams.testing.worker_process import worker

ROUNDS = 3
ITEMS, USERS, HISTORY = 17_000, 200, 50
RATE_PER_S, CLICKS_EACH = 20, 2
ECHO_S = 4.0
START_S = 900.0
"""Limit of the start: MiniLM encodes some hundred items a second on two cores."""
DAY_MS, MINUTE_MS = 86_400_000, 60_000
P50, P99 = Target(15, at_most=True), Target(60, at_most=True)


def measure(servers: Servers, stage: StageProgress) -> list[Measurement]:
    """Let users with histories come back, each round others, and time all their lists.

    Raises
    ------
    BenchFailed, WorkerFailed
        The worker ended, lost lists, or ranked without its model.
    """
    model = servers.settings.ranker.model
    with worker_client(servers, model, ITEMS) as client:
        histories = list(_histories(client, now_ms()))
        client.send(histories)
        stage(f"Starting a worker with {ITEMS:,} items")
        with worker(client.settings) as process:
            process.wait_ready(START_S)
            process.wait("afterclick_catalogue_items", ITEMS, START_S)
            stage(f"Lists of {ROUNDS * USERS:,} users' old events")
            process.wait("afterclick_lists_total", ROUNDS * USERS, START_S)
            client.wait_for_lists(list({click.key: click for click in histories}.values()))
            lists, echoes = [], []
            for number in range(ROUNDS):
                stage(f"{USERS} users come back, round {number + 1} of {ROUNDS}")
                users = [_user(number, user) for user in range(USERS)]
                clicks = [client.click(user, now_ms()) for _ in range(CLICKS_EACH) for user in users]
                trips = client.round_trips(clicks, RATE_PER_S, None)
                lists.append(trips.latencies_ms())
                echoes.append(client.echo_round_trips(trips, RATE_PER_S, ECHO_S).latencies_ms())
            encoded = process.total("afterclick_text_vectors_total", cache="miss")
    note = f"{ITEMS:,} items; {USERS} users a round, each with {HISTORY} events; {encoded:.0f} texts encoded for lists."
    return [
        Measurement(
            f"event to list of users who come back, {RATE_PER_S} clicks/s, {model}, p{percent}",
            "ms",
            [percentile(of_round, percent) for of_round in lists],
            f"plain Kafka round trip p{percent}",
            [percentile(of_round, percent) for of_round in echoes],
            target,
            note,
        )
        for percent, target in ((50, P50), (99, P99))
    ]


def _histories(client: WorkerClient, begin_ms: int) -> Iterator[SentEvent]:
    """Yield each user's clicks, in order of time; the newest is two days old or older."""
    for number in range(ROUNDS):
        for user in range(USERS):
            newest_ms = begin_ms - (2 + user % 30) * DAY_MS
            for event in reversed(range(HISTORY)):
                age_ms = event // 10 * DAY_MS + event % 10 * MINUTE_MS
                yield client.click(_user(number, user), newest_ms - age_ms)


def _user(number: int, user: int) -> str:
    return f"back-{number}-{user}"

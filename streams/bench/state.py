"""Measure what an event costs the state tier: events a second of one process until their states are durable.

The peer is a Faust agent that writes the same state once per event (`per_event_agent`). A first click shows that the
process is at work: its state is durable. Then all other clicks are sent at once. The clock runs from then to the last
state in the changelog.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

from ranker.progress import StageProgress
from streams.bench.kafka_clients import SentEvent, TopicReader
from streams.bench.measurement import Measurement, Target
from streams.bench.servers import BenchFailed, Servers
from streams.bench.signals import signal_costs
from streams.bench.worker_client import WorkerClient, now_ms, worker_client
from streams.kafka.topics import changelog_name
from streams.settings import Settings
from streams.state.user_record import decode_record
from streams.terminal.progress_bar import track
from streams.testing.worker_process import environment, worker

ROUNDS = 3
USERS, EVENTS_EACH = 1_000, 20
PATIENCE_S = 120.0
PEER = (sys.executable, "-m", "streams.bench.per_event_agent")
MINUTE_MS = 60_000


def measure(servers: Servers, stage: StageProgress) -> list[Measurement]:
    """Measure the state tier and the peer in turns.

    Raises
    ------
    BenchFailed
        The states were not durable in time.
    """
    ours, peers = [], []
    for _ in track(range(ROUNDS), f"{USERS * EVENTS_EACH:,} events of {USERS:,} users", stage):
        ours.append(_state_tier_per_s(servers))
        peers.append(_peer_per_s(servers))
    return [
        Measurement(
            f"events into durable states, one process, {USERS:,} users",
            "events/s",
            ours,
            "a Faust agent that writes its table once per event",
            peers,
            Target(5, at_most=False, of="ratio"),
            "The state tier also detects repeated events, counts co-visits and makes rank requests meanwhile.",
        ),
        *signal_costs(),
    ]


@contextmanager
def per_event_agent(settings: Settings) -> Iterator[None]:
    """Run the peer as a process of its own."""
    process = subprocess.Popen(PEER, env=environment(settings), stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def events_per_s(client: WorkerClient) -> float:
    """Send the clicks to the process at work; return events a second until all of them are in durable states.

    Raises
    ------
    BenchFailed
        The states were not durable within `PATIENCE_S`.
    """
    begin_ms = now_ms() - EVENTS_EACH * MINUTE_MS
    changelog = TopicReader(client.settings.kafka, changelog_name(client.settings), embedded=False)
    with closing(changelog):
        client.send([client.click("first", begin_ms)])
        _wait_durable(changelog, 1)
        clicks = list(_clicks(client, begin_ms))
        started_s = time.monotonic()
        client.send(clicks)
        return len(clicks) / (_wait_durable(changelog, len(clicks)) - started_s)


def _state_tier_per_s(servers: Servers) -> float:
    with worker_client(servers, "none") as client, worker(client.settings, "state") as process:
        process.wait_ready()
        process.wait("afterclick_catalogue_items", len(client.items))
        return events_per_s(client)


def _peer_per_s(servers: Servers) -> float:
    with worker_client(servers, "none") as client, per_event_agent(client.settings):
        return events_per_s(client)


def _wait_durable(changelog: TopicReader, events: int) -> float:
    """Wait until so many events are in durable states; return the monotonic clock at the last of them."""
    versions, at_s = dict[bytes, int](), 0.0
    deadline_s = time.monotonic() + PATIENCE_S
    while sum(versions.values()) < events:
        if time.monotonic() > deadline_s:
            raise BenchFailed(
                f"got {sum(versions.values())} of {events} events in durable states after {PATIENCE_S:g} s, "
                "expected all; is the machine busy?"
            )
        message = changelog.take(0.05)
        if message and message.key.startswith(b"u"):
            versions[message.key] = decode_record(message.value).interest.version
            at_s = message.at_s
    return at_s


def _clicks(client: WorkerClient, begin_ms: int) -> Iterator[SentEvent]:
    for number in range(EVENTS_EACH):
        for user in range(USERS):
            yield client.click(f"user-{user}", begin_ms + number * MINUTE_MS)

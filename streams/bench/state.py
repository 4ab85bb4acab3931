"""What an event costs the state tier: events a second of one process until their states are durable.

The peer is a Faust agent that writes the same state once per event (`per_event_agent`). After one click whose state
shows that the process is at work, all others are sent at once; time runs from then to the last state in the changelog.
Called by `bench`.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

from rich.progress import Progress

from streams.bench.clicks import Traffic, now_ms
from streams.bench.ground import BenchFailed, Ground, topics
from streams.bench.rows import Row, Target
from streams.bench.traffic import Message, Reader
from streams.kafka.topics import changelog_name
from streams.state.user_record import decode_record
from streams.testing.worker_process import environment, worker

ROUNDS = 3
USERS, EVENTS_EACH = 1_000, 20
PATIENCE_S = 120.0
PEER = (sys.executable, "-m", "streams.bench.per_event_agent")
MINUTE_MS = 60_000


def measure(ground: Ground, progress: Progress) -> list[Row]:
    """Measure both in turns.

    Raises
    ------
    BenchFailed
        States were not durable in time.
    """
    ours, peers = [], []
    for _ in progress.track(range(ROUNDS), description=f"{USERS * EVENTS_EACH:,} events of {USERS:,} users"):
        ours.append(_ours(ground))
        peers.append(_peers(ground))
    return [
        Row(
            f"events into durable states, one process, {USERS:,} users",
            "events/s",
            ours,
            "a Faust agent that writes its table once per event",
            peers,
            Target(5, at_most=False, of="ratio"),
            "The state tier also recognises repeated events, counts co-visits and makes rank requests meanwhile.",
        )
    ]


def _ours(ground: Ground) -> float:
    with _traffic(ground) as traffic, worker(traffic.settings, "state") as running:
        running.wait_ready()
        running.wait("afterclick_catalogue_items", len(traffic.items))
        return _rate(traffic)


def _peers(ground: Ground) -> float:
    with _traffic(ground) as traffic:
        process = subprocess.Popen(PEER, env=environment(traffic.settings), stdin=subprocess.DEVNULL)
        try:
            return _rate(traffic)
        finally:
            process.terminate()
            process.wait()


def _rate(traffic: Traffic) -> float:
    """Send the clicks; events a second until all of them are in durable states."""
    begin_ms = now_ms() - EVENTS_EACH * MINUTE_MS
    with closing(Reader(traffic.settings.kafka, changelog_name(traffic.settings), embedded=False)) as changelog:
        traffic.send([traffic.click("first", begin_ms)])
        _durable(changelog, 1)
        clicks = list(_clicks(traffic, begin_ms))
        started_s = time.monotonic()
        traffic.send(clicks)
        return len(clicks) / (_durable(changelog, len(clicks)) - started_s)


def _durable(changelog: Reader, events: int) -> float:
    """Wait until so many events are in durable states; when that was, as `Reader` tells the time."""
    durable, at_s = dict[bytes, int](), 0.0
    deadline = time.monotonic() + PATIENCE_S
    while sum(durable.values()) < events:
        if time.monotonic() > deadline:
            raise BenchFailed(
                f"got {sum(durable.values())} of {events} events in durable states after {PATIENCE_S:g} s, "
                "expected all; is the machine busy?"
            )
        received = changelog.take(0.05)
        if received and received.key.startswith(b"u"):
            durable[received.key] = decode_record(received.value).interest.version
            at_s = received.at_s
    return at_s


def _clicks(traffic: Traffic, begin_ms: int) -> Iterator[Message]:
    for number in range(EVENTS_EACH):
        for user in range(USERS):
            yield traffic.click(f"user-{user}", begin_ms + number * MINUTE_MS)


@contextmanager
def _traffic(ground: Ground) -> Iterator[Traffic]:
    with topics(ground, "none") as settings, closing(Traffic(settings, ground.embedded)) as traffic:
        yield traffic

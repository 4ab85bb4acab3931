"""Five times the load that a worker can handle, for a while.

The worker's memory stays bounded, every message is counted, and each user's newest state gets a list. `/livez` and
`/readyz` are right all the time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console

from streams.settings import Settings
from tests.faults import cluster
from tests.faults.campaign import make_member, make_settings
from tests.faults.load import Load
from tests.faults.waiting import until
from tests.faults.watcher import Watcher
from tests.faults.workers import Fleet, Member, rss

FACTOR = 5
PROBE_EVENTS = 4_000
USERS = 500
GROWTH, SLACK_BYTES = 1.15, 48 << 20
"""Of memory, from the first half of the overload to the second: a heap settles, an unbounded queue does not."""
OBSERVE_EVERY_S = 0.5
NEIGHBOURS = 3
"""Observations before and after one that must agree with it: lags are measured once a second."""


@dataclass
class Observation:
    """What a worker reports at a moment.

    Attributes
    ----------
    lag : float
        Messages that it has not read yet.
    behind : bool
        Whether a tier has a larger lag than a ready worker may have.
    alive, ready : bool
        What `/livez` and `/readyz` say.
    rss : int
        Resident memory in bytes.
    """

    lag: float
    behind: bool
    alive: bool
    ready: bool
    rss: int


def observe(member: Member) -> Observation:
    """Read a worker's lags, probes and memory."""
    assert member.worker is not None, "the worker ended"
    rank, state = 0.0, 0.0
    for sample in member.worker.samples():
        if sample.name == "afterclick_consumer_lag_messages":
            if sample.labels["topic"] == member.settings.topic("rank-requests"):
                rank += sample.value
            else:
                state += sample.value
    alive, ready = (member.worker.get(path)[0] == 200 for path in ("/livez", "/readyz"))
    behind = max(rank, state) > member.settings.health.max_lag
    return Observation(rank + state, behind, alive, ready, rss(member))


def wrong_readiness(observations: Sequence[Observation]) -> list[Observation]:
    """Return the observations of a ready worker that was behind for a while, or the reverse."""
    return [
        observations[index]
        for index in range(NEIGHBOURS, len(observations) - NEIGHBOURS)
        if len({near.behind for near in observations[index - NEIGHBOURS : index + NEIGHBOURS + 1]}) == 1
        and observations[index].ready == observations[index].behind
    ]


def counted(member: Member) -> float:
    """Return the number of clicks and purchases that a worker has counted, whatever became of them."""
    return sum(
        member.total("afterclick_events_total", topic=topic, outcome=outcome)
        for topic in ("clicks", "purchases")
        for outcome in ("accepted", "duplicate", "rejected")
    )


def rate_per_s(settings: Settings, member: Member) -> float:
    """Send messages as fast as possible; return how many a second the worker handles."""
    probe = Load(settings, 1, PROBE_EVENTS, 1e9, USERS)
    probe.start()
    probe.finish()
    begin_s = time.monotonic()
    until(lambda: counted(member) >= PROBE_EVENTS, 300, "the first events are not counted")
    return PROBE_EVENTS / (time.monotonic() - begin_s)


@contextmanager
def one_worker(kafka_home: Path, folder: Path) -> Iterator[tuple[Settings, Member, Watcher]]:
    """Run servers, a worker with both tiers and a model, and a watcher."""
    with cluster.servers(kafka_home, folder, brokers=1) as (kafka, redis, wire):
        settings = make_settings(kafka, wire.port, folder, 1)
        member = make_member("worker", "all", settings, folder, model=settings.encoder.model)
        with Fleet([member]) as fleet, Watcher(settings, f"redis://127.0.0.1:{redis.port}/0") as watcher:
            until(fleet.all_ready, 300, "the worker is not ready")
            yield settings, member, watcher


def test_a_worker_survives_an_overload_with_bounded_memory_and_counts_every_message(
    kafka_home: Path, tmp_path: Path, pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]
) -> None:
    overload_s = pytestconfig.getoption("--overload")
    with one_worker(kafka_home, tmp_path) as (settings, member, watcher):
        per_s = rate_per_s(settings, member)
        load = Load(settings, 2, round(FACTOR * per_s * overload_s), FACTOR * per_s, USERS, name="over")
        begin_s = time.monotonic()
        load.start()
        load.enough()
        observations = list[Observation]()
        while not load.done:
            observations.append(observe(member))
            time.sleep(OBSERVE_EVERY_S)
        half, memory = len(observations) // 2, [seen.rss for seen in observations]
        load.finish()
        sent = PROBE_EVENTS + load.sent.messages

        def all_counted() -> bool:
            observations.append(observe(member))
            return observations[-1].lag == 0 and counted(member) >= sent

        late = "not every message is counted, or the lag does not fall"
        until(all_counted, 60 + 20 * overload_s, late, OBSERVE_EVERY_S)
        wanted = dict(load.sent.events_of)
        until(lambda: watcher.reached(wanted), 60, "not every user's last list is there")
        done_s = time.monotonic() - begin_s
        until(lambda: watcher.ranked(wanted), 120, "the model has not ranked every list that went out without it")
        until(lambda: observe(member).ready, 10, "the worker is not ready again")
        first, second = max(memory[:half]), max(memory[half:])
        with capsys.disabled():
            alive, ready = sum(seen.alive for seen in observations), sum(seen.ready for seen in observations)
            Console().print(
                f"overload: {per_s:.0f} events/s handled, {load.sent.messages / overload_s:.0f}/s sent for "
                f"{overload_s:.0f} s; lag up to {max(seen.lag for seen in observations):.0f}, all done after "
                f"{done_s:.0f} s; memory {first >> 20} MiB in the first half, {second >> 20} in the second; "
                f"of {len(observations)} observations alive at {alive}, ready at {ready}",
                highlight=False,
            )
        assert counted(member) == sent, "a message was not counted, or counted twice"
        assert any(seen.behind for seen in observations), "it was no overload"
        assert all(seen.alive for seen in observations)
        assert not wrong_readiness(observations)
        assert second <= first * GROWTH + SLACK_BYTES
        assert {user: watcher.newest[user].state_version for user in wanted} == wanted
        assert not watcher.went_back

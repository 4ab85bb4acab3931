"""Five times what a worker carries, for a while: memory stays bounded, all is counted, the newest state wins.

What `/livez` and `/readyz` say is true throughout.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console

from tests.faults import cluster
from tests.faults.campaign import member_of, settings_of
from tests.faults.load import Load
from tests.faults.waiting import until
from tests.faults.watcher import Watcher
from tests.faults.workers import Fleet, Member, rss

FACTOR = 5
PROBE = 4_000
USERS = 500
GROWTH, SLACK = 1.15, 48 << 20
"""Of memory, from the first half of the overload to the second: a heap settles, a queue without bound would not."""
LOOK_EVERY_S = 0.5
AROUND = 3
"""Looks before and after one that must tell of the same: lags are taken once a second."""


@dataclass
class Look:
    """What a worker says of itself at a moment; `behind` whether a tier is further behind than is ready."""

    lag: float
    behind: bool
    alive: bool
    ready: bool
    rss: int


def look(worker: Member) -> Look:
    """Ask it for its lags, and whether it is alive and ready."""
    assert worker.worker is not None, "it ended"
    rank, state = 0.0, 0.0
    for sample in worker.worker.samples():
        if sample.name == "afterclick_consumer_lag_messages":
            if sample.labels["topic"] == worker.settings.topic("rank-requests"):
                rank += sample.value
            else:
                state += sample.value
    alive, ready = (worker.worker.get(path)[0] == 200 for path in ("/livez", "/readyz"))
    return Look(rank + state, max(rank, state) > worker.settings.health.max_lag, alive, ready, rss(worker))


def untrue(looks: Sequence[Look]) -> list[int]:
    """Where it said to be ready though it was behind for a while, or the reverse."""
    return [
        place
        for place in range(AROUND, len(looks) - AROUND)
        if len({one.behind for one in looks[place - AROUND : place + AROUND + 1]}) == 1
        and looks[place].ready == looks[place].behind
    ]


def test_overload_is_borne(
    kafka_home: Path, tmp_path: Path, pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]
) -> None:
    lasts_s = pytestconfig.getoption("--overload")
    with cluster.ground(kafka_home, tmp_path, brokers=1) as (kafka, redis, wire):
        settings = settings_of(kafka, wire.port, tmp_path, 1)
        worker = member_of("worker", "all", settings, tmp_path, model=settings.encoder.model)
        url = f"redis://127.0.0.1:{redis.port}/0"
        with Fleet([worker]) as fleet, Watcher(settings, url) as watcher:
            until(fleet.all_ready, 300, "the worker is not ready")

            def counted() -> float:
                topics = ("clicks", "purchases")
                outcomes = ("accepted", "duplicate", "rejected")
                return sum(
                    worker.total("afterclick_events_total", topic=topic, outcome=outcome)
                    for topic in topics
                    for outcome in outcomes
                )

            probe = Load(settings, 1, PROBE, 1e9, USERS)
            probe.start()
            probe.finish()
            begin = time.monotonic()
            until(lambda: counted() >= PROBE, 300, "the first events are not counted")
            per_s = PROBE / (time.monotonic() - begin)

            load = Load(settings, 2, round(FACTOR * per_s * lasts_s), FACTOR * per_s, USERS, name="over")
            begin = time.monotonic()
            load.start()
            load.enough()
            looks = list[Look]()
            while not load.done:
                looks.append(look(worker))
                time.sleep(LOOK_EVERY_S)
            half, memory = len(looks) // 2, [one.rss for one in looks]
            load.finish()
            sent = PROBE + load.sent.messages

            def all_done() -> bool:
                looks.append(look(worker))
                return looks[-1].lag == 0 and counted() >= sent

            until(all_done, 60 + 20 * lasts_s, "not every message is counted, or the lag does not fall", LOOK_EVERY_S)
            wanted = dict(load.sent.wanted)
            until(lambda: watcher.reached(wanted), 60, "not every user's last list is there")
            took_s = time.monotonic() - begin
            until(lambda: look(worker).ready, 10, "it is not ready again")
            with capsys.disabled():
                first, second = (max(part) >> 20 for part in (memory[:half], memory[half:]))
                most = max(one.lag for one in looks)
                alive, ready = sum(one.alive for one in looks), sum(one.ready for one in looks)
                Console().print(
                    f"overload: {per_s:.0f} events/s carried, {load.sent.messages / lasts_s:.0f}/s sent for "
                    f"{lasts_s:.0f} s; lag up to {most:.0f}, all done after {took_s:.0f} s; memory {first} MiB in the "
                    f"first half, {second} in the second; of {len(looks)} looks alive at {alive}, ready at {ready}",
                    highlight=False,
                )
            assert counted() == sent, "no more and no fewer"
            assert any(one.behind for one in looks), "it was no overload"
            assert all(one.alive for one in looks)
            assert not untrue(looks), [(looks[place].lag, looks[place].ready) for place in untrue(looks)]
            assert max(memory[half:]) <= max(memory[:half]) * GROWTH + SLACK
            assert {user: watcher.newest[user].state_version for user in wanted} == wanted
            assert not watcher.went_back

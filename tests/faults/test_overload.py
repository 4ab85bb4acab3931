"""Five times what a worker carries, for a while: memory stays bounded, all is counted, the newest state wins."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from rich.console import Console

from tests.faults import cluster
from tests.faults.campaign import member_of, settings_of
from tests.faults.load import Load
from tests.faults.waiting import until
from tests.faults.watcher import Watcher
from tests.faults.workers import Fleet, rss

FACTOR = 5
PROBE = 4_000
USERS = 500
GROWTH, SLACK = 1.15, 48 << 20
"""Of memory, from the first half of the overload to the second: a heap settles, a queue without bound would not."""


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

            def lag() -> float:
                return worker.total("afterclick_consumer_lag_messages")

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
            memory, lags = list[int](), list[float]()
            while not load.done:
                memory.append(rss(worker))
                lags.append(lag())
                time.sleep(0.5)
            load.finish()
            sent = PROBE + load.sent.messages
            until(lambda: counted() >= sent, 60 + 20 * lasts_s, "not every message is counted")
            until(lambda: lag() == 0, 60, "the lag does not fall to 0")
            wanted = dict(load.sent.wanted)
            until(lambda: watcher.reached(wanted), 60, "not every user's last list is there")
            took_s = time.monotonic() - begin
            half = len(memory) // 2
            with capsys.disabled():
                first, second = (max(part) >> 20 for part in (memory[:half], memory[half:]))
                Console().print(
                    f"overload: {per_s:.0f} events/s carried, {load.sent.messages / lasts_s:.0f}/s sent for "
                    f"{lasts_s:.0f} s; lag up to {max(lags):.0f}, all done after {took_s:.0f} s; memory {first} MiB "
                    f"in the first half, {second} in the second",
                    highlight=False,
                )
            assert counted() == sent, "no more and no fewer"
            assert max(lags) > 0
            assert max(memory[half:]) <= max(memory[:half]) * GROWTH + SLACK
            assert {user: watcher.newest[user].state_version for user in wanted} == wanted
            assert not watcher.went_back

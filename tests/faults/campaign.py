"""A campaign: everything runs, faults come one after the other or two at once, and at the end the truth is checked.

Called by `test_campaign`; prints as it goes.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pydantic import SecretStr
from rich.console import Console

from streams.kafka.topics import ensure_topics, topic_specs
from streams.settings import Encoder, Kafka, Metrics, Ranker, Redis, Settings, Tables
from streams.testing.embedded import free_port
from tests import models
from tests.faults import cluster
from tests.faults.checks import Verdict, verdict
from tests.faults.faults import FAULTS, Ground, NobodyLeft, schedule
from tests.faults.load import BURST, BURST_EVERY_S, BURST_S, Load
from tests.faults.waiting import TooLate, until
from tests.faults.watcher import Watcher
from tests.faults.workers import Ended, Fleet, Member, Role

PARTITIONS = 4
SESSION_TIMEOUT_S = 6.0
RECOVER_S = 240.0
READY_S = 60.0
"""The next fault hits a whole fleet, if it is whole by then."""
SETTLE_S = 240.0
TWO_AT_ONCE = 0.2
MODEL_TIMEOUT_MS = 2_000
EVENTS_PER_USER = 40
BURSTS = 1 + (BURST - 1) * BURST_S / BURST_EVERY_S
"""By so much bursts raise the pace."""


@dataclass(frozen=True)
class Plan:
    """What to do, for how long, and from which seed."""

    minutes: float
    events: int
    faults: int
    seed: int
    brokers: int = 3
    kinds: tuple[str, ...] = ()
    """Only these; all if empty."""


@dataclass
class Struck:
    """The faults. `recovered_s`: kind -> seconds from mended to every partition's event in a list everywhere."""

    injected: dict[str, int] = field(default_factory=dict)
    recovered_s: dict[str, list[float]] = field(default_factory=dict)
    refilled_s: list[float] = field(default_factory=list)
    not_recovered: list[str] = field(default_factory=list)


@dataclass
class Outcome:
    """What came of a plan."""

    plan: Plan
    seconds: float
    messages: int
    events: int
    duplicates: int
    poison: int
    lists: int
    degraded: dict[str, int]
    struck: Struck
    most_rss: dict[str, int]
    verdict: Verdict
    ended: list[Ended]


def settings_of(kafka: cluster.Kafka, redis_port: int, folder: Path, copies: int) -> Settings:
    """What all workers have in common; the topics are there."""
    settings = Settings(
        topic_prefix=f"f{uuid.uuid4().hex[:6]}.",
        kafka=Kafka(
            bootstrap_servers=kafka.bootstrap_servers,
            partitions=PARTITIONS,
            replication_factor=copies,
            session_timeout_s=SESSION_TIMEOUT_S,
        ),
        redis=Redis(url=SecretStr(f"redis://127.0.0.1:{redis_port}/0")),
        encoder=Encoder(model=str(models.encoder(folder / "encoder")), device="cpu", dtype="float32"),
        ranker=Ranker(model="none", timeout_ms=MODEL_TIMEOUT_MS, device="cpu", dtype="float32"),
        grace_s=10,
    )
    asyncio.run(ensure_topics(settings, topic_specs(settings)))
    return settings


def member_of(
    name: str, role: Role, common: Settings, folder: Path, store: str = "memory", model: str = "none"
) -> Member:
    """One worker with a folder and a port of its own."""
    own = folder / name
    own.mkdir()
    update = {
        "tables": Tables(data_dir=own / "data", store=store),
        "metrics": Metrics(port=free_port()),
        "ranker": common.ranker.model_copy(update={"model": model}),
    }
    return Member(name, role, common.model_copy(update=update), own / "control.json")


@contextmanager
def fire(folder: Path, kafka_home: Path, plan: Plan, per_s: float) -> Iterator[tuple[Ground, Watcher, Settings]]:
    """Kafka, Redis, workers and load, all running."""
    with cluster.ground(kafka_home, folder, plan.brokers) as (kafka, redis, wire):
        common = settings_of(kafka, wire.port, folder, plan.brokers)
        model = common.encoder.model
        fleet = Fleet(
            [
                member_of("state-memory", "state", common, folder),
                member_of("state-rocksdb", "state", common, folder, "rocksdb"),
                member_of("rank-none", "rank", common, folder),
                member_of("rank-model", "rank", common, folder, model=model),
            ]
        )
        spare = member_of("spare", "all", common, folder, "rocksdb", model)
        users = max(40, min(5_000, plan.events // EVENTS_PER_USER))
        load = Load(common, plan.seed, plan.events, per_s, users)
        with fleet, Watcher(common, f"redis://127.0.0.1:{redis.port}/0") as watcher:
            until(fleet.all_ready, 300, "the workers are not ready")
            yield Ground(kafka, redis, wire, fleet, spare, load, SESSION_TIMEOUT_S), watcher, common


def run(folder: Path, kafka_home: Path, plan: Plan, console: Console) -> Outcome:
    """Carry the plan out.

    Raises
    ------
    TooLate, AssertionError
        The ground itself does not stand.
    """
    per_s = plan.events / (plan.minutes * 60) / BURSTS
    with fire(folder, kafka_home, plan, per_s) as (where, watcher, settings):
        begin = time.monotonic()
        where.load.start()
        _recover(where, watcher)
        struck = _strike(where, watcher, plan, console)
        console.print(f"{time.monotonic() - begin:6.0f} s  the last events, and the truth", highlight=False)
        where.load.finish()
        _settle(where, watcher, console)
        found = verdict(settings, where.load, watcher)
        sent = where.load.sent
        return Outcome(
            plan=plan,
            seconds=time.monotonic() - begin,
            messages=sent.messages,
            events=sum(sent.wanted.values()),
            duplicates=sent.duplicates,
            poison=len(sent.poison),
            lists=watcher.lists,
            degraded=dict(Counter(seen.degraded or "none" for seen in watcher.newest.values())),
            struck=struck,
            most_rss={member.name: member.most_rss for member in where.fleet.members},
            verdict=found,
            ended=where.fleet.ended,
        )


def _strike(where: Ground, watcher: Watcher, plan: Plan, console: Console) -> Struck:
    """All faults of the plan, one after the other, some two at once."""
    dice, naps = random.Random(plan.seed), random.Random(plan.seed)  # how long things take must not change what comes
    struck = Struck()
    begin = time.monotonic()
    for number, kinds in enumerate(schedule(dice, plan.faults, plan.kinds or tuple(FAULTS), TWO_AT_ONCE)):
        with suppress(TooLate):
            until(where.fleet.all_ready, READY_S, "the fleet is not whole")
        started = time.monotonic()
        console.print(f"{started - begin:6.0f} s  {' and '.join(kinds)}", end="", highlight=False)
        _inject(where, kinds, dice)
        for kind in kinds:
            struck.injected[kind] = struck.injected.get(kind, 0) + 1
        try:
            seconds = _recover(where, watcher)
            console.print(f": back in {seconds:.1f} s", highlight=False)
            struck.recovered_s.setdefault(kinds[0] if len(kinds) == 1 else "two at once", []).append(seconds)
            if any("Redis" in kind for kind in kinds):
                users = list(where.load.sent.wanted)
                whole = until(partial(watcher.whole, users), RECOVER_S, "Redis is incomplete", 0.5)
                struck.refilled_s.append(seconds + whole)
        except TooLate as error:
            struck.not_recovered.append(f"{' and '.join(kinds)}: {error}")
            console.print(f": [red]{error}[/red]")
        left_s = begin + plan.minutes * 60 - time.monotonic()
        time.sleep(naps.random() * max(0.0, 2 * left_s / (plan.faults - number)))
    return struck


def _inject(where: Ground, kinds: Sequence[str], dice: random.Random) -> None:
    """The faults at the same time, each with its own random numbers."""
    with ThreadPoolExecutor(len(kinds)) as threads:
        for running in [threads.submit(FAULTS[kind], where, random.Random(dice.random())) for kind in kinds]:
            with suppress(NobodyLeft):
                running.result()


def _recover(where: Ground, watcher: Watcher) -> float:
    """Seconds until an event of every partition, sent now, is in a list on the topic and in Redis."""
    wanted = where.load.probe()
    return until(lambda: watcher.reached(wanted), RECOVER_S, "no lists for new events")


def _settle(where: Ground, watcher: Watcher, console: Console) -> None:
    wanted = dict(where.load.sent.wanted)
    try:
        until(lambda: watcher.reached(wanted), SETTLE_S, "not all lists are there", 0.5)
    except TooLate as error:
        console.print(f"        [red]{error}[/red]")
    time.sleep(2)

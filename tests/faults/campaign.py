"""A campaign: starts the whole system, injects faults one or two at a time, and checks the results at the end.

Prints its progress.
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
from streams.settings import (
    EncoderSettings,
    KafkaSettings,
    MetricsSettings,
    RankerSettings,
    RedisSettings,
    Settings,
    TablesSettings,
)
from streams.testing.embedded import free_port
from tests import models
from tests.faults import cluster
from tests.faults.checks import Verdict, verdict
from tests.faults.faults import FAULTS, NoTarget, System, schedule
from tests.faults.load import BURST, BURST_EVERY_S, BURST_S, Load
from tests.faults.waiting import NotInTime, until
from tests.faults.watcher import Watcher
from tests.faults.workers import Fleet, Member, Role, UnexpectedEnd

PARTITIONS = 4
SESSION_TIMEOUT_S = 6.0
RECOVER_S = 240.0
READY_S = 60.0
"""The next fault waits so long for all workers to be ready."""
SETTLE_S = 240.0
TWO_AT_ONCE = 0.2
MODEL_TIMEOUT_MS = 2_000
EVENTS_PER_USER = 40
BURSTS = 1 + (BURST - 1) * BURST_S / BURST_EVERY_S
"""The factor by which bursts raise the mean pace."""


@dataclass(frozen=True)
class Plan:
    """The parameters of a campaign.

    Attributes
    ----------
    minutes : float
    events : int
        Messages in that time.
    faults : int
        The number of faults; two at once count as one.
    seed : int
    brokers : int
    kinds : tuple of str
        Of `FAULTS`; all if empty.
    """

    minutes: float
    events: int
    faults: int
    seed: int
    brokers: int = 3
    kinds: tuple[str, ...] = ()


@dataclass
class InjectedFaults:
    """The faults, and how the system recovered from them.

    Attributes
    ----------
    injected : dict of str to int
        From a kind to the number of its injections.
    recovered_s : dict of str to list of float
        From a kind to the seconds from the mending until an event of every partition was in a list, in Kafka and Redis.
    redis_complete_s : list of float
        After each fault of Redis, the seconds until Redis had all lists again.
    not_recovered : list of str
        What was still wrong after `RECOVER_S`.
    """

    injected: dict[str, int] = field(default_factory=dict)
    recovered_s: dict[str, list[float]] = field(default_factory=dict)
    redis_complete_s: list[float] = field(default_factory=list)
    not_recovered: list[str] = field(default_factory=list)


@dataclass
class Outcome:
    """The results of a campaign."""

    plan: Plan
    seconds: float
    messages: int
    events: int
    duplicates: int
    poison: int
    lists: int
    degraded: dict[str, int]
    faults: InjectedFaults
    max_rss: dict[str, int]
    verdict: Verdict
    ended: list[UnexpectedEnd]


def make_settings(kafka: cluster.Kafka, redis_port: int, folder: Path, copies: int) -> Settings:
    """Return the settings that all workers have in common; create the topics."""
    settings = Settings(
        topic_prefix=f"f{uuid.uuid4().hex[:6]}.",
        kafka=KafkaSettings(
            bootstrap_servers=kafka.bootstrap_servers,
            partitions=PARTITIONS,
            replication_factor=copies,
            session_timeout_s=SESSION_TIMEOUT_S,
        ),
        redis=RedisSettings(url=SecretStr(f"redis://127.0.0.1:{redis_port}/0")),
        encoder=EncoderSettings(model=str(models.encoder(folder / "encoder")), device="cpu", dtype="float32"),
        ranker=RankerSettings(model="none", timeout_ms=MODEL_TIMEOUT_MS, device="cpu", dtype="float32"),
        grace_s=10,
    )
    asyncio.run(ensure_topics(settings, topic_specs(settings)))
    return settings


def make_member(
    name: str, role: Role, common: Settings, folder: Path, store: str = "memory", model: str = "none"
) -> Member:
    """Return a worker with a folder and a metrics port of its own."""
    own = folder / name
    own.mkdir()
    update = {
        "tables": TablesSettings(data_dir=own / "data", store=store),
        "metrics": MetricsSettings(port=free_port()),
        "ranker": common.ranker.model_copy(update={"model": model}),
    }
    return Member(name, role, common.model_copy(update=update), own / "control.json")


@contextmanager
def running_system(
    folder: Path, kafka_home: Path, plan: Plan, per_s: float
) -> Iterator[tuple[System, Watcher, Settings]]:
    """Run Kafka, Redis, the workers and the watcher; the load is ready to start."""
    with cluster.servers(kafka_home, folder, plan.brokers) as (kafka, redis, wire):
        common = make_settings(kafka, wire.port, folder, plan.brokers)
        model = common.encoder.model
        fleet = Fleet(
            [
                make_member("state-memory", "state", common, folder),
                make_member("state-rocksdb", "state", common, folder, "rocksdb"),
                make_member("rank-none", "rank", common, folder),
                make_member("rank-model", "rank", common, folder, model=model),
            ]
        )
        spare = make_member("spare", "all", common, folder, "rocksdb", model)
        users = max(40, min(5_000, plan.events // EVENTS_PER_USER))
        load = Load(common, plan.seed, plan.events, per_s, users)
        with fleet, Watcher(common, f"redis://127.0.0.1:{redis.port}/0") as watcher:
            until(fleet.all_ready, 300, "the workers are not ready")
            yield System(kafka, redis, wire, fleet, spare, load, SESSION_TIMEOUT_S), watcher, common


def run(folder: Path, kafka_home: Path, plan: Plan, console: Console) -> Outcome:
    """Run a campaign.

    Raises
    ------
    NotInTime, AssertionError
        The system did not start, or Kafka did not accept the messages.
    """
    per_s = plan.events / (plan.minutes * 60) / BURSTS
    with running_system(folder, kafka_home, plan, per_s) as (system, watcher, settings):
        begin = time.monotonic()
        system.load.start()
        _recover(system, watcher)
        faults = _inject_all(system, watcher, plan, console)
        console.print(f"{time.monotonic() - begin:6.0f} s  the last events, and the checks", highlight=False)
        system.load.finish()
        _settle(system, watcher, console)
        results = verdict(settings, system.load, watcher)
        sent = system.load.sent
        return Outcome(
            plan=plan,
            seconds=time.monotonic() - begin,
            messages=sent.messages,
            events=sum(sent.events_of.values()),
            duplicates=sent.duplicates,
            poison=len(sent.poison),
            lists=watcher.lists,
            degraded=dict(Counter(seen.degraded or "none" for seen in watcher.newest.values())),
            faults=faults,
            max_rss={member.name: member.max_rss for member in system.fleet.members},
            verdict=results,
            ended=system.fleet.ended,
        )


def _inject_all(system: System, watcher: Watcher, plan: Plan, console: Console) -> InjectedFaults:
    """Inject all faults of the plan in turn, some of them two at once; measure each recovery."""
    # Two generators, so that the time that a fault takes does not change which faults come.
    dice, pauses = random.Random(plan.seed), random.Random(plan.seed)
    faults = InjectedFaults()
    begin = time.monotonic()
    for number, kinds in enumerate(schedule(dice, plan.faults, plan.kinds or tuple(FAULTS), TWO_AT_ONCE)):
        with suppress(NotInTime):
            until(system.fleet.all_ready, READY_S, "not all workers are ready")
        started = time.monotonic()
        console.print(f"{started - begin:6.0f} s  {' and '.join(kinds)}", end="", highlight=False)
        _inject(system, kinds, dice)
        for kind in kinds:
            faults.injected[kind] = faults.injected.get(kind, 0) + 1
        try:
            seconds = _recover(system, watcher)
            console.print(f": recovered in {seconds:.1f} s", highlight=False)
            faults.recovered_s.setdefault(kinds[0] if len(kinds) == 1 else "two at once", []).append(seconds)
            if any("Redis" in kind for kind in kinds):
                users = list(system.load.sent.events_of)
                complete_s = until(partial(watcher.redis_is_complete, users), RECOVER_S, "Redis is incomplete", 0.5)
                faults.redis_complete_s.append(seconds + complete_s)
        except NotInTime as error:
            faults.not_recovered.append(f"{' and '.join(kinds)}: {error}")
            console.print(f": [red]{error}[/red]")
        left_s = begin + plan.minutes * 60 - time.monotonic()
        time.sleep(pauses.random() * max(0.0, 2 * left_s / (plan.faults - number)))
    return faults


def _inject(system: System, kinds: Sequence[str], dice: random.Random) -> None:
    """Inject faults at the same time, each with random numbers of its own."""
    with ThreadPoolExecutor(len(kinds)) as threads:
        for running in [threads.submit(FAULTS[kind], system, random.Random(dice.random())) for kind in kinds]:
            with suppress(NoTarget):
                running.result()


def _recover(system: System, watcher: Watcher) -> float:
    """Send an event to every partition; return the seconds until all are in lists, on the topic and in Redis."""
    wanted = system.load.probe()
    return until(lambda: watcher.reached(wanted), RECOVER_S, "no lists for new events")


def _settle(system: System, watcher: Watcher, console: Console) -> None:
    wanted = dict(system.load.sent.events_of)
    try:
        late = "not all lists are there, or the model has not ranked all of them"
        until(lambda: watcher.reached(wanted) and watcher.ranked(wanted), SETTLE_S, late, 0.5)
    except NotInTime as error:
        console.print(f"        [red]{error}[/red]")
    time.sleep(2)

"""What the benchmark runs on: Kafka, Redis, and a real worker in a process of its own, with topics that nobody shares.

Knows the worker only by its settings and its metrics. Called by `bench`, `pipeline` and `start`;
the tests' workers get their settings from `environment` too.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from encoders.errors import AfterclickError
from streams import kafka_client
from streams.embedded import PARTITIONS, ApacheKafka, EmbeddedKafka, EmbeddedRedis, free_port
from streams.settings import PREFIX, Metrics, Settings, Tables
from streams.topics import TopicSpec, ensure_topics, topic_specs

TIERS = 2  # of a worker with --role all
ECHO = "echo"
"""A topic of the benchmark's own, split like the others, for plain round trips."""
LOOK_EVERY_S = 0.05
MODEL_TIMEOUT_MS = 60_000  # the first batches know no text yet; on a slow machine the default would cut them off


class BenchFailed(AfterclickError):
    """The benchmark cannot go on, or what it measured would mislead; the message says why."""


@dataclass(frozen=True)
class Ground:
    """Kafka and Redis: `settings` has their addresses, `kafka` says which Kafka it is."""

    settings: Settings
    kafka: str
    embedded: bool
    lasting: bool


@contextmanager
def prepared(settings: Settings) -> Iterator[Ground]:
    """Use the Kafka and the Redis that are set; start, and end, what is not.

    Kafka: AFTERCLICK_KAFKA__BOOTSTRAP_SERVERS, else Apache Kafka run from KAFKA_HOME, else the embedded cluster.
    """
    with ExitStack() as running:
        kafka, redis = settings.kafka, settings.redis
        home = os.environ.get("KAFKA_HOME")
        lasting = _is_set("KAFKA__BOOTSTRAP_SERVERS")
        embedded = not lasting and not home
        if lasting:
            name = f"Kafka at {kafka.bootstrap_servers}"
        elif home:
            server = running.enter_context(ApacheKafka(Path(home)))
            jar = next((Path(home) / "libs").glob("kafka_*.jar")).stem
            name = f"Apache Kafka {jar.rpartition('-')[2]}, one node on this machine"
            kafka = kafka.model_copy(update={"bootstrap_servers": server.bootstrap_servers})
        else:
            mock = running.enter_context(EmbeddedKafka())
            name = "the embedded cluster: says nothing about Apache Kafka; set KAFKA_HOME to measure on that"
            update = {
                "bootstrap_servers": mock.bootstrap_servers,
                "partitions": PARTITIONS,
                "create_topics": False,
            }
            kafka = kafka.model_copy(update=update)
        if not _is_set("REDIS__URL"):
            url = running.enter_context(EmbeddedRedis()).url
            redis = redis.model_copy(update={"url": SecretStr(url)})
        yield Ground(settings.model_copy(update={"kafka": kafka, "redis": redis}), name, embedded, lasting)


class Worker:
    """A running `afterclick worker --role all`, its log beside its `tables.data_dir`."""

    def __init__(self, settings: Settings) -> None:
        self._stop_timeout_s = settings.grace_s + 5
        self._log = settings.tables.data_dir.parent / "worker.log"
        self._url = f"http://127.0.0.1:{settings.metrics.port}/metrics"
        self._http = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback: no proxy
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "streams.cli", "worker", "--role", "all"],
                env=environment(settings),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the benchmark, which then ends the worker
            )

    def total(self, metric: str) -> float:
        """Add up all samples of a metric; 0 while the worker does not answer.

        Raises
        ------
        BenchFailed
            The worker's process has ended.
        """
        if (code := self._process.poll()) is not None:
            tail = "\n".join(self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-25:])
            raise BenchFailed(f"the worker: got exit code {code}, expected it to run; its log ends:\n{tail}")
        try:
            with self._http.open(self._url, timeout=5) as answer:
                families = list(text_string_to_metric_families(answer.read().decode()))
        except OSError:
            return 0.0
        return sum(sample.value for family in families for sample in family.samples if sample.name == metric)

    def wait(self, metric: str, goal: float, timeout_s: float = 90.0) -> None:
        """Wait until a metric's sum reaches `goal`."""
        deadline = time.monotonic() + timeout_s
        while (now := self.total(metric)) < goal:
            if time.monotonic() > deadline:
                raise BenchFailed(
                    f"{metric}: got {now:g} after {timeout_s:g} s, expected {goal:g}; is the machine busy?"
                )
            time.sleep(LOOK_EVERY_S)

    def stop(self) -> None:
        """End the process, by force when its grace is over."""
        self._process.terminate()
        try:
            self._process.wait(self._stop_timeout_s)
        finally:
            self._process.kill()
            self._process.wait()


@contextmanager
def topics(ground: Ground, model: str) -> Iterator[Settings]:
    """Make topics for one worker that ranks by `model`; give its settings. They go at the end if the Kafka stays."""
    with tempfile.TemporaryDirectory(prefix="afterclick-bench-", ignore_cleanup_errors=True) as folder:
        settings = _fresh(ground.settings, model, Path(folder))
        specs = [*topic_specs(settings), TopicSpec(settings.topic(ECHO), False, settings.kafka.partitions)]
        asyncio.run(ensure_topics(settings, specs))
        try:
            yield settings
        finally:
            if ground.lasting:
                asyncio.run(_delete(settings, [spec.name for spec in specs]))


@contextmanager
def worker(settings: Settings) -> Iterator[Worker]:
    """Run a worker, ready once entered."""
    running = Worker(settings)
    try:
        running.wait("afterclick_worker_ready", TIERS)
        yield running
    finally:
        running.stop()


def environment(settings: Settings) -> dict[str, str]:
    """Give this process' environment with its settings replaced by these."""
    inherited = {name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)}
    return inherited | dict(_variables(settings.model_dump(), PREFIX))


def _is_set(setting: str) -> bool:
    """Whether the environment has a setting: a default that is asked for is not a default."""
    return PREFIX + setting in {name.upper() for name in os.environ}


def _variables(group: dict[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in group.items():
        if isinstance(value, dict):
            yield from _variables(value, f"{prefix}{name.upper()}__")
        elif value is not None:
            plain = value.get_secret_value() if isinstance(value, SecretStr) else value
            yield prefix + name.upper(), ",".join(plain) if isinstance(plain, tuple) else str(plain)


def _fresh(settings: Settings, model: str, folder: Path) -> Settings:
    """The user's settings, but for all that two workers would share, and the model's time-out."""
    unique = f"bench-{uuid.uuid4().hex[:8]}"
    kafka = {"group_id": unique, "instance_id": None}
    return settings.model_copy(
        update={
            "topic_prefix": f"{settings.topic_prefix}{unique}.",
            "kafka": settings.kafka.model_copy(update=kafka),
            "redis": settings.redis.model_copy(update={"key_prefix": f"{unique}:list:", "ttl_s": 600}),
            "ranker": settings.ranker.model_copy(update={"model": model, "timeout_ms": MODEL_TIMEOUT_MS}),
            "tables": Tables(store=settings.tables.store, data_dir=folder / "data"),
            "metrics": Metrics(port=free_port()),
        }
    )


async def _delete(settings: Settings, names: list[str]) -> None:
    async with kafka_client.admin(settings.kafka) as admin:
        await admin.delete_topics(names)

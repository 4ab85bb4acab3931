"""Start the Kafka and the Redis that a benchmark needs, and make topics for one worker that nobody shares."""

from __future__ import annotations

import asyncio
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from encoders.errors import AfterclickError
from streams.kafka import client as kafka_client
from streams.kafka.topics import TopicSpec, ensure_topics, topic_specs
from streams.settings import PREFIX, MetricsSettings, Settings, TablesSettings
from streams.testing.apache_kafka import ApacheKafka
from streams.testing.embedded import PARTITIONS, EmbeddedKafka, EmbeddedRedis, free_port

ECHO_TOPIC = "echo"
"""A topic of the benchmark's own for plain round trips, with as many partitions as the worker's topics."""
PATIENT_RANKER = {"timeout_ms": 60_000, "max_wait_ms": 60_000}
"""Every list shall be ranked by the model: in the first batches no text is cached, and a burst has to queue."""


class BenchFailed(AfterclickError):
    """The benchmark cannot continue, or its figures would mislead; the message says why."""


@dataclass(frozen=True)
class Servers:
    """Kafka and Redis, both running.

    Attributes
    ----------
    settings : Settings
        The user's settings with the addresses of both servers.
    kafka : str
        Which Kafka it is, for people.
    embedded : bool
        Whether Kafka is the embedded cluster.
    persistent : bool
        Whether Kafka is the user's own and outlives the benchmark.
    """

    settings: Settings
    kafka: str
    embedded: bool
    persistent: bool


@contextmanager
def running_servers(settings: Settings) -> Iterator[Servers]:
    """Use the Kafka and the Redis whose addresses are set; start the others, and stop those at the end.

    Kafka is AFTERCLICK_KAFKA__BOOTSTRAP_SERVERS, else Apache Kafka run from KAFKA_HOME, else the embedded cluster.
    """
    with ExitStack() as running:
        kafka, redis = settings.kafka, settings.redis
        home = os.environ.get("KAFKA_HOME")
        persistent = _is_set("KAFKA__BOOTSTRAP_SERVERS")
        embedded = not persistent and not home
        if persistent:
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
        yield Servers(settings.model_copy(update={"kafka": kafka, "redis": redis}), name, embedded, persistent)


@contextmanager
def worker_topics(servers: Servers, model: str) -> Iterator[Settings]:
    """Make topics for one worker that ranks with `model`; yield the worker's settings.

    A persistent Kafka gets its topics deleted at the end.
    """
    with tempfile.TemporaryDirectory(prefix="afterclick-bench-", ignore_cleanup_errors=True) as folder:
        settings = _worker_settings(servers.settings, model, Path(folder))
        specs = [*topic_specs(settings), TopicSpec(settings.topic(ECHO_TOPIC), False, settings.kafka.partitions)]
        asyncio.run(ensure_topics(settings, specs))
        try:
            yield settings
        finally:
            if servers.persistent:
                asyncio.run(_delete(settings, [spec.name for spec in specs]))


def _is_set(setting: str) -> bool:
    """Return whether the environment has a setting, even if its value is the default."""
    return PREFIX + setting in {name.upper() for name in os.environ}


def _worker_settings(settings: Settings, model: str, folder: Path) -> Settings:
    """Return the user's settings with `PATIENT_RANKER`, and own values for all that two workers would share."""
    unique = f"bench-{uuid.uuid4().hex[:8]}"
    kafka = {"group_id": unique, "instance_id": None}
    return settings.model_copy(
        update={
            "topic_prefix": f"{settings.topic_prefix}{unique}.",
            "kafka": settings.kafka.model_copy(update=kafka),
            "redis": settings.redis.model_copy(update={"key_prefix": f"{unique}:list:", "ttl_s": 600}),
            "ranker": settings.ranker.model_copy(update={"model": model} | PATIENT_RANKER),
            "tables": TablesSettings(store=settings.tables.store, data_dir=folder / "data"),
            "metrics": MetricsSettings(port=free_port()),
        }
    )


async def _delete(settings: Settings, topics: list[str]) -> None:
    async with kafka_client.admin(settings.kafka) as admin:
        await admin.delete_topics(topics)

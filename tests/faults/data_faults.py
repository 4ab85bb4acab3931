"""Faults of the data in Kafka: an aborted transaction, emptied partitions, and a batch that cannot be read.

Only a worker that reads from an old offset meets such data, so `faults` also restarts a worker.
"""

from __future__ import annotations

import json
import random
import time
import uuid
from typing import Any

from confluent_kafka import OFFSET_END, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.faults.cluster import Kafka
from tests.faults.load import Load, item
from tests.field import segments

PATIENCE_S = 60
MESSAGES = 40


def abort_transaction(load: Load, dice: random.Random) -> None:
    """Send events of the users in a transaction; abort it after some seconds."""
    producer = _producer(load, **{"transactional.id": uuid.uuid4().hex})
    producer.init_transactions(PATIENCE_S)
    producer.begin_transaction()
    for number in range(MESSAGES):
        user_id = dice.choice(load.users)
        click = {"event_id": f"aborted/{number}", "user_id": user_id, "item_id": "item-0"}
        producer.produce(load.topic("clicks"), json.dumps(click | {"timestamp": _now_ms()}), user_id)
    producer.flush(PATIENCE_S)
    time.sleep(dice.uniform(1, 4))
    producer.abort_transaction(PATIENCE_S)


def empty_partitions(load: Load) -> None:
    """Delete all records of a topic, whether they were read or not, as retention does."""
    producer = _producer(load)
    for number in range(MESSAGES):
        impression = {"event_id": f"shown/{number}", "user_id": load.users[0], "list_id": "none", "items": []}
        producer.produce(load.topic("impressions"), json.dumps(impression | {"timestamp": _now_ms()}), str(number))
    producer.flush(PATIENCE_S)
    ends = [
        TopicPartition(load.topic("impressions"), partition, OFFSET_END)
        for partition in range(load.settings.kafka.partitions)
    ]
    admin = _admin(load)  # the client must outlive its futures
    for deleted in admin.delete_records(ends).values():
        deleted.result(PATIENCE_S)


def damage_batch(load: Load, kafka: Kafka) -> None:
    """Damage a batch of the catalogue on the disk of its leader; an older copy of the item is still readable."""
    delivered: list[Message] = []
    producer, value = _producer(load), item(0)
    topic = load.topic("items")
    producer.produce(
        topic, json.dumps(value), value["item_id"], on_delivery=lambda _, message: delivered.append(message)
    )
    producer.flush(PATIENCE_S)
    partition = delivered[0].partition() or 0
    leader: int = _admin(load).list_topics(topic, PATIENCE_S).topics[topic].partitions[partition].leader
    load.sent.damaged.add(("items", partition))
    segments.damage(kafka.data[leader - 1], topic, partition, segments.wrong_checksum)


def _producer(load: Load, **more: Any) -> Producer:
    return Producer({"bootstrap.servers": load.settings.kafka.bootstrap_servers, "log_level": 0, **more})


def _admin(load: Load) -> AdminClient:
    return AdminClient({"bootstrap.servers": load.settings.kafka.bootstrap_servers, "log_level": 0})


def _now_ms() -> int:
    return int(time.time() * 1000)

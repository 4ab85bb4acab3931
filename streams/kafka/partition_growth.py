"""Add partitions to topics that have no messages: with messages, a user's would lie on two partitions.

Knows neither the topics nor their settings.
"""

from __future__ import annotations

from collections.abc import Mapping

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError

from streams.kafka import client as kafka_client
from streams.settings import KafkaSettings


async def without_messages(kafka: KafkaSettings, partitions: Mapping[str, int]) -> set[str]:
    """Return those of some topics that have never had a message.

    Parameters
    ----------
    partitions : mapping of str to int
        Topic -> its number of partitions.

    Raises
    ------
    streams.kafka.client.KafkaUnavailable
        Kafka does not answer.
    """
    if not partitions:
        return set()
    consumer = kafka_client.consumer(kafka, group_id=None)
    async with kafka_client.started(consumer, kafka):
        ends = await consumer.end_offsets(
            [TopicPartition(topic, number) for topic, count in partitions.items() for number in range(count)]
        )
    used = {partition.topic for partition, end in ends.items() if end}
    return set(partitions) - used


async def add_partitions(admin: AIOKafkaAdminClient, wanted: Mapping[str, int]) -> dict[str, str]:
    """Make topics as many partitions as wanted; return topic -> why the broker refuses it."""
    refused: dict[str, str] = {}
    for topic, count in wanted.items():
        try:
            await admin.create_partitions({topic: NewPartitions(count)})
        except TopicAuthorizationFailedError as error:
            refused[topic] = f"the broker refuses it ({error}); allow ALTER"
        except KafkaError as error:
            refused[topic] = f"the broker refuses it ({error})"
    return refused

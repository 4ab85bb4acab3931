"""Reads the compacted topic of lists again, from given offsets to the present ends: of each key the newest list.

An active user has hundreds of lists in the topic before the broker compacts it, so the newest ones are gathered before
they are passed on. Half of the time is a pause, so that the worker and Kafka have time for new lists. Knows no Redis.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from streams.kafka import client as kafka_client
from streams.settings import KafkaSettings

MAX_GATHERED = 4_096
"""Keys whose newest list is gathered at a time: about 12 MB."""


class TopicReplay:
    """One reading of some partitions. Offsets are by partition number.

    Attributes
    ----------
    positions : dict
        The next offset to read. At the start it is the offset asked for, or the beginning of the log if that is later
        or if the offset lies beyond the end: then it belongs to a log that is no more.
    ends : dict
        The end of each partition at the start of the reading.
    """

    def __init__(self, consumer: AIOKafkaConsumer, topic: str, positions: dict[int, int], ends: dict[int, int]) -> None:
        self.positions = positions
        self.ends = ends
        self._consumer = consumer
        self._topic = topic

    @classmethod
    @asynccontextmanager
    async def open(cls, kafka: KafkaSettings, topic: str, offsets: Mapping[int, int]) -> AsyncIterator[TopicReplay]:
        """Connect.

        Parameters
        ----------
        kafka : Kafka
            How to connect.
        topic : str
            Full name of the topic.
        offsets : mapping
            Partition -> the offset to read from.

        Raises
        ------
        KafkaUnavailable
        """
        consumer = kafka_client.consumer(kafka)
        async with kafka_client.started(consumer, kafka):
            partitions = {number: TopicPartition(topic, number) for number in offsets}
            consumer.assign(list(partitions.values()))
            beginnings = await consumer.beginning_offsets(list(partitions.values()))
            ends = await consumer.end_offsets(list(partitions.values()))
            positions = {}
            for number, partition in partitions.items():
                offset = offsets[number] if offsets[number] <= ends[partition] else 0
                positions[number] = max(offset, beginnings[partition])
                consumer.seek(partition, positions[number])
            yield cls(consumer, topic, positions, {partition.partition: end for partition, end in ends.items()})

    async def newest(self) -> AsyncGenerator[list[ConsumerRecord], None]:
        """Read to the ends.

        Yields
        ------
        list of ConsumerRecord
            Of each key the newest record among those gathered; `positions` says how far the reading is.
        """
        unread = {number for number, position in self.positions.items() if position < self.ends[number]}
        newest: dict[bytes, ConsumerRecord] = {}
        while unread:
            began_s = time.monotonic()
            for partition, records in (await self._consumer.getmany(timeout_ms=200)).items():
                newest |= {record.key: record for record in records if record.key}
                self.positions[partition.partition] = await self._consumer.position(partition)
                if self.positions[partition.partition] >= self.ends[partition.partition]:
                    unread.discard(partition.partition)
            await asyncio.sleep(time.monotonic() - began_s)
            if len(newest) >= MAX_GATHERED or not unread:
                yield list(newest.values())
                newest = {}

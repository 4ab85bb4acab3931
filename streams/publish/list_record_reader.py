"""Reads single records of the topic of lists by their offsets. Knows no list."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from streams.kafka import client as kafka_client
from streams.settings import KafkaSettings

NEAR = 20
"""Records that are read over rather than sought. A seek costs a fetch: a millisecond of processor time, and a wait."""
FETCH_BYTES = 64 << 10
"""Of a partition at a time: some twenty lists. A larger fetch is wasted where the lists lie far apart."""
MAX_RECORDS = 64
"""Decoded in one turn: a millisecond."""
PATIENCE_S = 10.0

Place = tuple[int, int]
"""Partition and offset."""


class ListRecordReader:
    """Reads records of some partitions at a time, so that one fetch brings a record of each."""

    def __init__(self, consumer: AIOKafkaConsumer, topic: str, kafka: KafkaSettings) -> None:
        self._consumer = consumer
        self._topic = topic
        self._servers = kafka.bootstrap_servers
        self._positions: dict[TopicPartition, int] = {}

    @classmethod
    @asynccontextmanager
    async def open(cls, kafka: KafkaSettings, topic: str) -> AsyncIterator[ListRecordReader]:
        """Connect.

        Raises
        ------
        streams.kafka.client.KafkaUnavailable
        """
        consumer = kafka_client.consumer(kafka, max_partition_fetch_bytes=FETCH_BYTES)
        async with kafka_client.started(consumer, kafka):
            yield cls(consumer, topic, kafka)

    async def read(self, places: Collection[Place]) -> dict[Place, ConsumerRecord]:
        """Read records.

        Parameters
        ----------
        places : collection of (int, int)
            Partitions and offsets, each of which has been written.

        Returns
        -------
        dict
            Place -> record. A record that compaction has removed is missing.

        Raises
        ------
        streams.kafka.client.KafkaUnavailable
            Kafka sent nothing for `PATIENCE_S`.
        """
        left: dict[TopicPartition, list[int]] = {}  # offsets, the next one last
        for partition, offset in sorted(places, reverse=True):
            left.setdefault(TopicPartition(self._topic, partition), []).append(offset)
        if left.keys() != self._positions.keys():
            self._consumer.assign(list(left))
            self._positions = dict.fromkeys(left, -NEAR - 1)
        found: dict[Place, ConsumerRecord] = {}
        until_s = time.monotonic() + PATIENCE_S
        while left:
            limit = max(self._seek(where, offsets) for where, offsets in left.items())
            batches = await self._consumer.getmany(*left, timeout_ms=200, max_records=limit)
            found |= {
                (record.partition, record.offset): record
                for where, records in batches.items()
                for record in records
                if record.offset in left[where]
            }
            for where in list(left):
                position = self._positions[where] = await self._consumer.position(where)
                while left[where] and left[where][-1] < position:
                    left[where].pop()
                if not left[where]:
                    del left[where]
            if batches:
                until_s = time.monotonic() + PATIENCE_S
            elif time.monotonic() > until_s:
                raise kafka_client.KafkaUnavailable(
                    f"Kafka at {self._servers}: got no record of {self._topic} for {PATIENCE_S:g} s, expected those "
                    f"of {len(left)} partitions; check that it runs"
                )
        return found

    def _seek(self, where: TopicPartition, offsets: list[int]) -> int:
        """Move a partition to its next record, unless that is near. Returns how many records to decode, at most."""
        begin = end = offsets[-1]
        if self._positions[where] <= begin <= self._positions[where] + NEAR:
            begin = self._positions[where]
        else:
            self._consumer.seek(where, begin)
        for offset in reversed(offsets):
            if offset > end + NEAR or end - begin >= MAX_RECORDS:
                break
            end = offset
        return min(end - begin + 1, MAX_RECORDS)

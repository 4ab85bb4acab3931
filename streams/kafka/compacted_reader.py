"""Read compacted topics whole, then follow them. So every worker knows all items, and the counts of all workers.

There is no consumer group: each worker reads all partitions from the beginning, and partitions that are added later.
Items are validated here again, without a log line: the state tier's own reading of `items` dead-letters the bad ones.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence

from aiokafka import AIOKafkaConsumer, ConsumerRecord

from streams.contracts import Item
from streams.kafka import client as kafka_client
from streams.kafka.record_reader import RecordReader
from streams.kafka.record_time import counted_at
from streams.receive.message import BadMessage, Tombstone
from streams.settings import KafkaSettings

logger = logging.getLogger(__name__)

Records = Sequence[ConsumerRecord]
_BATCH = 512


async def items_of(records: Records, reader: RecordReader) -> tuple[dict[str, tuple[Item | None, int]], Counter[str]]:
    """Return the latest version of each item in a batch, and how many records were refused for which cause.

    A version is the item, or None where it was deleted, and when its record was written (milliseconds).
    """
    items: dict[str, tuple[Item | None, int]] = {}
    refused: Counter[str] = Counter()
    await reader.prepare(records)
    for record in records:
        try:
            received = reader.read(record)
        except BadMessage as error:
            refused[error.cause] += 1
            continue
        for _, decoded, written_ms, _ in received:
            if isinstance(decoded, Tombstone):
                items[decoded.key] = (None, written_ms)
            elif isinstance(decoded, Item):
                items[decoded.item_id] = (counted_at(decoded, written_ms), written_ms)
    return items, refused


class Follower:
    """Follow topics from their beginning.

    Parameters
    ----------
    handlers : mapping of str to coroutine function
        Full name of a topic -> what takes a batch of its records, in the order of their partition.

    Attributes
    ----------
    caught_up : asyncio.Event
        Set once every record that was there at the start has been handled.
    """

    def __init__(self, kafka: KafkaSettings, handlers: Mapping[str, Callable[[Records], Awaitable[None]]]) -> None:
        self.caught_up = asyncio.Event()
        self._kafka = kafka
        self._handlers = handlers

    async def run(self) -> None:
        """Follow for ever; from the beginning again where Kafka was away for longer than its client waits.

        Raises
        ------
        streams.kafka.client.KafkaRefuses
        """
        await kafka_client.follow(self._follow)

    async def _follow(self) -> None:
        consumer = kafka_client.consumer(self._kafka, *self._handlers, group_id=None)
        async with kafka_client.started(consumer, self._kafka):
            partitions = consumer.assignment()
            consumer.pause(*partitions)  # a fetch that finds no data would hold the questions up
            ends = await consumer.end_offsets(partitions)
            positions = {partition: await consumer.position(partition) for partition in partitions}
            consumer.resume(*partitions)
            while not all(positions[partition] >= end for partition, end in ends.items()):
                await self._take(consumer)
                positions = {partition: await consumer.position(partition) for partition in partitions}
            logger.debug("read %d records of %s", sum(ends.values()), ", ".join(self._handlers))
            self.caught_up.set()
            while True:
                await self._take(consumer)

    async def _take(self, consumer: AIOKafkaConsumer) -> None:
        for partition, records in (await consumer.getmany(timeout_ms=200, max_records=_BATCH)).items():
            await self._handlers[partition.topic](records)

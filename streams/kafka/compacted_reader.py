"""Read compacted topics whole, then follow them. So every worker knows all items, and the counts of all workers.

There is no consumer group: each worker reads all partitions from the beginning, and partitions that are added later.
Items are validated here again, without a log line: the state tier's own reading of `items` dead-letters the bad ones.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import tzinfo

from aiokafka import ConsumerRecord

from streams.contracts import Item
from streams.kafka import client as kafka_client
from streams.kafka.record_time import Record, RecordTimes, counted_at, receive_dated
from streams.receive.message import BadMessage, Message, Tombstone
from streams.settings import KafkaSettings

logger = logging.getLogger(__name__)

Records = Sequence[ConsumerRecord]
_BATCH = 512
RETRY_AFTER_S = 1.0


async def items_of(
    records: Records, times: RecordTimes, zone: tzinfo | None = None
) -> tuple[dict[str, tuple[Item | None, int]], Counter[str]]:
    """Return the latest version of each item in a batch, and how many records were refused for which cause.

    A version is the item, or None where it was deleted, and when its record was written (milliseconds).
    """
    items: dict[str, tuple[Item | None, int]] = {}
    refused: Counter[str] = Counter()
    await times.look(map(Record.of, records))
    for record in records:
        message = Message("items", record.partition, record.offset, record.key, record.value)
        try:
            received, written_ms = receive_dated(times, Record.of(record), message, zone)
        except BadMessage as error:
            refused[error.cause] += 1
            continue
        if isinstance(received, Tombstone):
            items[received.key] = (None, written_ms)
        elif isinstance(received, Item):
            items[received.item_id] = (counted_at(received, written_ms), written_ms)
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
        while True:
            try:
                await self._follow()
            except kafka_client.KafkaUnavailable as error:
                logger.warning("%s; reading %s again", error, ", ".join(self._handlers))
                await asyncio.sleep(RETRY_AFTER_S)

    async def _follow(self) -> None:
        consumer = kafka_client.consumer(self._kafka, *self._handlers, group_id=None)
        async with kafka_client.started(consumer, self._kafka):
            ends = await consumer.end_offsets(consumer.assignment())
            while True:
                for partition, records in (await consumer.getmany(timeout_ms=200, max_records=_BATCH)).items():
                    await self._handlers[partition.topic](records)
                if not self.caught_up.is_set():
                    positions = [(await consumer.position(partition), end) for partition, end in ends.items()]
                    if all(position >= end for position, end in positions):
                        logger.info("read %d records of %s", sum(ends.values()), ", ".join(self._handlers))
                        self.caught_up.set()

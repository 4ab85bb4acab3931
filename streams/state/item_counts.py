"""Exchange the items' counts (co-visits, trends) through the compacted topic `item-counts`.

Every worker counts the events of its users, stores what it counted, and reads what all workers stored, itself in an
earlier life included.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from itertools import islice

from ranker.recall.count_records import decode_counts, encode_counts
from ranker.recall.counts import Counts
from streams import metrics
from streams.faust_compat.fencing import MembershipLost
from streams.kafka.compacted_reader import Records
from streams.kafka.outgoing import Outgoing
from streams.kafka.reliable_producer import ReliableProducer

logger = logging.getLogger(__name__)

COUNTS = "item-counts"
STORE_EVERY_S = 5.0
"""A worker that dies loses at most the co-visit counts of these seconds. States lose nothing."""
ITEMS_PER_TURN = 16
PAUSE_S = 0.01
"""Counts are sent a few at a time: sent all at once, they would delay the events by a tenth of a second."""


class ItemCountExchange:
    """Reads and writes the topic.

    Parameters
    ----------
    counts : Counts
        Of all workers, in memory.
    producer : ReliableProducer
        Sends messages until Kafka has acknowledged them.
    topic : str
        Full name of the topic.
    turn : asyncio.Lock
        Is held by a flush. So no event is in the stored counts before it is in its user's stored state.
    """

    def __init__(self, counts: Counts, producer: ReliableProducer, topic: str, turn: asyncio.Lock) -> None:
        self._counts = counts
        self._producer = producer
        self._topic = topic
        self._turn = turn

    async def put(self, records: Records) -> None:
        """Take in counts that workers have stored."""
        for record in records:
            if record.value is None:
                continue
            try:
                shard, item, counts = decode_counts(record.key, record.value)
            except ValueError as error:
                metrics.item_counts_unreadable.inc()
                logger.warning("%s/%d/%d: %s", record.topic, record.partition, record.offset, error)
                continue
            if not self._counts.has_newer(shard, item):
                self._counts.put(shard, item, counts)

    async def run(self) -> None:
        """Store the changed counts at intervals, until cancelled."""
        while True:
            await asyncio.sleep(STORE_EVERY_S)
            async with self._turn:
                changes = iter(self._counts.changes())
            while batch := list(islice(changes, ITEMS_PER_TURN)):
                with suppress(MembershipLost):  # the next change of an item writes all counts of the item
                    await self._producer.deliver(
                        [Outgoing(self._topic, *encode_counts(shard, item, counts)) for shard, item, counts in batch]
                    )
                await asyncio.sleep(PAUSE_S)

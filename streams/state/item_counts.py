"""Exchange the items' counts (co-visits, trends) and dates through the compacted topic `item-counts`.

Every worker counts the events of its users, stores what it counted, and reads what all workers stored, itself in an
earlier life included. It stores the dates of the items that it owns, see `item_dates`.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from itertools import islice

from ranker.recall.count_records import decode_counts, decode_key, encode_counts
from ranker.recall.counts import Counts
from streams import metrics
from streams.faust_compat.fencing import MembershipLost
from streams.kafka.client import partition_of
from streams.kafka.compacted_reader import Records
from streams.kafka.outgoing import Outgoing
from streams.kafka.reliable_producer import ReliableProducer
from streams.settings import Settings
from streams.state.changelog import Store
from streams.state.item_dates import ItemDates, decode_date, encode_date

logger = logging.getLogger(__name__)

COUNTS = "item-counts"
STORE_EVERY_S = 5.0
"""A worker that dies loses at most the co-visit counts of these seconds. States lose nothing."""
ITEMS_PER_TURN = 64
"""About a millisecond of the event loop: an event changes the counts of some fifty items."""
DATES_PER_TURN = 128
PAUSE_S = 0.01
"""Counts are sent a few at a time: sent all at once, they would delay the events by a tenth of a second."""


def put_counts(counts: Counts, dates: ItemDates, records: Records) -> None:
    """Take in a batch of the topic, except what these counts themselves have newer."""
    for record in records:
        if (date := decode_date(record.key, record.value)) is not None:
            dates.put(*date)
            continue
        if record.value is None:
            continue
        try:
            if counts.has_newer(*decode_key(record.key)):  # most are the worker's own
                continue
            counts.put(*decode_counts(record.key, record.value))
        except ValueError as error:
            metrics.item_counts_unreadable.inc()
            logger.warning("%s/%d/%d: %s", record.topic, record.partition, record.offset, error)


class ItemCountExchange:
    """Reads and writes the topic.

    Parameters
    ----------
    counts : Counts
        Of all workers, in memory.
    dates : ItemDates
        Of all items, in memory.
    store : Store
        Says which partitions this worker holds.
    producer : ReliableProducer
        Sends messages until Kafka has acknowledged them.
    settings : Settings
        Of the worker.
    turn : asyncio.Lock
        Is held by a flush. So no event is in the stored counts before it is in its user's stored state.
    """

    def __init__(
        self,
        counts: Counts,
        dates: ItemDates,
        store: Store,
        producer: ReliableProducer,
        settings: Settings,
        turn: asyncio.Lock,
    ) -> None:
        self._counts = counts
        self._dates = dates
        self._store = store
        self._producer = producer
        self._topic = settings.topic(COUNTS)
        self._partitions = settings.kafka.partitions
        self._turn = turn

    async def put(self, records: Records) -> None:
        """Take in counts and dates that workers have stored."""
        put_counts(self._counts, self._dates, records)

    async def run(self) -> None:
        """Store the changed counts at intervals, until cancelled."""
        while True:
            await asyncio.sleep(STORE_EVERY_S)
            changed = iter(self._counts.take_changed())
            while batch := list(islice(changed, ITEMS_PER_TURN)):
                async with self._turn:
                    encoded = [encode_counts(*one) for one in self._counts.stored(batch)]
                messages = [Outgoing(self._topic, key, value, self._partition(key)) for key, value in encoded]
                with suppress(MembershipLost):  # the next change of an item writes all counts of the item
                    await self._producer.deliver(messages)
                await asyncio.sleep(PAUSE_S)

    def _partition(self, key: bytes) -> int:
        """Where Kafka's clients send a key; records of one known partition travel together."""
        return partition_of(key, self._partitions)

    async def run_dates(self) -> None:
        """Store the dates of new items at intervals, until cancelled. The topic has been read when this is called."""
        self._dates.begin()
        while True:
            new = iter(self._dates.to_store(self._store.partitions(), self._partitions))
            while batch := list(islice(new, DATES_PER_TURN)):
                with suppress(MembershipLost):  # the worker that holds the items now stores their dates
                    await self._producer.deliver([Outgoing(self._topic, *encode_date(*pair)) for pair in batch])
                    self._dates.stored(batch)
                await asyncio.sleep(PAUSE_S)
            await asyncio.sleep(STORE_EVERY_S)

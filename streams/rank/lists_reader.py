"""Reads the topic of lists for the index of published lists: the partitions that this worker owns, then what is new.

Half of the time is a pause while a partition is read from its beginning, so that new lists are not held up. Then it
reads at intervals, and passes over the lists that this worker published again: they are noted already. Other workers
may write to our partitions, too: a rank request that lies on another partition than its user's. Knows not what the
index is for.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable

import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from streams.kafka import client as kafka_client
from streams.publish.list_expiry import first_written_ms
from streams.rank.list_without import shown
from streams.rank.published_lists import IndexedList, ListPlace, Written
from streams.rank.stale_lists import StaleLists
from streams.settings import Settings

logger = logging.getLogger(__name__)

WITHOUT_PARTITIONS_S = 1.0
READ_EVERY_S = 0.05
"""This worker's own lists are noted by then. A list of another worker is noted later by that. Chosen by us."""
REWRITING_S = 1.0
"""For how long a partition counts as rewritten after this worker's last record there. Chosen by us: batches of a
withdrawal are less apart."""
MAX_RECORDS = 256
"""Records that are decoded in one turn: a few milliseconds."""

MAX_ITEMS = 1_000
"""Of a list. A longer one would make all rows of the index longer."""


class ListsReader:
    """Fills the index.

    Parameters
    ----------
    settings : Settings
        Of the installation.
    stale : StaleLists
        Has the index; learns which partitions are complete.
    """

    def __init__(self, settings: Settings, stale: StaleLists) -> None:
        self._kafka = settings.kafka
        self._topic = settings.topic("recommendations")
        self._stale = stale
        self._moved = True
        self._positions: dict[int, int] = {}
        self._rewritten_s: dict[int, float] = {}  # when this worker last wrote records there that it need not read
        self._stored: dict[int, int] = {}  # the ends, at the last turn, of partitions that this worker writes to
        self._until: dict[int, int] = {}  # of partitions that are not complete: the end that was there

    def own(self, partitions: Iterable[int]) -> None:
        """Follow these partitions from now on, and no others. What is known of those that stay is kept."""
        self._stale.owned = set(partitions)
        self._stale.complete.clear()
        lost = self._positions.keys() - self._stale.owned
        self._stale.lists.drop(lost)
        for partition in lost:
            del self._positions[partition]
            self._stale.ahead.pop(partition, None)
            self._rewritten_s.pop(partition, None)
        self._moved = True

    async def run(self) -> None:
        """Follow for ever.

        Raises
        ------
        streams.kafka.client.KafkaRefuses
        """
        await kafka_client.follow(self._follow)

    async def _follow(self) -> None:
        consumer = kafka_client.consumer(self._kafka)
        async with kafka_client.started(consumer, self._kafka):
            self._moved = True
            while True:
                if self._moved:
                    await self._assign(consumer)
                if not self._stale.owned:
                    await asyncio.sleep(WITHOUT_PARTITIONS_S)
                    continue
                began_s = time.monotonic()
                await self._choose(consumer, self._pass_over(consumer))
                batches = await consumer.getmany(timeout_ms=200 if self._until else 0, max_records=MAX_RECORDS)
                received_s = time.monotonic()
                if self._moved:
                    continue  # these may be records of a partition that was lost
                for partition, records in batches.items():
                    self._take(partition.partition, records)
                await self._advance(consumer)
                if self._until:
                    await asyncio.sleep(time.monotonic() - (began_s if batches else received_s))
                elif sum(map(len, batches.values())) < MAX_RECORDS:
                    await asyncio.sleep(READ_EVERY_S)

    async def _assign(self, consumer: AIOKafkaConsumer) -> None:
        """Begin with new partitions; go on with the others, which are complete once read to their present ends."""
        self._moved = False
        if not self._stale.owned:
            return
        partitions = [TopicPartition(self._topic, number) for number in self._stale.owned]
        consumer.assign(partitions)
        for partition in partitions:
            consumer.seek(partition, self._positions.setdefault(partition.partition, 0))
        ends = await asyncio.wait_for(consumer.end_offsets(partitions), kafka_client.CONNECT_TIMEOUT_S)
        if self._moved:
            return
        for partition, end in ends.items():
            if self._positions[partition.partition] > end:  # the topic was deleted and created again
                self._stale.lists.drop([partition.partition])
                self._positions[partition.partition] = 0
                self._stale.ahead.pop(partition.partition, None)
                consumer.seek(partition, 0)
        self._until = {partition.partition: end for partition, end in ends.items()}
        self._note_complete()

    def _pass_over(self, consumer: AIOKafkaConsumer) -> set[int]:
        """Go on after the records that are noted already.

        Returns
        -------
        set of int
            The partitions that have had such records lately.
        """
        now_s = time.monotonic()
        self._rewritten_s |= {number: now_s for number in self._positions if self._stale.ahead.get(number)}
        self._rewritten_s = {number: at_s for number, at_s in self._rewritten_s.items() if now_s - at_s < REWRITING_S}
        for number in self._rewritten_s:
            offsets, position = self._stale.ahead[number], self._positions[number]
            begin = position
            while position in offsets:
                position += 1
            offsets.difference_update([offset for offset in offsets if offset < position])
            if position > begin:
                consumer.seek(TopicPartition(self._topic, number), position)
                self._note_position(number, position)
        return set(self._rewritten_s)

    async def _choose(self, consumer: AIOKafkaConsumer, rewritten: set[int]) -> None:
        """Fetch nothing from partitions to which this worker alone writes: that is a tenth of the work of a withdrawal.

        Another worker wrote there if what was stored at the last turn is still not noted.
        """
        before, self._stored = self._stored, {}
        if rewritten:
            partitions = [TopicPartition(self._topic, number) for number in rewritten]
            ends = await asyncio.wait_for(consumer.end_offsets(partitions), kafka_client.CONNECT_TIMEOUT_S)
            self._stored = {partition.partition: end for partition, end in ends.items()}
        if not self._moved:
            for partition in consumer.assignment():
                number = partition.partition
                is_ours = number in rewritten and self._positions[number] >= before.get(number, 0)
                (consumer.pause if is_ours else consumer.resume)(partition)

    def _take(self, partition: int, records: list[ConsumerRecord]) -> None:
        newest = {record.key: record for record in records if record.key}
        ahead, places, lists = self._stale.ahead[partition], list[ListPlace](), list[IndexedList | None]()
        for record in newest.values():
            if record.offset in ahead:
                continue
            try:
                record.key.decode()
                list_ = None if record.value is None else self._shown(record)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue  # no worker wrote it; the back-fill of Redis counts it
            if list_ is not None and len(list_.item_ids) > MAX_ITEMS:
                length = len(list_.item_ids)
                logger.warning("recommendations: got a list of %d items, which no worker makes; it stays", length)
                continue
            places.append(ListPlace(partition, record.offset, record.key))
            lists.append(list_)
        self._stale.note(places, lists)

    @staticmethod
    def _shown(record: ConsumerRecord) -> IndexedList:
        return IndexedList(*shown(record.value), Written.of(record.value, first_written_ms(record)))

    async def _advance(self, consumer: AIOKafkaConsumer) -> None:
        for partition in list(consumer.assignment()):
            number = partition.partition
            position = await consumer.position(partition)
            if self._moved:
                return
            self._note_position(number, position)
        self._note_complete()

    def _note_position(self, partition: int, position: int) -> None:
        if position != self._positions.get(partition):
            self._positions[partition] = position
            self._stale.lists.read_to(partition, position)

    def _note_complete(self) -> None:
        """Lists of a partition may be edited once it is read to the end that was there when we got it."""
        done = {number for number, end in self._until.items() if self._positions[number] >= end}
        for number in done:
            del self._until[number]
        if done:
            self._stale.complete |= done
            self._stale.changed.set()
            if not self._until:
                logger.debug("read %d published lists of %d partitions", len(self._stale.lists), len(self._stale.owned))

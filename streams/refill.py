"""Redis kept whole: what it has not got, or has lost, comes again from the compacted topic of lists.

Beside the lists Redis holds a mark per partition: it has every list before this offset. Who owns the partition moves
the mark on as its writes succeed. A mark that is not where we left it (Redis was away when we wrote, came back empty or
as an older copy, or the partition is newly ours) is where we read the topic from, up to its end. So nothing is kept in
memory for a Redis that is away, and nothing is lost with the worker. Of what lies in the topic only each user's newest
list is written, as far as `HELD` lists tell: an active user has hundreds before the broker compacts them. It is no
flood: half of the time is a pause. How old a list is, is between the broker, who says when it came, and Redis, who
drops it: a worker's clock may be wrong. Called by the rank worker, after its lists are in the topic.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence

import msgspec
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.structs import RecordMetadata
from redis.exceptions import RedisError

from streams import kafka_client, metrics
from streams.publish import ListCache, Published
from streams.settings import Settings

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
BATCH = 100
"""Lists written in one round trip: a few milliseconds of the worker's and of Redis' time."""
HELD = 4_096
"""Users whose newest list is looked for at a time: some 12 MB."""


class _Version(msgspec.Struct):
    as_of: int
    state_version: int


_decoder = msgspec.json.Decoder(_Version)


class Refill:
    """The cache, and what it still lacks."""

    def __init__(self, settings: Settings, cache: ListCache) -> None:
        self._kafka = settings.kafka
        self._topic = settings.topic("recommendations")
        self._ttl_s = settings.redis.ttl_s
        self._cache = cache
        self._owned: set[int] = set()
        self._marked: dict[int, int] = {}  # of the whole ones, as we left it in Redis
        self._end: dict[int, int] = {}  # after our newest list there
        self._failed: dict[int, int] = {}  # partition -> our first list there that Redis did not take
        self._bringing = False
        self._overtaken: dict[str, int] = {}  # user -> offset of the list that we wrote while others were brought
        self._turn = asyncio.Lock()

    def own(self, partitions: Iterable[int]) -> None:
        """From now on these partitions are ours to keep whole."""
        self._owned = set(partitions)
        self._marked = {partition: mark for partition, mark in self._marked.items() if partition in self._owned}

    async def write(self, published: Sequence[Published], places: Sequence[RecordMetadata]) -> None:
        """Write lists to Redis that lie in the topic at these places."""
        async with self._turn:
            taken = await self._cache.write(published)
            if self._bringing:
                self._overtaken |= {one.user_id: place.offset for one, place in zip(published, places, strict=True)}
        for place in places:
            self._end[place.partition] = max(place.offset + 1, self._end.get(place.partition, 0))
            if not taken:
                self._failed.setdefault(place.partition, place.offset)

    async def run(self) -> None:
        """Run for ever: move the marks on, and bring what is missing."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                await self._look()
            except (RedisError, OSError):  # away: `ListCache` says so
                self._marked = {}
            except kafka_client.KafkaUnavailable as error:
                logger.warning("%s; Redis is refilled later", error)
            metrics.cache_pending.set(
                sum(end - self._marked.get(p, 0) for p, end in self._end.items() if p in self._failed)
            )

    async def _look(self) -> None:
        marks = await self._cache.marks()
        whole = {p for p, mark in self._marked.items() if marks.get(p) == mark and p not in self._failed}
        moves = {p: (self._marked[p], self._end[p]) for p in whole if self._end.get(p, 0) > self._marked[p]}
        moved = await self._cache.advance(moves)
        self._marked |= {p: moves[p][1] for p in moved}
        whole -= moves.keys() - moved
        # A request that lay elsewhere than our key hash would put it: the list's partition is another worker's.
        others = {p: first for p, first in self._failed.items() if p not in self._owned}
        await self._cache.advance({p: (marks[p], first) for p, first in others.items() if marks.get(p, 0) > first})
        for partition in others:
            del self._failed[partition]
        if missing := self._owned - whole:
            self._bringing = True
            try:
                await self._bring({p: marks.get(p) for p in missing})
            finally:
                self._bringing, self._overtaken = False, {}

    async def _bring(self, marks: dict[int, int | None]) -> None:
        """Read these partitions from their marks to their ends into Redis."""
        self._marked = {p: mark for p, mark in self._marked.items() if p not in marks}
        for partition in marks:
            self._failed.pop(partition, None)
        begin = {p: mark or 0 for p, mark in marks.items()}
        begun = await self._cache.advance({p: (marks[p], begin[p]) for p in begin})  # gone again if Redis is lost again
        started_s, lists = time.monotonic(), 0
        consumer = kafka_client.consumer(self._kafka)
        async with kafka_client.started(consumer, self._kafka):
            partitions = {TopicPartition(self._topic, p): begin[p] for p in begun}
            consumer.assign(list(partitions))
            first = await consumer.beginning_offsets(list(partitions))
            ends = await consumer.end_offsets(list(partitions))
            for partition, offset in partitions.items():
                consumer.seek(partition, min(max(offset, first[partition]), ends[partition]))
            left = {p for p in partitions if max(partitions[p], first[p]) < ends[p]}
            newest: dict[bytes, ConsumerRecord] = {}
            while left:
                began_s = time.monotonic()
                for partition, records in (await consumer.getmany(timeout_ms=200)).items():
                    newest |= {record.key: record for record in records if record.key}
                    if await consumer.position(partition) >= ends[partition]:
                        left.discard(partition)
                await asyncio.sleep(time.monotonic() - began_s)
                if len(newest) >= HELD or not left:
                    lists += await self._put(list(newest.values()))
                    newest = {}
        moves = {p.partition: (begin[p.partition], ends[p]) for p in partitions}
        moved = await self._cache.advance({p: move for p, move in moves.items() if p not in self._failed})
        self._marked |= {p: moves[p][1] for p in moved}
        if lists:
            logger.info("brought %d lists to Redis in %.1f s", lists, time.monotonic() - started_s)

    async def _put(self, records: Sequence[ConsumerRecord]) -> int:
        for begin in range(0, len(records), BATCH):
            began_s = time.monotonic()
            some = records[begin : begin + BATCH]
            read = [(record.offset, self._published(record)) for record in some]
            async with self._turn:  # of lists of the same version, and of a tombstone and a list, the later one stays
                lists = [one for offset, one in read if one and offset >= self._overtaken.get(one.user_id, 0)]
                if lists and not await self._cache.write(lists):
                    raise RedisError("away again")
            metrics.cache_refilled.inc(len(lists))
            await asyncio.sleep(time.monotonic() - began_s)
        return len(records)

    def _published(self, record: ConsumerRecord) -> Published | None:
        """What a record of the topic says, None if nobody of ours wrote it."""
        key, value = record.key, record.value
        try:
            user_id = key.decode()
            list_ = None if value is None else _decoder.decode(value)
        except (UnicodeDecodeError, msgspec.DecodeError) as error:
            logger.warning(
                "recommendations: got a record of key %r that is no list (%s); Redis goes without", key, error
            )
            metrics.cache_writes.labels("unreadable").inc()
            return None
        if list_ is None:
            return Published(user_id, None)
        return Published(user_id, value, list_.as_of, list_.state_version, record.timestamp // 1000 + self._ttl_s)

"""Redis kept whole: what it has not got, or has lost, comes again from the compacted topic of lists.

Beside the lists Redis holds a mark per partition: it has every list before this offset. Who owns the partition moves
the mark on as its writes succeed. A mark that is not where we left it (Redis was away when we wrote, came back empty or
as an older copy, or the partition is newly ours) is where we read the topic from, up to its end. So nothing is kept in
memory for a Redis that is away, and nothing is lost with the worker. Of what lies in the topic only each user's newest
list is written, as far as `HELD` lists tell: an active user has hundreds before the broker compacts them. It is no
flood: half of the time is a pause, and where Redis refuses us the attempts back off, until it takes a list again. A
list whose key alone is refused (something else is stored there) does not hold the mark up: it counts as pending until
its user's next list is taken. How old a list is, is between the broker, who says when it came, and Redis, who drops
it: a worker's clock may be wrong. Called by the rank worker, after its lists are in the topic.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress

import msgspec
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.structs import RecordMetadata

from streams import metrics
from streams.kafka import client as kafka_client
from streams.publish.list_cache import ListCache, Published, Taken
from streams.publish.redis_refusal import CacheUnavailable
from streams.settings import Settings

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
MOST_S = 10.0
"""Between attempts where Redis or Kafka refuses us: chosen by us, as a person who has mended it waits for that."""
LOST_S = 30.0
"""Chosen by us: how long a master that is cut off may go on before its replica takes over."""
REFUSED_USERS = 10_000
"""Users whose key alone is refused, remembered one by one."""
BATCH = 100
"""Lists written in one round trip: a few milliseconds of the worker's and of Redis' time."""
HELD = 4_096
"""Users whose newest list is looked for at a time: some 12 MB."""


class _Version(msgspec.Struct):
    as_of: int
    state_version: int


_decoder = msgspec.json.Decoder(_Version)


class Backfill:
    """The cache, and what it still lacks."""

    def __init__(self, settings: Settings, cache: ListCache) -> None:
        self._settings = settings
        self._kafka = settings.kafka
        self._partitions = settings.kafka.partitions
        self._topic = settings.topic("recommendations")
        self._ttl_s = settings.redis.ttl_s
        self._cache = cache
        self._owner = ""
        self._owned: set[int] = set()
        self._marked: dict[int, int] = {}  # of the whole ones, as we left it in Redis
        self._sure: dict[int, int] = {}  # partition -> up to which offset Redis had every list when we last knew
        self._end: dict[int, int] = {}  # after the newest list there
        self._failed: dict[int, int] = {}  # partition -> our first list there that Redis did not take
        self._refused: set[str] = set()  # users whose key alone is refused
        self._bringing = False
        self._overtaken: dict[str, int] = {}  # user -> offset of the list that we wrote while others were brought
        self._turn = asyncio.Lock()
        self._takes_again = asyncio.Event()
        self._changes = cache.changes
        self._earlier: deque[tuple[float, dict[int, int]]] = deque()  # when, and the marks then: the last LOST_S

    def own(self, partitions: Iterable[int]) -> None:
        """From now on these partitions are ours to keep whole."""
        before, self._owned = self._owned, set(partitions)
        self._end = {p: end for p, end in self._end.items() if p in before or p not in self._owned}
        self._marked = {partition: mark for partition, mark in self._marked.items() if partition in self._owned}
        self._sure = {partition: mark for partition, mark in self._sure.items() if partition in self._owned}
        self._refused = {
            user for user in self._refused if kafka_client.partition_of(user.encode(), self._partitions) in self._owned
        }

    async def write(self, published: Sequence[Published], places: Sequence[RecordMetadata]) -> None:
        """Write lists to Redis that lie in the topic at these places."""
        async with self._turn:
            taken = await self._write(published)
            if self._bringing:
                self._overtaken |= {one.user_id: place.offset for one, place in zip(published, places, strict=True)}
        for one, place in zip(taken, places, strict=True):
            self._end[place.partition] = max(place.offset + 1, self._end.get(place.partition, 0))
            if one is Taken.LATER:
                first = self._failed.get(place.partition, place.offset)
                self._failed[place.partition] = min(place.offset, first)
        if self._failed and Taken.LATER not in taken:
            self._takes_again.set()
        self._observe()

    async def run(self) -> None:
        """Run for ever: move the marks on, and bring what is missing."""
        pause_s = LOOK_EVERY_S
        while True:
            await self._pause(pause_s)
            try:
                await self._look()
                pause_s = LOOK_EVERY_S
            except CacheUnavailable:  # the cache says so
                self._marked = {}
                pause_s = min(2 * pause_s, MOST_S)
            except kafka_client.KafkaUnavailable as error:
                if pause_s == LOOK_EVERY_S:
                    logger.warning("%s; Redis is refilled later", error)
                pause_s = min(2 * pause_s, MOST_S)
            self._observe()

    async def _pause(self, seconds: float) -> None:
        """Wait; after trouble no longer than until Redis takes a list again."""
        self._takes_again.clear()
        await asyncio.sleep(LOOK_EVERY_S)
        with suppress(asyncio.TimeoutError):
            if seconds > LOOK_EVERY_S:
                await asyncio.wait_for(self._takes_again.wait(), seconds - LOOK_EVERY_S)

    def _observe(self) -> None:
        """What Redis may lack: of a partition that is not known to be whole, all since it was; and single lists."""
        lacking = (self._owned - self._marked.keys()) | self._failed.keys()
        since = self._failed | {p: self._sure.get(p, 0) for p in self._owned}
        pending = sum(max(0, self._end.get(p, 0) - since[p]) for p in lacking)
        metrics.cache_pending.set(pending + len(self._refused))

    async def _write(self, published: Sequence[Published]) -> list[Taken]:
        taken = await self._cache.write(published)
        for one, outcome in zip(published, taken, strict=True):
            if outcome is Taken.YES:
                self._refused.discard(one.user_id)
            elif outcome is Taken.NEVER and len(self._refused) < REFUSED_USERS:
                self._refused.add(one.user_id)
        return taken

    async def _look(self) -> None:
        self._owner = self._owner or await owner_of(self._settings)
        await self._see_ends()
        marks = await self._set_back(await self._cache.marks.read(self._owner))
        whole = {p for p, mark in self._marked.items() if marks.get(p) == mark and p not in self._failed}
        moves = {p: (self._marked[p], self._end[p]) for p in whole if self._end.get(p, 0) > self._marked[p]}
        moved = await self._cache.marks.advance(moves)
        self._mark({p: moves[p][1] for p in moved})
        whole -= moves.keys() - moved
        # A request that lay elsewhere than our key hash would put it: the list's partition is another worker's.
        others = {p: first for p, first in self._failed.items() if p not in self._owned}
        await self._cache.marks.advance(
            {p: (marks[p], first) for p, first in others.items() if marks.get(p, 0) > first}
        )
        for partition in others:
            del self._failed[partition]
        if missing := self._owned - whole:
            self._bringing = True
            try:
                await self._bring({p: marks.get(p) for p in missing})
            finally:
                self._bringing, self._overtaken = False, {}
        self._cache.whole()
        now_s = time.monotonic()
        self._earlier.append((now_s, dict(self._marked)))
        while len(self._earlier) > 1 and self._earlier[1][0] < now_s - LOST_S:
            self._earlier.popleft()

    async def _set_back(self, marks: dict[int, int]) -> dict[int, int]:
        """After a failover read again from where the marks were `LOST_S` before: a replica may lack what it had."""
        if self._changes == self._cache.changes:
            return marks
        earlier = self._earlier[0][1] if self._earlier else {}
        back = {p: (marks[p], mark) for p, mark in earlier.items() if p in self._owned and mark < marks.get(p, 0)}
        moved = await self._cache.marks.advance(back)
        self._changes, self._marked = self._cache.changes, {}
        return marks | {p: back[p][1] for p in moved}

    async def _see_ends(self) -> None:
        """Where the partitions end that we have not written to: what Redis may lack is to be told while it is away."""
        if unseen := self._owned - self._end.keys():
            consumer = kafka_client.consumer(self._kafka)
            partitions = [TopicPartition(self._topic, p) for p in unseen]
            async with kafka_client.started(consumer, self._kafka):
                first = await consumer.beginning_offsets(partitions)
                ends = await consumer.end_offsets(partitions)
            self._sure = {p.partition: offset for p, offset in first.items()} | self._sure
            self._end = {p.partition: end for p, end in ends.items()} | self._end

    def _mark(self, marks: dict[int, int]) -> None:
        self._marked |= marks
        self._sure |= marks

    async def _bring(self, marks: dict[int, int | None]) -> None:
        """Read these partitions from their marks to their ends into Redis."""
        self._marked = {p: mark for p, mark in self._marked.items() if p not in marks}
        begin = {p: mark or 0 for p, mark in marks.items()}
        begun = await self._cache.marks.advance({p: (marks[p], begin[p]) for p in begin})  # gone again if Redis is lost
        self._sure |= begin
        for partition in begun:
            self._failed.pop(partition, None)
        started_s, lists = time.monotonic(), 0
        consumer = kafka_client.consumer(self._kafka)
        async with kafka_client.started(consumer, self._kafka):
            partitions = {TopicPartition(self._topic, p): begin[p] for p in begun}
            consumer.assign(list(partitions))
            first = await consumer.beginning_offsets(list(partitions))
            ends = await consumer.end_offsets(list(partitions))
            for partition, offset in partitions.items():
                if offset > ends[partition]:  # the mark of a log that is no more
                    partitions[partition] = 0
                partitions[partition] = max(partitions[partition], first[partition])
                consumer.seek(partition, partitions[partition])
                self._sure[partition.partition] = partitions[partition]
                self._end[partition.partition] = max(ends[partition], self._end.get(partition.partition, 0))
            left = {p for p in partitions if partitions[p] < ends[p]}
            newest: dict[bytes, ConsumerRecord] = {}
            while left:
                began_s = time.monotonic()
                for partition, records in (await consumer.getmany(timeout_ms=200)).items():
                    newest |= {record.key: record for record in records if record.key}
                    partitions[partition] = await consumer.position(partition)
                    if partitions[partition] >= ends[partition]:
                        left.discard(partition)
                await asyncio.sleep(time.monotonic() - began_s)
                if len(newest) >= HELD or not left:
                    lists += await self._put(list(newest.values()))
                    newest = {}
                    self._sure |= {p.partition: offset for p, offset in partitions.items()}
                    self._observe()
        moves = {p.partition: (begin[p.partition], ends[p]) for p in partitions}
        moved = await self._cache.marks.advance({p: move for p, move in moves.items() if p not in self._failed})
        self._mark({p: moves[p][1] for p in moved})
        if lists:
            logger.info("brought %d lists to Redis in %.1f s", lists, time.monotonic() - started_s)

    async def _put(self, records: Sequence[ConsumerRecord]) -> int:
        for begin in range(0, len(records), BATCH):
            began_s = time.monotonic()
            some = records[begin : begin + BATCH]
            read = [(record.offset, self._published(record)) for record in some]
            async with self._turn:  # of lists of the same version, and of a tombstone and a list, the later one stays
                lists = [one for offset, one in read if one and offset >= self._overtaken.get(one.user_id, 0)]
                taken = await self._write(lists)
            metrics.cache_backfilled_lists.inc(taken.count(Taken.YES))
            if Taken.LATER in taken:
                raise CacheUnavailable("Redis: away again")
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


async def owner_of(settings: Settings) -> str:
    """Whose offsets the marks are: Kafka's cluster, and the topic.

    Raises
    ------
    KafkaUnavailable
    """
    async with kafka_client.admin(settings.kafka) as client:
        cluster = await client.describe_cluster()
    return f"{cluster.get('cluster_id')} {settings.topic('recommendations')}"

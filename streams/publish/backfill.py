"""Keeps Redis complete: lists that it did not take, or has lost, are copied from the compacted topic of lists.

Beside the lists Redis holds a checkpoint offset per partition: it has every list before this offset. The worker that
owns a partition advances the offset as its writes succeed. If the offset is not what the worker left there (Redis was
away, came back empty or as an older copy, or the partition was assigned just now), the worker reads the topic from
that offset to its end and writes the newest list of each key. So no memory is needed for a Redis that is away, and
nothing is lost with the worker.

Copying takes at most half of the time, and attempts back off while Redis refuses, until it takes a list again. A list
whose key alone is refused (something else is stored there) does not hold the offset back; it counts as pending until
Redis takes the user's next list. A list's age depends on the broker's time stamp and on Redis' clock, for a worker's
clock may be wrong. Does not know how lists are made.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import aclosing, suppress

import msgspec
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.structs import RecordMetadata

from streams import metrics
from streams.kafka import client as kafka_client
from streams.kafka import outage
from streams.publish.list_cache import ListCache, OutgoingList, WriteOutcome
from streams.publish.list_expiry import expiry_s
from streams.publish.partition_progress import PartitionProgress
from streams.publish.redis_refusal import CacheUnavailable
from streams.publish.topic_replay import TopicReplay
from streams.settings import Settings

logger = logging.getLogger(__name__)

CHECK_EVERY_S = 1.0
MAX_PAUSE_S = 10.0
"""Between attempts while Redis or Kafka refuses; chosen by us, as the person who repaired it waits for this."""
FAILOVER_S = 30.0
"""Chosen by us: how long a master that is cut off may go on before its replica takes over."""
BATCH_LISTS = 100
"""Lists copied in one round trip: a few milliseconds of the worker's and of Redis' time."""


class _Version(msgspec.Struct):
    as_of: int
    state_version: int


_decoder = msgspec.json.Decoder(_Version)


class Backfill:
    """Writes new lists to Redis, and copies those that it lacks.

    Parameters
    ----------
    settings : Settings
        Of the installation.
    cache : ListCache
        The lists in Redis.

    Attributes
    ----------
    is_copying : bool
        Whether lists are being copied from the topic.
    """

    def __init__(self, settings: Settings, cache: ListCache) -> None:
        self.is_copying = False
        self._settings = settings
        self._topic = settings.topic("recommendations")
        self._ttl_s = settings.redis.ttl_s
        self._cache = cache
        self._owner = ""
        self._progress = PartitionProgress()
        self._written_meanwhile: dict[str, int] = {}  # while copying: key -> offset of its newest list
        self._writing = asyncio.Lock()
        self._takes_again = asyncio.Event()
        self._server_changes = cache.server_changes
        self._history: deque[tuple[float, dict[int, int]]] = deque()  # when, and the checkpoints: since FAILOVER_S

    def own(self, partitions: Iterable[int]) -> None:
        """Keep these partitions complete from now on, and no others."""
        self._progress.own(partitions)

    async def write(self, lists: Sequence[OutgoingList], written: Sequence[RecordMetadata]) -> None:
        """Write new lists to Redis. No error of Redis is raised.

        Parameters
        ----------
        lists : sequence of OutgoingList
            They are in the topic.
        written : sequence of RecordMetadata
            Where each one is.
        """
        async with self._writing:
            outcomes = await self._write(lists)
            if self.is_copying:
                offsets = {list_.key: record.offset for list_, record in zip(lists, written, strict=True)}
                self._written_meanwhile |= offsets
        for outcome, record in zip(outcomes, written, strict=True):
            self._progress.note_list(record.partition, record.offset, outcome)
        if self._progress.failed and WriteOutcome.RETRY not in outcomes:
            self._takes_again.set()
        self._observe()

    async def read(self, keys: Sequence[str]) -> list[bytes | None] | None:
        """Read lists as Redis has them, see `ListCache.read`."""
        return await self._cache.read(keys)

    async def run(self) -> None:
        """Synchronise for ever, at growing intervals while Redis or Kafka refuses."""
        pause_s = CHECK_EVERY_S
        while True:
            await self._pause(pause_s)
            try:
                await self.synchronise()
                pause_s = CHECK_EVERY_S
            except CacheUnavailable:  # the cache has logged it
                self._progress.checkpoints = {}
                pause_s = min(2 * pause_s, MAX_PAUSE_S)
            except kafka_client.KafkaUnavailable as error:
                outage.kafka.seen(str(error), lasts_s=0)
                pause_s = min(2 * pause_s, MAX_PAUSE_S)
            self._observe()

    async def synchronise(self) -> None:
        """Advance the checkpoint offsets, and copy what Redis lacks.

        1. Find the ends of partitions that are new to this worker.
        2. Read the checkpoint offsets; after a failover put them back first.
        3. Advance the offsets of complete partitions to their ends.
        4. Put back the offsets of other workers' partitions where our writes failed.
        5. Copy the lists of all other partitions of ours.

        Raises
        ------
        CacheUnavailable, KafkaUnavailable
            The next call goes on.
        """
        self._owner = self._owner or await owner_of(self._settings)
        await self._find_ends()
        stored = await self._put_back_after_failover(await self._cache.offsets.read(self._owner))
        complete = await self._advance(stored)
        await self._put_back_others(stored)
        if incomplete := self._progress.owned - complete:
            self.is_copying = True
            try:
                await self._copy({p: stored.get(p) for p in incomplete})
            finally:
                self.is_copying, self._written_meanwhile = False, {}
        self._cache.resolved()
        now_s = time.monotonic()
        self._history.append((now_s, dict(self._progress.checkpoints)))
        while len(self._history) > 1 and self._history[1][0] < now_s - FAILOVER_S:
            self._history.popleft()

    async def _pause(self, seconds: float) -> None:
        """Wait; beyond the usual interval only until Redis takes a list again."""
        self._takes_again.clear()
        await asyncio.sleep(CHECK_EVERY_S)
        with suppress(asyncio.TimeoutError):
            if seconds > CHECK_EVERY_S:
                await asyncio.wait_for(self._takes_again.wait(), seconds - CHECK_EVERY_S)

    def _observe(self) -> None:
        metrics.cache_pending.set(self._progress.pending())

    async def _write(self, lists: Sequence[OutgoingList]) -> list[WriteOutcome]:
        outcomes = await self._cache.write(lists)
        self._progress.note_keys(lists, outcomes)
        return outcomes

    async def _find_ends(self) -> None:
        """Find the ends of partitions that are new to us: pending lists are counted while Redis is away, too."""
        progress = self._progress
        if unknown := progress.owned - progress.ends.keys():
            consumer = kafka_client.consumer(self._settings.kafka)
            partitions = [TopicPartition(self._topic, p) for p in unknown]
            async with kafka_client.started(consumer, self._settings.kafka):
                beginnings = await consumer.beginning_offsets(partitions)
                ends = await consumer.end_offsets(partitions)
            progress.complete_to = {p.partition: offset for p, offset in beginnings.items()} | progress.complete_to
            progress.ends = {p.partition: end for p, end in ends.items()} | progress.ends

    async def _put_back_after_failover(self, stored: dict[int, int]) -> dict[int, int]:
        """After a failover, go back to the offsets of `FAILOVER_S` ago: the new master may lack our latest lists.

        Returns
        -------
        dict
            The checkpoint offsets in Redis now.
        """
        if self._server_changes == self._cache.server_changes:
            return stored
        earlier = self._history[0][1] if self._history else {}
        owned = self._progress.owned
        moves = {p: (stored[p], offset) for p, offset in earlier.items() if p in owned and offset < stored.get(p, 0)}
        moved = await self._cache.offsets.move(moves)
        self._server_changes, self._progress.checkpoints = self._cache.server_changes, {}
        return stored | {p: moves[p][1] for p in moved}

    async def _advance(self, stored: Mapping[int, int]) -> set[int]:
        """Advance the offsets of complete partitions to their ends. Returns the partitions that are complete."""
        progress = self._progress
        checkpoints = progress.checkpoints
        complete = {p for p, offset in checkpoints.items() if stored.get(p) == offset and p not in progress.failed}
        moves = {p: (checkpoints[p], progress.ends[p]) for p in complete if progress.ends.get(p, 0) > checkpoints[p]}
        moved = await self._cache.offsets.move(moves)
        progress.note_checkpoints({p: moves[p][1] for p in moved})
        return complete - (moves.keys() - moved)

    async def _put_back_others(self, stored: Mapping[int, int]) -> None:
        """Let the owners of other partitions copy what we failed to write there.

        We write to another worker's partition if a request was not on the partition that its key hashes to.
        """
        progress = self._progress
        others = {p: offset for p, offset in progress.failed.items() if p not in progress.owned}
        moves = {p: (stored[p], offset) for p, offset in others.items() if stored.get(p, 0) > offset}
        await self._cache.offsets.move(moves)
        for partition in others:
            del progress.failed[partition]

    async def _copy(self, stored: Mapping[int, int | None]) -> None:
        """Copy the lists of some partitions from their checkpoint offsets (None: from the beginning) to their ends."""
        progress = self._progress
        progress.checkpoints = {p: offset for p, offset in progress.checkpoints.items() if p not in stored}
        begin = {p: offset or 0 for p, offset in stored.items()}
        # The offset is written before the lists are copied, so that it is gone if Redis loses its data meanwhile.
        begun = await self._cache.offsets.move({p: (stored[p], begin[p]) for p in begin})
        progress.complete_to |= begin
        for partition in begun:
            progress.failed.pop(partition, None)
        started_s, lists = time.monotonic(), 0
        async with TopicReplay.open(self._settings.kafka, self._topic, {p: begin[p] for p in begun}) as replay:
            progress.complete_to |= replay.positions
            progress.ends |= {p: max(end, progress.ends.get(p, 0)) for p, end in replay.ends.items()}
            async with aclosing(replay.newest()) as newest:
                async for records in newest:
                    lists += await self._put(records)
                    progress.complete_to |= replay.positions
                    self._observe()
        moves = {p: (begin[p], end) for p, end in replay.ends.items()}
        moved = await self._cache.offsets.move({p: move for p, move in moves.items() if p not in progress.failed})
        progress.note_checkpoints({p: moves[p][1] for p in moved})
        if lists:
            logger.info("copied %d lists to Redis in %.1f s", lists, time.monotonic() - started_s)

    async def _put(self, records: Sequence[ConsumerRecord]) -> int:
        """Write the lists of these records, of each key at most one. Returns their number."""
        for begin in range(0, len(records), BATCH_LISTS):
            began_s = time.monotonic()
            decoded = [(record.offset, self._list(record)) for record in records[begin : begin + BATCH_LISTS]]
            # Of two lists of one version, and of a list and its erasure, the later one must stay.
            async with self._writing:
                newest = self._written_meanwhile
                lists = [list_ for offset, list_ in decoded if list_ and offset >= newest.get(list_.key, 0)]
                outcomes = await self._write(lists)
            metrics.cache_backfilled_lists.inc(outcomes.count(WriteOutcome.STORED))
            if WriteOutcome.RETRY in outcomes:
                raise CacheUnavailable("Redis: away again")
            await asyncio.sleep(time.monotonic() - began_s)
        return len(records)

    def _list(self, record: ConsumerRecord) -> OutgoingList | None:
        """The list in a record of the topic; None if no worker wrote it."""
        key, value = record.key, record.value
        try:
            text = key.decode()
            version = None if value is None else _decoder.decode(value)
        except (UnicodeDecodeError, msgspec.DecodeError) as error:
            logger.warning("recommendations: got a record of key %r that is no list (%s); it is skipped", key, error)
            metrics.cache_writes.labels("unreadable").inc()
            return None
        if version is None:
            return OutgoingList(text, None, partition=record.partition)
        expires_s = expiry_s(record, self._ttl_s)
        return OutgoingList(text, value, version.as_of, version.state_version, expires_s, record.partition)


async def owner_of(settings: Settings) -> str:
    """The owner of the checkpoint offsets: the id of Kafka's cluster, and the topic.

    Raises
    ------
    KafkaUnavailable
    """
    async with kafka_client.admin(settings.kafka) as client:
        cluster = await client.describe_cluster()
    return f"{cluster.get('cluster_id')} {settings.topic('recommendations')}"

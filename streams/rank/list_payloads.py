"""The payloads of published lists: from Redis in one round trip, and from the topic where Redis has another version.

The topic has every list, but to read single records there takes a fetch for each. Redis may have an older list or a
newer one, or none. So a payload from there counts only if it has the digest of the record that the index knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

from streams.publish.backfill import Backfill
from streams.publish.list_expiry import first_written_ms
from streams.publish.list_record_reader import ListRecordReader
from streams.rank import withdrawal_metrics
from streams.rank.published_lists import ListPlace, PublishedLists
from streams.settings import Settings


class Payload(NamedTuple):
    """A list's JSON, and when it was first written, by the broker's clock (milliseconds)."""

    value: bytes
    first_written_ms: int


class ListPayloads:
    """Reads the payloads of lists. It connects to Kafka only if Redis lacks one."""

    def __init__(self, settings: Settings, lists: PublishedLists, cache: Backfill, stack: AsyncExitStack) -> None:
        self._settings = settings
        self._lists = lists
        self._cache = cache
        self._stack = stack
        self._reader: ListRecordReader | None = None
        self._reading = asyncio.Lock()
        self._is_redis_there = True

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings, lists: PublishedLists, cache: Backfill) -> AsyncIterator[ListPayloads]:
        """Connect when it is needed.

        Parameters
        ----------
        settings : Settings
            Of the installation.
        lists : PublishedLists
            Has the digests.
        cache : Backfill
            The lists in Redis.
        """
        async with AsyncExitStack() as stack:
            yield cls(settings, lists, cache, stack)

    async def read(self, places: Sequence[ListPlace]) -> dict[ListPlace, Payload]:
        """Read the payloads of records.

        Returns
        -------
        dict
            Place -> payload. A record that compaction has removed is missing.

        Raises
        ------
        streams.kafka.client.KafkaUnavailable
        """
        found = await self._from_redis(places) if places and self._is_redis_there else {}
        if missing := [place for place in places if place not in found]:
            found |= await self._from_topic(missing)
        return found

    async def _from_redis(self, places: Sequence[ListPlace]) -> dict[ListPlace, Payload]:
        stored = await self._cache.read([place.key.decode() for place in places])
        if stored is None:
            self._is_redis_there = False  # one that is away is waited for once
            return {}
        found = {}
        known_of = self._lists.written([place.key for place in places])
        for place, value, known, is_newest in zip(
            places, stored, known_of, self._lists.are_newest(places), strict=True
        ):
            if is_newest and value is not None and hash(value) == known.digest:
                found[place] = Payload(value, known.first_written_ms)
        withdrawal_metrics.payloads.labels("redis").inc(len(found))
        return found

    async def _from_topic(self, places: Collection[ListPlace]) -> dict[ListPlace, Payload]:
        async with self._reading:
            if self._reader is None:
                opened = ListRecordReader.open(self._settings.kafka, self._settings.topic("recommendations"))
                self._reader = await self._stack.enter_async_context(opened)
            records = await self._reader.read([place[:2] for place in places])
        found = {}
        for place in places:
            record = records.get(place[:2])
            if record is not None and record.key == place.key and record.value is not None:
                found[place] = Payload(record.value, first_written_ms(record))
        withdrawal_metrics.payloads.labels("topic").inc(len(found))
        return found

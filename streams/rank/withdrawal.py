"""Withdraw items that are gone from lists that are published.

The list is published again without them: with the same list id and version, and numbered anew. A batch is read and
edited while others go out. While the worker has requests to answer, at most half of its processor time
goes to this work, in short batches.

What is interrupted is repeated: after a restart the lists are read again and compared with the catalogue.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import msgspec

from streams.kafka import client as kafka_client
from streams.kafka.record_time import now_ms
from streams.publish.backfill import Backfill
from streams.rank import withdrawal_metrics
from streams.rank.list_payloads import ListPayloads, Payload
from streams.rank.list_publisher import ListPublisher, Republished
from streams.rank.list_without import without
from streams.rank.published_lists import ListPlace
from streams.rank.stale_lists import StaleLists
from streams.settings import Settings

logger = logging.getLogger(__name__)

BATCH_LISTS = 800
"""Lists that are published again at a time. With 100 a list takes a sixth more processor time; with 400 the cores are
busy for 84 to 89% of the time, with 800 for 89 to 90%. Chosen by us."""
BUSY_BATCH_LISTS = 100
"""While the worker has requests to answer: new lists wait for the batches that are under way. Chosen by us."""
TURN_LISTS = 100
"""Lists that are edited before other work has its turn: some 4 ms."""
LANES = 3
"""Batches under way: one is read and edited, one on its way to Kafka, one to Redis."""
RETRY_AFTER_S = 1.0


class Withdrawal:
    """Publishes stale lists again.

    Parameters
    ----------
    settings : Settings
        Of the installation.
    stale : StaleLists
        The lists to be published again.
    publisher : ListPublisher
        Publishes them.
    cache : Backfill
        The lists in Redis.
    is_busy : callable
        Whether the worker has requests to answer.
    """

    def __init__(
        self,
        settings: Settings,
        stale: StaleLists,
        publisher: ListPublisher,
        cache: Backfill,
        is_busy: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._cache = cache
        self._stale = stale
        self._publisher = publisher
        self._is_busy = is_busy
        self._room, self._worked_s = asyncio.Lock(), 0.0
        withdrawal_metrics.published_lists.set_function(lambda: len(stale.lists))
        withdrawal_metrics.published_lists_bytes.set_function(lambda: stale.lists.nbytes)
        withdrawal_metrics.pending.set_function(lambda: len(stale))

    async def run(self) -> None:
        """Publish stale lists again for ever.

        Raises
        ------
        streams.kafka.client.KafkaRefuses
        """
        while True:
            await self._stale.changed.wait()
            self._stale.changed.clear()
            await self._stale.scan()
            try:
                await self._drain()
            except kafka_client.KafkaUnavailable as error:
                logger.warning("%s; %d lists show items that are gone", error, len(self._stale))
                await asyncio.sleep(RETRY_AFTER_S)
                self._stale.changed.set()

    async def _drain(self) -> None:
        began_s, number, self._worked_s = time.monotonic(), 0, time.thread_time()
        async with ListPayloads.open(self._settings, self._stale.lists, self._cache) as payloads:
            while places := self._stale.ready():
                number += await self._withdraw(places, payloads)
                await self._stale.scan()
        if number:
            logger.info("published %d lists without items that are gone in %.1f s", number, time.monotonic() - began_s)

    async def _withdraw(self, places: Sequence[ListPlace], payloads: ListPayloads) -> int:
        """Publish lists again, some batches at a time. Returns the number of lists."""
        waiting, numbers = iter(places), list[int]()
        lanes = [self._withdraw_batches(waiting, payloads) for _ in range(LANES)]
        for outcome in await asyncio.gather(*lanes, return_exceptions=True):  # each ends by itself
            if isinstance(outcome, BaseException):
                raise outcome
            numbers.append(outcome)
        return sum(numbers)

    async def _withdraw_batches(self, waiting: Iterator[ListPlace], payloads: ListPayloads) -> int:
        number = 0
        while True:
            await self._leave_room()
            most = BUSY_BATCH_LISTS if self._is_busy() else BATCH_LISTS
            if not (batch := list(islice(waiting, most))):
                return number
            number += await self._publish(await self._edit(self._stale.due(batch), payloads))

    async def _leave_room(self) -> None:
        """While the worker has requests to answer, wait for as long as it has worked since the last batch."""
        async with self._room:
            if self._is_busy():
                await asyncio.sleep(time.thread_time() - self._worked_s)
            self._worked_s = time.thread_time()

    async def _edit(self, places: Sequence[ListPlace], payloads: ListPayloads) -> list[Republished]:
        """Read lists, and edit those that show items which are gone."""
        read, edited = await payloads.read(places), []
        for number, place in enumerate(places, 1):
            if number % TURN_LISTS == 0:
                await asyncio.sleep(0)
            republished = self._edited(place, read.get(place))
            if republished is None:
                self._stale.settle(place)
                withdrawal_metrics.lists.labels("superseded").inc()
            else:
                edited.append(republished)
        return edited

    async def _publish(self, edited: Sequence[Republished]) -> int:
        """Publish a batch again. Returns the number of lists."""
        published = await self._publisher.republish(edited)
        emptied = sum(not republished.list_.item_ids for republished in published)
        withdrawal_metrics.lists.labels("emptied").inc(emptied)
        withdrawal_metrics.lists.labels("shortened").inc(len(published) - emptied)
        for republished in published:
            if (stale_s := self._stale.settle(republished.place)) is not None:
                withdrawal_metrics.seconds.observe(stale_s)
        out = {each.place for each in published}
        superseded = [each for each in edited if each.place not in out and not self._stale.is_stale(each.place.key)]
        withdrawal_metrics.lists.labels("superseded").inc(len(superseded))
        return len(published)

    def _edited(self, place: ListPlace, payload: Payload | None) -> Republished | None:
        """The list without items that are gone; None if it shows none, or if the topic has it no more."""
        if payload is None:
            self._stale.lists.discard(place)
            return None
        try:
            list_ = without(payload.value, self._stale.gone, now_ms())
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            logger.warning("recommendations: got a list of key %r that cannot be edited (%s)", place.key, error)
            self._stale.lists.discard(place)
            return None
        return None if list_ is None else Republished(place, list_, payload.first_written_ms)

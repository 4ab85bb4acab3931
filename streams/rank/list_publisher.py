"""Step 6, publish: a ranked batch goes to its topic, to Redis and out of the worker's hands.

The order matters. A list is in the topic before it is in Redis, so that the topic has every list that Redis has. A
request is acknowledged after that, so that a crash at any point repeats it. Knows no model.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping

from streams import metrics
from streams.contracts import COLD_START_USER, RankRequest, Recommendations
from streams.faust_compat.fencing import MembershipLost
from streams.kafka.acks import InOrder
from streams.kafka.message_size import outgoing_list
from streams.kafka.record_time import now_ms
from streams.kafka.reliable_producer import ReliableProducer
from streams.publish.backfill import Backfill
from streams.publish.list_cache import OutgoingList
from streams.rank.batcher import RankedBatch

logger = logging.getLogger(__name__)


class ListPublisher:
    """Publishes batches, one at a time.

    Parameters
    ----------
    topic : str
        Full name of the topic of lists.
    producer : ReliableProducer
        Writes to it.
    cache : Backfill
        Writes to Redis.
    acks : InOrder
        Holds the events of all requests that this worker still has to answer.
    forget : callable
        Called with the ids of users whose lists are erased.
    """

    def __init__(
        self,
        topic: str,
        producer: ReliableProducer,
        cache: Backfill,
        acks: InOrder,
        forget: Callable[[Collection[str]], None],
    ) -> None:
        self._topic = topic
        self._producer = producer
        self._cache = cache
        self._acks = acks
        self._forget = forget
        self.publishing = asyncio.Lock()
        """Held while a batch goes out."""

    async def publish(self, ranked: RankedBatch) -> None:
        """Publish a batch, unless its partitions belong to another worker by now: then discard it."""
        async with self.publishing:
            try:
                await self._publish(self._owned(ranked))
            except MembershipLost as error:
                logger.warning("%s", error)
                metrics.memberships_lost.labels("rank").inc()

    def _owned(self, ranked: RankedBatch) -> RankedBatch:
        """Without requests of revoked partitions: their new owner may have published newer lists."""
        pending = [request for request in ranked.pending if self._acks.holds(request.events[-1])]
        users = {request.user_id for request in pending}
        return RankedBatch(
            pending,
            [list_ for list_ in ranked.lists if list_.user_id in users],
            [rejected for rejected in ranked.rejected if self._acks.holds(rejected.event)],
        )

    async def _publish(self, ranked: RankedBatch) -> None:
        """Publish a batch.

        1. Lists, tombstones of forgotten users and dead letters go to Kafka, which acknowledges all of them.
        2. Lists and erasures go to Redis.
        3. The models forget the forgotten users.
        4. The requests are acknowledged: Kafka does not deliver them again.
        """
        requests = {pending.user_id: pending.request for pending in ranked.pending}
        forgotten = [user_id for user_id, request in requests.items() if request is None]
        outgoing = [
            *(OutgoingList.of(list_) for list_ in ranked.lists),
            *(OutgoingList(user_id, None) for user_id in forgotten),
        ]
        messages = [outgoing_list(self._topic, list_.user_id, list_.payload) for list_ in outgoing]
        dead_letters = [rejected.dead_letter for rejected in ranked.rejected]
        written = await self._producer.deliver([*messages, *dead_letters])
        if outgoing:
            await self._cache.write(outgoing, written[: len(outgoing)])
        if forgotten:
            self._forget(set(forgotten))
        self._acks.done(
            [
                *(event for pending in ranked.pending for event in pending.events),
                *(rejected.event for rejected in ranked.rejected),
            ]
        )
        metrics.lists_forgotten.inc(len(forgotten))
        _observe(ranked.lists, requests)


def _observe(lists: Collection[Recommendations], requests: Mapping[str, RankRequest | None]) -> None:
    """Count the lists, and measure how fresh they are."""
    at_ms = now_ms()
    for list_ in lists:
        metrics.lists.labels(list_.model).inc()
        if list_.user_id == COLD_START_USER:  # no event caused it, and it is meant to be without a model
            continue
        if list_.degraded:
            metrics.lists_degraded.labels(list_.model, list_.degraded).inc()
        metrics.list_age_seconds.labels(list_.model).set((at_ms - list_.as_of) / 1000)
        request = requests[list_.user_id]
        if list_.trigger and request and request.arrived_at:
            for since, begin_ms in (("arrival", request.arrived_at), ("event", list_.as_of)):
                seconds = metrics.event_to_list_seconds.labels(list_.model, since)
                seconds.observe(max(0, at_ms - begin_ms) / 1000)

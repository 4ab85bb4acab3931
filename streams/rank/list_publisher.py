"""Step 6, publish: a ranked batch goes to its topic, to Redis and out of the worker's hands.

The order matters. A list is in the topic before it is in Redis, so that the topic has every list that Redis has. A
request is acknowledged after that, so that a crash at any point repeats it. Knows no model.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from aiokafka.structs import RecordMetadata

from streams import metrics
from streams.contracts import COLD_START_USER
from streams.faust_compat.fencing import MembershipLost
from streams.kafka.acks import InOrder
from streams.kafka.message_size import outgoing_list
from streams.kafka.outgoing import Outgoing
from streams.kafka.own_messages import republished_headers
from streams.kafka.record_time import now_ms
from streams.kafka.reliable_producer import ReliableProducer
from streams.publish.backfill import Backfill
from streams.publish.list_cache import OutgoingList
from streams.publish.list_key import ListKeys
from streams.rank.batcher import RankedBatch
from streams.rank.list_without import EditedList
from streams.rank.published_lists import IndexedList, ListPlace, Written
from streams.rank.rank_again import RankAgain
from streams.rank.stale_lists import StaleLists
from streams.settings import Settings

logger = logging.getLogger(__name__)


class Republished(NamedTuple):
    """A list that is published again without some items.

    Attributes
    ----------
    place : ListPlace
        The record that it replaces.
    list_ : EditedList
        The list.
    first_written_ms : int
        When the list was first written, by the broker's clock (milliseconds). Redis drops it by that.
    """

    place: ListPlace
    list_: EditedList
    first_written_ms: int


class ListPublisher:
    """Publishes batches, one at a time.

    Parameters
    ----------
    settings : Settings
        Of the installation.
    producer : ReliableProducer
        Writes to it.
    cache : Backfill
        Writes to Redis.
    stale : StaleLists
        Learns what is published.
    acks : InOrder
        Holds the events of all requests that this worker still has to answer.
    again : RankAgain
        Learns what the newest list of each user is.
    forget : callable
        Called with the ids of users whose lists are erased.
    """

    def __init__(
        self,
        settings: Settings,
        producer: ReliableProducer,
        cache: Backfill,
        stale: StaleLists,
        acks: InOrder,
        again: RankAgain,
        forget: Callable[[Collection[str]], None],
    ) -> None:
        self._topic = settings.topic("recommendations")
        self._keys = ListKeys(settings)
        self._producer = producer
        self._cache = cache
        self._ttl_s = settings.redis.ttl_s
        self._stale = stale
        self._acks = acks
        self._again = again
        self._forget = forget
        self.publishing = asyncio.Lock()
        """Held while a batch goes out."""

    async def publish(self, ranked: RankedBatch) -> None:
        """Publish a batch, unless its partitions belong to another worker by now: then discard it."""
        async with self.publishing:
            try:
                await self._publish(self._again.without_useless(self._owned(ranked)))
            except MembershipLost as error:
                logger.warning("%s", error)
                metrics.memberships_lost.labels("rank").inc()

    async def republish(self, edited: Sequence[Republished]) -> list[Republished]:
        """Publish lists again, except those that are not the newest of their keys any more.

        Returns
        -------
        list of Republished
            Those that are out.
        """
        async with self.publishing:
            are_current = self._stale.are_current([each.place for each in edited])
            current = [each for each, is_current in zip(edited, are_current, strict=True) if is_current]
            if not current:
                return []
            messages, outgoing = [], []
            for place, list_, first_ms in current:
                headers = republished_headers(first_ms)
                messages.append(Outgoing(self._topic, place.key, list_.payload, place.partition, headers))
                expires_s = first_ms // 1000 + self._ttl_s
                key, version = place.key.decode(), (list_.as_of, list_.state_version)
                outgoing.append(OutgoingList(key, list_.payload, *version, expires_s, place.partition))
            try:
                written = await self._producer.deliver(messages)
            except MembershipLost as error:
                logger.warning("%s", error)
                metrics.memberships_lost.labels("rank").inc()
                self._stale.complete.clear()  # until the next assignment
                return []
            self._stale.note_ahead(
                [
                    ListPlace(record.partition, record.offset, each.place.key)
                    for each, record in zip(current, written, strict=True)
                ],
                [
                    IndexedList(list_.item_ids, list_.degraded, Written.of(list_.payload, first_ms))
                    for _, list_, first_ms in current
                ],
            )
        await self._cache.write(outgoing, written)  # in the order of the topic, as writes to Redis wait for each other
        return current

    def _owned(self, ranked: RankedBatch) -> RankedBatch:
        """Without requests of revoked partitions: their new owner may have published newer lists."""
        pending = [
            one for one in ranked.pending if (self._acks.holds(one.events[-1]) if one.events else self._again.owns(one))
        ]
        owned = {(request.user_id, request.placement) for request in pending}
        return RankedBatch(
            pending,
            [list_ for list_ in ranked.lists if (list_.user_id, list_.placement) in owned],
            [rejected for rejected in ranked.rejected if self._acks.holds(rejected.event)],
        )

    async def _publish(self, ranked: RankedBatch) -> None:
        """Publish a batch.

        1. Lists, tombstones of forgotten users and dead letters go to Kafka, which acknowledges all of them.
        2. Lists and erasures go to Redis.
        3. The models forget the forgotten users.
        4. The requests are acknowledged: Kafka does not deliver them again.
        """
        forgotten = {pending.user_id for pending in ranked.pending if pending.request is None}
        erased = {key: self._erased(user_id, key) for user_id in forgotten for key in self._keys.all_of(user_id)}
        made = {list_.key: list_ for list_ in (OutgoingList.of(list_, self._keys) for list_ in ranked.lists)}
        outgoing = list((erased | made).values())  # who was forgotten may have come back: the queue keeps the order
        messages = [outgoing_list(self._topic, list_.key, list_.payload, list_.partition) for list_ in outgoing]
        dead_letters = [rejected.dead_letter for rejected in ranked.rejected]
        written = await self._producer.deliver([*messages, *dead_letters])
        if outgoing:
            self._note(ranked, outgoing, written)
            await self._cache.write(outgoing, written[: len(outgoing)])
        self._again.note(ranked)
        if forgotten:
            self._forget(forgotten)
        self._acks.done(
            [
                *(event for pending in ranked.pending for event in pending.events),
                *(rejected.event for rejected in ranked.rejected),
            ]
        )
        metrics.lists_forgotten.inc(len(forgotten))
        _observe(ranked)

    def _note(self, ranked: RankedBatch, outgoing: Sequence[OutgoingList], written: Sequence[RecordMetadata]) -> None:
        """Have the lists in the index, where the next withdrawal finds them."""
        shown = {
            self._keys.of(list_.user_id, list_.placement): IndexedList([i.item_id for i in list_.items], list_.degraded)
            for list_ in ranked.lists
        }
        noted = list(zip(outgoing, written, strict=False))  # dead letters follow
        places = [ListPlace(record.partition, record.offset, list_.key.encode()) for list_, record in noted]
        self._stale.note(places, [None if list_.payload is None else shown[list_.key] for list_, _ in noted])

    def _erased(self, user_id: str, key: str) -> OutgoingList:
        return OutgoingList(key, None, partition=self._keys.partition(user_id))


def _observe(ranked: RankedBatch) -> None:
    """Count the lists, and measure how fresh they are."""
    at_ms = now_ms()
    requests = {(pending.user_id, pending.placement): pending.request for pending in ranked.pending if pending.request}
    for list_ in ranked.lists:
        metrics.lists.labels(list_.model).inc()
        if list_.user_id == COLD_START_USER:  # no event caused it, and it is meant to be without a model
            continue
        if list_.degraded:
            metrics.lists_degraded.labels(list_.model, list_.degraded).inc()
        metrics.last_list_timestamp.labels(list_.model).set(at_ms / 1000)
        request = requests[list_.user_id, list_.placement]
        if list_.trigger and request.arrived_at:
            for since, begin_ms in (("arrival", request.arrived_at), ("event", list_.as_of)):
                seconds = metrics.event_to_list_seconds.labels(list_.model, since)
                seconds.observe(max(0, at_ms - begin_ms) / 1000)

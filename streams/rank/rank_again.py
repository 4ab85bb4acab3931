"""Have the model rank lists that went out without it, once no other user waits.

    rank worker -> routed-events -> state worker -> rank-requests -> rank worker

The state tier makes the request of such a list anew. The request of an upstream recommender is kept in memory instead.
Which lists wait is in the topic of lists itself, of which `published_lists` is an index: so they are ranked again
whoever died meanwhile. `degraded_lists` has the order and the limits. Knows no model.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Collection, Iterable
from itertools import chain

import msgspec

from streams.contracts import COLD_START_USER, RankRequest
from streams.faust_compat.fencing import MembershipLost
from streams.kafka.outgoing import Outgoing
from streams.kafka.own_messages import TO_MAKE_ANEW, routed_headers
from streams.kafka.record_time import now_ms
from streams.kafka.reliable_producer import ReliableProducer
from streams.list_keys import parse_list_key
from streams.rank import rank_again_metrics
from streams.rank.batcher import Batcher, RankedBatch
from streams.rank.completion import Completion
from streams.rank.degraded_lists import LATER_REASONS, DegradedList, DegradedLists, FoundList, Slot
from streams.rank.request_queue import PendingRequest, RequestQueue
from streams.rank.stale_lists import StaleLists
from streams.settings import Settings

logger = logging.getLogger(__name__)

ROUND_S = 0.05
PAUSES_S = 1.0, 30.0
"""The first and the longest pause after the model failed again."""
RECORDS_PER_TURN = 256
"""Records that are decoded before other tasks get a turn: some milliseconds."""


class RankAgain:
    """Asks for the requests of lists that wait to be ranked again, and notes what became of each list.

    Parameters
    ----------
    settings : Settings
        Of the installation.
    queue : RequestQueue
        Says whether a user waits; gets kept requests.
    batcher : Batcher
        Is woken for these.
    completion : Completion
        Has kept requests completed that lack features.
    producer : ReliableProducer
        Writes to Kafka.
    published : StaleLists
        Knows which lists of the topic are degraded.
    """

    def __init__(
        self,
        settings: Settings,
        queue: RequestQueue,
        batcher: Batcher,
        completion: Completion,
        producer: ReliableProducer,
        published: StaleLists,
    ) -> None:
        self._settings = settings
        self._routed = settings.topic("routed-events")
        self._queue = queue
        self._batcher = batcher
        self._completion = completion
        self._producer = producer
        self._published = published
        self._lists = DegradedLists()
        self._pause_s = 0.0
        self._paused_until_s = 0.0

    def own(self, partitions: Iterable[int]) -> None:
        """Rank lists of these partitions again from now on, and of no others."""
        self._lists.own(partitions)

    def revoke(self, partitions: Collection[int]) -> None:
        """Drop the lists of partitions that were revoked."""
        self._lists.revoke(partitions)

    def owns(self, pending: PendingRequest) -> bool:
        """Whether a request without a Kafka event is still to be answered here."""
        return _slot(pending) in self._lists

    def without_useless(self, ranked: RankedBatch) -> RankedBatch:
        """Drop lists that were ranked again, where the model failed again or a newer list is out."""
        made = {(list_.user_id, list_.placement): list_ for list_ in ranked.lists}
        again = {_slot(pending) for pending in ranked.pending if pending.again}
        failed = {slot for slot in again & made.keys() if made[slot].degraded in LATER_REASONS}
        useless = {slot for slot in again if slot in failed or slot not in made or slot not in self._lists}
        for slot in useless:
            self._lists.put_back(slot, failed=slot in failed)
        if failed:
            self._pause()
        return ranked._replace(
            lists=[list_ for list_ in ranked.lists if (list_.user_id, list_.placement) not in useless]
        )

    def note(self, ranked: RankedBatch) -> None:
        """Note what the newest list of each user is now: a batch is out."""
        requests = {_slot(pending): pending for pending in ranked.pending}
        for pending in ranked.pending:
            if pending.request is None:
                for placement in (None, *self._settings.ranker.placements):
                    self._lists.discard((pending.user_id, placement))
        for list_ in ranked.lists:
            pending = requests[list_.user_id, list_.placement]
            if list_.degraded in LATER_REASONS and list_.user_id != COLD_START_USER:
                self._wait(pending, has_other_features=list_.degraded == "other-features")
                continue
            self._lists.discard(_slot(pending))
            if pending.again:
                rank_again_metrics.ranked.inc()
                self._pause_s = 0.0

    async def run(self) -> None:
        """Find out which lists wait, and have the model rank them while no other user waits, for ever."""
        while True:
            await self._lists.any.wait()
            await asyncio.sleep(ROUND_S)
            if unread := self._lists.unread() & self._published.complete:
                self._read(unread)
            if not len(self._queue) and time.monotonic() >= self._paused_until_s:
                await self._take()

    def _wait(self, pending: PendingRequest, has_other_features: bool) -> None:
        request = pending.request
        assert request is not None, "who is forgotten has no list"
        if has_other_features:
            request = msgspec.structs.replace(request, features=None)
        kept = None if _can_be_made_anew(request) else msgspec.json.encode(request)
        if not self._lists.add(_slot(pending), DegradedList(pending.events[-1].message.partition, kept)):
            logger.warning(
                "got more requests of an upstream recommender than fit into memory while the model was overloaded; "
                "their lists stay degraded until the next request of their user"
            )

    def _pause(self) -> None:
        first_s, longest_s = PAUSES_S
        self._pause_s = min(2 * self._pause_s or first_s, longest_s)
        self._paused_until_s = time.monotonic() + self._pause_s

    async def _take(self) -> None:
        asked = []
        for (user_id, _), kept in self._lists.take(self._batcher.ahead()):
            if kept is None:
                asked.append(self._question(user_id))
                continue
            request = msgspec.json.decode(kept, type=RankRequest)
            if not self._completion.ask(request):
                self._queue.put_again(request, [])
                self._batcher.wake()
        if asked:
            try:
                await self._producer.deliver(asked)
            except MembershipLost:  # the new owner of the partition asks
                logger.debug("another worker asks for these requests")

    def _question(self, user_id: str) -> Outgoing:
        request = RankRequest(request_id=uuid.uuid4().hex, user_id=user_id, as_of=now_ms(), history=[], candidates=[])
        headers = routed_headers(TO_MAKE_ANEW, 0)
        return Outgoing(self._routed, user_id.encode(), msgspec.json.encode(request), headers=headers)

    def _read(self, partitions: set[int]) -> None:
        """Find the degraded lists of partitions whose lists are all in the index."""
        placements, found = self._settings.ranker.placements, dict[Slot, FoundList]()
        for place in chain.from_iterable(map(self._published.lists.degraded, LATER_REASONS)):
            slot = parse_list_key(place.key.decode(), placements)
            if place.partition in partitions and slot[1] is None and slot[0] != COLD_START_USER:
                found[slot] = FoundList(place.partition, place.offset)
        self._lists.read(partitions, found)


def _slot(pending: PendingRequest) -> Slot:
    return pending.user_id, pending.placement


def _can_be_made_anew(request: RankRequest) -> bool:
    """Whether the state tier made the request. An upstream recommender's has a placement, or no version of a state."""
    return request.placement is None and request.state_version > 0

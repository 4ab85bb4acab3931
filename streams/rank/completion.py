"""Have the state tier complete an upstream recommender's request that lacks the features that the model needs.

    rank-requests -> rank worker -> routed-events -> state worker -> rank-requests -> rank worker

The request waits in the queue meanwhile, and its event is not acknowledged before its list is out. So nothing is lost
whoever dies, and a state tier that does not answer delays a list, but prevents none. Only requests without our header
are handed over, and a completed one has it, so none goes round. Knows neither users nor models.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from streams import metrics
from streams.contracts import RankRequest
from streams.faust_compat.fencing import MembershipLost
from streams.kafka.client import partition_of
from streams.kafka.outgoing import BROKERS_LARGEST, OVERHEAD_BYTES, Outgoing
from streams.kafka.own_messages import TO_COMPLETE, routed_headers
from streams.kafka.reliable_producer import ReliableProducer
from streams.rank.tier import RankTier
from streams.settings import Settings

WAIT_S = 2.0
"""How long a request waits for the state tier; chosen by us: many times what a state worker at work takes."""
PAUSE_S = 30.0
"""If nobody answered during a whole wait, requests are ranked as they are for this time: no state worker runs."""
MARGIN_S = 0.01
"""By which the queue is looked at later than the end of a wait, so that the wait is certainly over."""


class Completion:
    """Hands requests over.

    Parameters
    ----------
    settings : Settings
        Of the installation.
    tier : RankTier
        Says whether a user's model needs features.
    producer : ReliableProducer
        Writes to Kafka.
    done : coroutine function
        Is told which events are done.
    wake : callable
        Is called when a wait is over.
    """

    def __init__(
        self,
        settings: Settings,
        tier: RankTier,
        producer: ReliableProducer,
        done: Callable[[Sequence[Any]], Awaitable[None]],
        wake: Callable[[], None],
    ) -> None:
        self._routed = settings.topic("routed-events")
        self._requests = settings.topic("rank-requests")
        self._partitions = settings.kafka.partitions
        self._wait_s = min(WAIT_S, settings.ranker.max_wait_ms / 2000)
        self._tier = tier
        self._producer = producer
        self._done = done
        self._wake = wake
        self._asked: dict[tuple[str, str | None], str] = {}  # user and placement -> request id
        self._answered_s = self._paused_until_s = 0.0
        self._outgoing: list[tuple[Outgoing, Any]] = []  # with the event that is done once the message is out
        self._ready = asyncio.Event()

    def answered(self, request: RankRequest) -> None:
        """Note that the state tier sent this request: the wait for it is over."""
        if self._asked.pop((request.user_id, request.placement), None) is not None:
            self._answered_s = time.monotonic()

    def forward(self, request: RankRequest, event: Any) -> bool:
        """Send a request to the partition of its user, if it is elsewhere and has to be completed: there it can wait.

        Returns
        -------
        bool
            Whether it was sent. Then the caller has nothing more to do for the event.
        """
        home = partition_of(request.user_id.encode(), self._partitions)
        if event.message.partition == home or not self._needs(request):
            return False
        self._send(Outgoing(self._requests, request.user_id.encode(), msgspec.json.encode(request), home), event)
        return True

    def ask(self, request: RankRequest) -> float:
        """Hand a request over, if it has to be completed.

        Returns
        -------
        float
            The monotonic time until which the request should wait in the queue; 0 if it need not wait.
        """
        if not self._needs(request):
            return 0.0
        value, key = msgspec.json.encode(request), request.user_id.encode()
        if len(value) + len(key) > BROKERS_LARGEST - OVERHEAD_BYTES:
            return 0.0
        self._send(Outgoing(self._routed, key, value, headers=routed_headers(TO_COMPLETE, 0)), None)
        metrics.events.labels("rank-requests", "routed").inc()
        slot = (request.user_id, request.placement)
        self._asked[slot] = request.request_id
        until_s = time.monotonic() + self._wait_s
        asyncio.get_running_loop().call_later(self._wait_s + MARGIN_S, self._expire, slot, request.request_id)
        return until_s

    def clear(self) -> None:
        """Wait for nothing any more: partitions were revoked."""
        self._asked = {}

    async def run(self) -> None:
        """Send for ever what is to be sent."""
        while True:
            await self._ready.wait()
            self._ready.clear()
            outgoing, self._outgoing = self._outgoing, []
            with suppress(MembershipLost):  # the new owner of the partition gets the requests again
                await self._producer.deliver([message for message, _ in outgoing])
                await self._done([event for _, event in outgoing if event is not None])

    def _needs(self, request: RankRequest) -> bool:
        if request.features is not None or time.monotonic() < self._paused_until_s:
            return False
        if request.domain:
            return not request.candidates
        scorer = self._tier.scorers[self._tier.variant(request.user_id)]
        return scorer is not None and scorer.feature_set is not None

    def _send(self, message: Outgoing, event: Any) -> None:
        self._outgoing.append((message, event))
        self._ready.set()

    def _expire(self, slot: tuple[str, str | None], request_id: str) -> None:
        if self._asked.get(slot) == request_id:
            del self._asked[slot]
            if self._answered_s < time.monotonic() - self._wait_s:
                self._paused_until_s = time.monotonic() + PAUSE_S
        self._wake()

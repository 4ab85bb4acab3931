"""Have the cold-start list made: the list of users who have none. The worker that holds its partition does so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from streams.contracts import COLD_START_USER
from streams.faust_compat.fencing import MembershipLost
from streams.kafka.client import partition_of
from streams.kafka.message_size import outgoing_request
from streams.kafka.reliable_producer import ReliableProducer
from streams.settings import Settings
from streams.state.changelog import Store
from streams.state.tier import StateTier

EVERY_S = 5.0
"""Chosen by us: so often recall runs for some milliseconds, and at most one list is made."""


class ColdStart:
    """Sends a rank request for the cold-start list, and for that of each domain, whenever its candidates have changed.

    Parameters
    ----------
    settings : Settings
        Of the worker.
    tier : StateTier
        Recalls the candidates.
    store : Store
        Says which partitions this worker holds.
    producer : ReliableProducer
        Sends messages until Kafka has acknowledged them.
    newest_ms : callable
        Gives the time of the newest record that the worker has read (milliseconds). The list is as of that time,
        because the worker's own clock may be wrong by days.
    """

    def __init__(
        self,
        settings: Settings,
        tier: StateTier,
        store: Store,
        producer: ReliableProducer,
        newest_ms: Callable[[], int],
    ) -> None:
        self._partition = partition_of(COLD_START_USER.encode(), settings.kafka.partitions)
        self._topic = settings.topic("rank-requests")
        self._tier = tier
        self._store = store
        self._producer = producer
        self._newest_ms = newest_ms
        self._domains = ("", *settings.candidates.domains)

    async def run(self) -> None:
        """Send requests until cancelled."""
        requested: dict[str, list[str]] = {}  # by domain
        while True:
            await asyncio.sleep(EVERY_S)
            if self._partition not in self._store.partitions():
                requested = {}
                continue
            for domain in self._domains:
                request = self._tier.cold_start_request(self._newest_ms(), domain)
                candidates = [candidate.item_id for candidate in request.candidates]
                if candidates != requested.get(domain, []):
                    with suppress(MembershipLost):  # the worker that holds the partition now sends the request
                        await self._producer.deliver([outgoing_request(self._topic, request)])
                        requested[domain] = candidates

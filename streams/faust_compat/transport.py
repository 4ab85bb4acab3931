"""Faust's Kafka transport with the mended consumer, and with a producer that the membership fence guards."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from aiokafka.errors import KafkaError
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.structs import RecordMetadata
from faust.transport.drivers import aiokafka
from faust.types import TP, AppT

from streams.faust_compat.consumer import Consumer
from streams.faust_compat.fencing import MembershipFence

logger = logging.getLogger(__name__)


class FencedProducer(aiokafka.Producer):
    """Missing in aiokafka: a hook before each write. A write waits until the fence is surely held; see `fencing`."""

    async def on_start(self) -> None:
        await super().on_start()
        client = self._ensure_producer().client
        send, fence = client.send, cast(Any, self.transport).fence

        async def send_while_held(node_id: int, request: Any, **options: Any) -> Any:
            if isinstance(request, ProduceRequest):
                await fence.held()
            return await send(node_id, request, **options)

        client.send = send_while_held

    async def send_together(
        self, topic: str, partition: int, records: Iterable[Mapping[str, Any]]
    ) -> list[tuple[int, Awaitable[RecordMetadata]]]:
        """Send records of one partition in as few batches as their sizes allow, in their order.

        Missing in Faust, which sends each record by itself: a third of the processor time is that.

        Parameters
        ----------
        topic : str
            The full name.
        partition : int
            Of the topic.
        records : iterable of mapping
            `key`, `value`, `headers`, and `timestamp`: milliseconds since the epoch, or None for now.

        Returns
        -------
        list of (int, awaitable)
            For each batch the number of its records, and where the first of them will be.
        """
        producer, sent = self._ensure_producer(), []
        batch = producer.create_batch()
        for record in records:
            if batch.append(**record) is None:  # it is full; an empty batch takes a record of any size
                sent.append((batch.record_count(), await producer.send_batch(batch, topic, partition=partition)))
                batch = producer.create_batch()
                batch.append(**record)
        batch.close()
        sent.append((batch.record_count(), await producer.send_batch(batch, topic, partition=partition)))
        return sent


class Transport(aiokafka.Transport):
    """Faust's transport with these two.

    Parameters
    ----------
    fetch_wait_ms : int
        How long a broker may hold a fetch that has no messages to return, in milliseconds.

    Attributes
    ----------
    on_resume : callable or None
        Called after each rebalance, before messages flow: partition with unread messages -> its end offset.
    restore : callable
        Takes a partition of a table's changelog and records of it, in order.
    on_refusal : callable
        Called when Kafka refuses a right while the worker runs.
    fence : MembershipFence
        The app's membership of its consumer group.
    """

    Consumer = Consumer
    Producer = FencedProducer

    def __init__(self, app: AppT, fetch_wait_ms: int) -> None:
        super().__init__(app.conf.broker_consumer, app)
        self.fetch_wait_ms = fetch_wait_ms
        self.on_resume: Callable[[Mapping[TP, int]], None] | None = None
        self.restore: Callable[[TP, Sequence[Any]], None] = lambda *_: None
        self.on_refusal: Callable[[KafkaError], None] = lambda error: logger.error("%s", error)
        self.fence = MembershipFence(app.conf.broker_session_timeout)

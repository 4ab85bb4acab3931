"""Faust's Kafka transport with our `consumer`, and with a producer that writes only while it may (see `fence`).

Called by `worker`; knows nothing of what is consumed.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, cast

from aiokafka.errors import KafkaError
from aiokafka.protocol.produce import ProduceRequest
from faust.transport.drivers import aiokafka
from faust.types import TP, AppT, EventT

from streams.faust_compat.consumer import Consumer
from streams.faust_compat.fencing import MembershipFence

logger = logging.getLogger(__name__)


class Producer(aiokafka.Producer):
    """A producer that writes only while the fence is held."""

    async def on_start(self) -> None:
        await super().on_start()
        client = self._ensure_producer().client
        send, fence = client.send, cast(Any, self.transport).fence

        async def send_while_held(node_id: int, request: Any, **options: Any) -> Any:
            if isinstance(request, ProduceRequest):
                await fence.held()
            return await send(node_id, request, **options)

        client.send = send_while_held


async def arrived(stream: Any) -> AsyncIterator[list[EventT[Any]]]:
    """All that has arrived for an agent, whenever something has; the agent acknowledges.

    Faust's own iteration lets every other task have a turn before each event, so that an agent gets but one event while
    another task works; like it, this leaves out what was fetched before the last rebalance.
    """
    app, queue = stream.app, stream.channel.queue
    while True:
        try:
            events = [await queue.get()]
        except StopAsyncIteration:  # how Faust ends a stream
            return
        while not queue.empty():
            events.append(queue.get_nowait())
        if app.flow_control.is_active():
            yield [event for event in events if event.message.generation_id == app.consumer_generation_id]


class Transport(aiokafka.Transport):
    """The transport with these.

    Parameters
    ----------
    on_resume : if given, called after each rebalance, before messages flow: the partitions that have messages to catch
        up with, and the offset up to which.
    restore : takes records of a table's changelog partition, in order.

    Attributes
    ----------
    fetch_wait_ms : how long a broker may hold a fetch that finds nothing.
    on_refusal : called when Kafka refuses a right while we work.
    """

    Consumer = Consumer
    Producer = Producer

    def __init__(
        self,
        app: AppT,
        fetch_wait_ms: int,
        on_resume: Callable[[Mapping[TP, int]], None] | None = None,
        restore: Callable[[TP, Sequence[Any]], None] = lambda *_: None,
    ) -> None:
        super().__init__(app.conf.broker_consumer, app)
        self.fetch_wait_ms = fetch_wait_ms
        self.on_resume = on_resume
        self.restore = restore
        self.on_refusal: Callable[[KafkaError], None] = lambda error: logger.error("%s", error)
        self.fence = MembershipFence(app.conf.broker_session_timeout)

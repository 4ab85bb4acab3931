"""The thread in which a tier's consumer talks to Kafka: how it fetches and commits, and what it tells of that.

Faust's own commits end the worker over any error. Called by `consumer`; knows no message.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, SyncGroupRequest
from faust.transport.drivers import aiokafka
from faust.types import TP

from streams.faust_compat.constants import ISOLATION, NO_RIGHT
from streams.faust_compat.fencing import MembershipFence

logger = logging.getLogger(__name__)

NO_ERROR, REBALANCING = 0, 27


class Reached(NamedTuple):
    """How far a partition is read. All are offsets.

    Attributes
    ----------
    position : where the next fetch begins; it passes what no reader gets, such as the marker of a transaction.
    end : behind the partition's last message.
    stable : behind the last message that is readable now; before `end` while a producer's transaction is open.
    """

    position: int
    end: int
    stable: int


class ConsumerThread(aiokafka.AIOKafkaConsumerThread):
    """The thread that reads, with the longest wait of a fetch set by us (Faust fixes it at 1.5 s); keeps the fence."""

    async def on_start(self) -> None:
        await super().on_start()
        coordinator, app = self._ensure_consumer()._coordinator, cast(Any, self.consumer).app
        _keep(cast(Any, self.transport).fence, coordinator, lambda: app.should_stop)

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = transport.fetch_wait_ms
        consumer._isolation_level = ISOLATION
        return consumer

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Commit; False if that failed, and it is tried again with the next one. Faust ends the worker over it."""
        ours = self.assignment()
        try:
            await self._ensure_consumer().commit(
                {TopicPartition(*tp): offset for tp, offset in offsets.items() if tp in ours}
            )
        except NO_RIGHT as error:
            cast(Any, self.transport).on_refusal(error)
            return False
        except (CommitFailedError, IllegalStateError) as error:  # the partitions are another worker's
            logger.info("offsets are not committed: %s", error)
            return False
        except KafkaError as error:
            logger.warning("Kafka did not take the offsets (%r); again in a second", error)
            return False
        return True

    def ask_for_group_error(self, tell: Callable[[KafkaError], None]) -> None:
        """Have our caller's loop told of an error that the group's coordinator answered; aiokafka waits for that."""
        loop = asyncio.get_running_loop()

        def ask() -> None:
            try:
                self._ensure_consumer()._coordinator.check_errors()
            except KafkaError as error:
                loop.call_soon_threadsafe(tell, error)

        self.thread_loop.call_soon_threadsafe(ask)

    def reached(self, tp: TP) -> Reached | None:
        """How far aiokafka has got; None until the partition's leader has answered, and while it is lost."""
        subscription = self._ensure_consumer()._subscription.subscription
        assignment = subscription and subscription.assignment
        state = assignment and assignment.state_value(tp)
        if state is None or not state.has_valid_position or state.highwater is None:
            return None
        return Reached(state.position, state.highwater, state.highwater if state.lso is None else state.lso)

    def partition_count(self, topic: str) -> int:
        return len(self._ensure_consumer()._client.cluster.partitions_for_topic(topic) or ())

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Leave it to `health`: Faust sees nothing of what an agent takes by `arrived`, and would say it hangs."""


def _keep(fence: MembershipFence, coordinator: Any, is_ending: Callable[[], bool]) -> None:
    """Tell the fence what the group's coordinator says of us.

    A worker that is ending holds what it has until the next rebalance: Faust hands nothing over then, and restores
    nothing.
    """
    send, reset = coordinator._send_req, coordinator.reset_generation

    async def send_and_note(request: Any) -> Any:
        asked_s = time.monotonic()
        if isinstance(request, LeaveGroupRequest) or (isinstance(request, JoinGroupRequest) and is_ending()):
            fence.lose()
        answer = await send(request)
        heartbeat, assigned = isinstance(request, HeartbeatRequest), isinstance(request, SyncGroupRequest)
        if heartbeat and answer.error_code in (NO_ERROR, REBALANCING):
            fence.confirm(asked_s)
        elif assigned and answer.error_code == NO_ERROR:
            fence.lose() if is_ending() else fence.confirm(asked_s)
        return answer

    def lose_and_reset() -> None:
        fence.lose()
        reset()

    coordinator._send_req, coordinator.reset_generation = send_and_note, lose_and_reset

"""The thread in which Faust's consumer talks to Kafka, with its faults mended and with what it knows made readable."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from faust.transport.drivers import aiokafka
from faust.types import TP

from streams.faust_compat.constants import ISOLATION, NO_RIGHT, WAIT_WITHOUT_FLOW_MS
from streams.faust_compat.fencing import watch_membership
from streams.faust_compat.progress import Progress

logger = logging.getLogger(__name__)

ANSWER_S = 5.0
"""How long Kafka may take to say where partitions begin and end; chosen by us."""


class SetsFetchOptions(aiokafka.AIOKafkaConsumerThread):
    """Fault: Faust fixes a fetch's longest wait at 1.5 s, and reads uncommitted messages."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = WAIT_WITHOUT_FLOW_MS  # until `set_fetch_wait`
        consumer._isolation_level = ISOLATION
        return consumer

    def set_fetch_wait(self, wait_ms: int) -> None:
        """Have brokers hold a fetch without messages for so long, from the next fetch on. Any thread may call this."""
        self._ensure_consumer()._fetcher._fetch_max_wait_ms = wait_ms


class SurvivesFailedCommits(aiokafka.AIOKafkaConsumerThread):
    """Fault: any error of a commit ends the worker, such as that of a revoked partition (faust-streaming issue 94)."""

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Commit; return False if that failed. Offsets that are still ours are in the next commit."""
        owned = self.assignment()
        try:
            await self._ensure_consumer().commit(
                {TopicPartition(*tp): offset for tp, offset in offsets.items() if tp in owned}
            )
        except NO_RIGHT as error:
            cast(Any, self.transport).on_refusal(error)
            return False
        except (CommitFailedError, IllegalStateError) as error:  # another worker has the partitions
            logger.debug("offsets are not committed: %s", error)  # the rebalance has log lines of its own
            return False
        except KafkaError as error:
            logger.warning("Kafka did not take the offsets (%r); the next commit is in a second", error)
            return False
        return True


class IgnoresSilentStreams(aiokafka.AIOKafkaConsumerThread):
    """Fault: Faust warns that a stream hangs where it cannot see the stream's progress, as with `arrivals`.

    `streams.worker.health` judges whether messages get done.
    """

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Do nothing."""


class AnswersInTime(aiokafka.AIOKafkaConsumerThread):
    """Fault: a question about a partition without a leader keeps one of the thread's two workers for 90 s.

    aiokafka asks again until `broker_request_timeout`. After a topic was deleted two such questions were seen to hold
    up every seek and fetch. Here partitions without a leader are left out, and a question ends in time.
    """

    async def log_ranges(self, partitions: Sequence[TP]) -> Mapping[TP, tuple[int, int]]:
        """Return the first offset and the one after the last, for the partitions that have a leader.

        Raises
        ------
        asyncio.TimeoutError, aiokafka.errors.KafkaError
        """
        ranges: Mapping[TP, tuple[int, int]] = await self.call_thread(self._log_ranges, partitions)
        return ranges

    async def _log_ranges(self, partitions: Sequence[TP]) -> Mapping[TP, tuple[int, int]]:
        consumer = self._ensure_consumer()
        all_ = [TopicPartition(*tp) for tp in partitions]
        led = [tp for tp in all_ if consumer._client.cluster.leader_for_partition(tp) not in (None, -1)]
        questions = consumer.beginning_offsets(led), consumer.end_offsets(led)
        begins, ends = await asyncio.wait_for(asyncio.gather(*questions), ANSWER_S)
        return {TP(*tp): (begins[tp], ends[tp]) for tp in led}


class ConsumerThread(SetsFetchOptions, SurvivesFailedCommits, IgnoresSilentStreams, AnswersInTime):
    """Faust's consumer thread, mended. It keeps the transport's fence, and tells what aiokafka knows of partitions."""

    async def on_start(self) -> None:
        await super().on_start()
        app = cast(Any, self.consumer).app
        coordinator = self._ensure_consumer()._coordinator
        watch_membership(cast(Any, self.transport).fence, coordinator, lambda: app.should_stop)

    def ask_for_group_error(self, report: Callable[[KafkaError], None]) -> None:
        """Call `report` in the caller's loop if the group's coordinator has answered with an error."""
        loop = asyncio.get_running_loop()

        def ask() -> None:
            try:
                self._ensure_consumer()._coordinator.check_errors()
            except KafkaError as error:
                loop.call_soon_threadsafe(report, error)

        self.thread_loop.call_soon_threadsafe(ask)

    def read_progress(self, tp: TP) -> Progress | None:
        """Return how far aiokafka has read; None until the partition's leader has answered, and while it is lost."""
        subscription = self._ensure_consumer()._subscription.subscription
        assignment = subscription and subscription.assignment
        state = assignment and assignment.state_value(tp)
        if state is None or not state.has_valid_position or state.highwater is None:
            return None
        return Progress(state.position, state.highwater, state.highwater if state.lso is None else state.lso)

    def partition_count(self, topic: str) -> int:
        """Return how many partitions a topic has by Kafka's latest metadata; 0 for a missing topic."""
        return len(self._ensure_consumer()._client.cluster.partitions_for_topic(topic) or ())

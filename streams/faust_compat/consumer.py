"""Faust's consumer with all its faults mended. It loses no message while tables are restored and topics change."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, cast

from aiokafka.errors import KafkaError

from streams.faust_compat.committing import CommitsAcknowledged, RetriesCommits
from streams.faust_compat.constants import NO_RIGHT
from streams.faust_compat.consumer_thread import ConsumerThread
from streams.faust_compat.delivering import DeliversEagerly
from streams.faust_compat.fetching import CopiesActivePartitions, FetchesBeforeSeeks, IdlesBriefly, ReportsRefusals
from streams.faust_compat.progress import ReadsRecreatedTopics
from streams.faust_compat.restoring import RestoresBatches
from streams.faust_compat.seeking import AsksBetweenFetches, ResumesWithFlow, SeeksEveryPartition

logger = logging.getLogger(__name__)


class ReportsGroupErrors(ReportsRefusals):
    """Fault: Faust never asks aiokafka for the errors of the group's coordinator, so a refused worker just waits."""

    _group_error = ""

    def ask_for_group_error(self) -> None:
        """Have the error that the group's coordinator answered, if there is one, reported or logged."""
        cast(ConsumerThread, self._thread).ask_for_group_error(self._on_group_error)

    def _on_group_error(self, error: KafkaError) -> None:
        if isinstance(error, NO_RIGHT):
            self._report_refusal(error)
        elif repr(error) != self._group_error:  # aiokafka repeats it
            logger.warning("the consumer group's coordinator: %r", error)
        self._group_error = repr(error)


class Consumer(  # a fetch or a seek goes through these classes from the first to the last
    DeliversEagerly,
    RestoresBatches,
    ReadsRecreatedTopics,
    FetchesBeforeSeeks,
    ReportsGroupErrors,
    CopiesActivePartitions,
    AsksBetweenFetches,
    SeeksEveryPartition,
    ResumesWithFlow,
    IdlesBriefly,
    RetriesCommits,
    CommitsAcknowledged,
):
    """Faust's consumer, mended. Every source partition starts at its committed offset, or else at its beginning."""

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def partition_counts(self, topics: Iterable[str]) -> dict[str, int]:
        """Return how many partitions each topic has by Kafka's latest metadata; 0 for a missing topic."""
        return {topic: cast(Any, self._thread).partition_count(topic) for topic in topics}

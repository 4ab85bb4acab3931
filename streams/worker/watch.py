"""Report every second to `health` and to Prometheus what a tier has done and has to do.

A partition is done when the consumer's position is at its end and no message is unacknowledged. The position passes
records that no reader gets, such as a transaction's marker, and starts where the log starts, whatever was committed
earlier.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from faust.types import TP

from streams import metrics
from streams.faust_compat.app import App
from streams.faust_compat.progress import Progress
from streams.kafka import client as kafka_client
from streams.kafka import outage
from streams.kafka.reliable_producer import ReliableProducer
from streams.kafka.team_topics import sources
from streams.kafka.topics import topic_specs
from streams.settings import Settings
from streams.worker.app import TierName
from streams.worker.health import Health, Workload

logger = logging.getLogger(__name__)

EVERY_S = 1.0
SILENT_BEATS = 2.5
"""Heartbeats without an answer after which the worker checks whether Kafka answers at all; chosen by us."""


class Watch:
    """Watches one tier's app."""

    def __init__(
        self, app: App, tier: TierName, settings: Settings, health: Health, producer: ReliableProducer
    ) -> None:
        self._app = app
        self._tier = tier
        self._kafka = settings.kafka
        self._producer = producer
        self._sources = sources(settings, tier)
        self._internal = {spec.name for spec in topic_specs(settings) if not spec.is_input}
        self._health = health
        self._shown: set[TP] = set()
        self._counts: dict[str, int] = {}

    async def run(self) -> None:
        """Run for ever."""
        while True:
            await asyncio.sleep(EVERY_S)
            consumer: Any = self._app.consumer
            consumer.ask_for_group_error()
            progress: Mapping[TP, Progress | None] = consumer.progress()
            known = {tp: p for tp, p in progress.items() if p is not None}
            self._show(known)
            counts = consumer.partition_counts(self._sources)
            away, mute_s = await self._contact()
            if away:
                outage.kafka.seen(away)
            else:
                outage.kafka.back()
            work = Workload(
                done={tp: p.done for tp, p in known.items()},
                lag=sum(_lag(p) for p in known.values()),
                held=sum(_held(p) for p in known.values()),
                silent=len(progress) - len(known),
                away=away or self._producer.stuck,
                mute_s=mute_s,
                missing=tuple(topic for topic, count in counts.items() if not count),
            )
            self._health.note(self._tier, work)
            self._look_at_counts(counts)

    def _show(self, progress: Mapping[TP, Progress]) -> None:
        for tp, reached in progress.items():
            metrics.consumer_lag.labels(tp.topic, str(tp.partition)).set(_lag(reached))
            metrics.transaction_lag.labels(tp.topic, str(tp.partition)).set(_held(reached))
        for tp in self._shown - progress.keys():  # another worker has it now, and shows it
            metrics.consumer_lag.remove(tp.topic, str(tp.partition))
            metrics.transaction_lag.remove(tp.topic, str(tp.partition))
        self._shown = set(progress)

    async def _contact(self) -> tuple[str, float]:
        """Return why Kafka is away, and for how long it has answered others but not this consumer; see `Workload`."""
        silent_s = self._app.kafka.fence.silent_s()
        if silent_s < SILENT_BEATS * self._kafka.heartbeat_s:
            return "", 0.0
        away = await kafka_client.why_away(self._kafka, self._app.conf.id)
        return away, silent_s if not away and self._kafka.session_timeout_s < silent_s < float("inf") else 0.0

    def _look_at_counts(self, counts: Mapping[str, int]) -> None:
        """Log once when partitions were added to an internal topic: they are read, but the next start will stop."""
        for topic, count in counts.items():
            if (
                topic in self._internal
                and count not in (0, self._kafka.partitions)
                and self._counts.get(topic) != count
            ):
                logger.error(
                    "topic %s: got %d partitions, expected %d like every other that is no input; the next start of a "
                    "worker will stop for this: set kafka.partitions to what these topics have, or create it again",
                    topic,
                    count,
                    self._kafka.partitions,
                )
        self._counts = dict(counts)


def _lag(progress: Progress) -> int:
    return max(0, progress.end - progress.done)


def _held(progress: Progress) -> int:
    return max(0, progress.end - max(progress.stable, progress.done))

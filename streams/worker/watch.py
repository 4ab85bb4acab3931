"""Every second: what a tier has done and has to do, told to `health` and to Prometheus.

A partition is done when the consumer's position is at its end and nothing is unacknowledged: the position passes what
no reader gets, such as a transaction's marker, and begins where the log begins, whatever was committed once. Called by
`worker`, one for each tier.
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
from streams.kafka.topics import SOURCES, topic_specs
from streams.settings import Settings
from streams.worker.health import Health, Work

logger = logging.getLogger(__name__)

EVERY_S = 1.0
SILENT_BEATS = 2.5
"""Heartbeats without an answer after which Kafka is asked whether it is there; chosen by us."""


class Watch:
    """One tier's app, watched."""

    def __init__(self, app: App, tier: str, settings: Settings, health: Health, producer: ReliableProducer) -> None:
        self._app = app
        self._tier = tier
        self._kafka = settings.kafka
        self._producer = producer
        self._sources = [settings.topic(name) for name in SOURCES[tier]]
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
            told = {tp: how_far for tp, how_far in progress.items() if how_far is not None}
            self._show(told)
            counts = consumer.partition_counts(self._sources)
            away, mute_s = await self._contact()
            if away:
                outage.kafka.seen(away)
            else:
                outage.kafka.back()
            work = Work(
                done={tp: p.done for tp, p in told.items()},
                lag=sum(_lag(p) for p in told.values()),
                held=sum(_held(p) for p in told.values()),
                silent=len(progress) - len(told),
                away=away or self._producer.stuck,
                mute_s=mute_s,
                missing=tuple(topic for topic, count in counts.items() if not count),
            )
            self._health.note(self._tier, work)
            self._look_at_counts(counts)

    def _show(self, told: Mapping[TP, Progress]) -> None:
        for tp, how_far in told.items():
            metrics.consumer_lag.labels(tp.topic, str(tp.partition)).set(_lag(how_far))
            metrics.held_by_transactions.labels(tp.topic, str(tp.partition)).set(_held(how_far))
        for tp in self._shown - told.keys():  # another worker's now, which shows it
            metrics.consumer_lag.remove(tp.topic, str(tp.partition))
            metrics.held_by_transactions.remove(tp.topic, str(tp.partition))
        self._shown = set(told)

    async def _contact(self) -> tuple[str, float]:
        """Why Kafka is away, and for how long only we have had no answer of it; see `Work`."""
        silent_s = self._app.kafka.fence.silent_s()
        if silent_s < SILENT_BEATS * self._kafka.heartbeat_s:
            return "", 0.0
        away = await kafka_client.why_away(self._kafka, self._app.conf.id)
        return away, silent_s if not away and self._kafka.session_timeout_s < silent_s < float("inf") else 0.0

    def _look_at_counts(self, counts: Mapping[str, int]) -> None:
        """Say it once when a topic of ours has been given partitions: we read them, but the next start will refuse."""
        for topic, count in counts.items():
            if (
                topic in self._internal
                and count not in (0, self._kafka.partitions)
                and self._counts.get(topic) != count
            ):
                logger.error(
                    "topic %s: got %d partitions, expected %d like every other that is no input; the next start of a "
                    "worker will stop for it: set kafka.partitions to what these topics have, or make it again",
                    topic,
                    count,
                    self._kafka.partitions,
                )
        self._counts = dict(counts)


def _lag(how_far: Progress) -> int:
    return max(0, how_far.end - how_far.done)


def _held(how_far: Progress) -> int:
    return max(0, how_far.end - max(how_far.stable, how_far.done))

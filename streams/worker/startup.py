"""Check what a worker needs before it takes messages: Kafka, its topics, our rights, and a Redis that accepts us.

An error that lasts stops the start with one line. The worker waits for a service that is only away, because a restart
would not help.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Coroutine, Mapping, Sequence
from typing import TypeVar

from streams import metrics
from streams.kafka import client as kafka_client
from streams.kafka import outage, rights, team_topics
from streams.kafka.registry_client import RegistryClient, RegistryUnavailable
from streams.kafka.topic_mending import mend
from streams.kafka.topics import ensure_topics, topic_specs
from streams.publish.backfill import owner_of
from streams.publish.list_cache import ListCache
from streams.publish.redis_refusal import CacheUnavailable
from streams.settings import Settings
from streams.worker.health import Health

logger = logging.getLogger(__name__)

ASK_AGAIN_S = 10.0
LOOK_EVERY_S = 1.0
Done = TypeVar("Done")


def prepare(settings: Settings, roles: Sequence[rights.Role], health: Health) -> Mapping[str, int] | None:
    """Check and create all of it; return the largest message that each topic takes, None if a signal ended the start.

    Raises
    ------
    SettingsError, TopicError, KafkaRefuses, RegistryUnavailable
        One line each.
    """
    mapped = list(team_topics.inputs_by_topic(settings)) if "state" in roles else []
    metrics.topics_from_zero([spec.name for spec in topic_specs(settings)], mapped)
    return _unless_ended(_prepare(settings, roles, health))


def wait_for_kafka(settings: Settings, health: Health) -> bool:
    """Wait until a server of Kafka answers; return False if a signal ended the start."""
    return _unless_ended(_answered(settings, health)) is not None


async def _prepare(settings: Settings, roles: Sequence[rights.Role], health: Health) -> Mapping[str, int]:
    while True:
        try:
            await rights.check(settings, roles)  # a topic that we may not see looks like a missing one
            if "state" in roles:
                await team_topics.check(settings)
            await mend(settings, topic_specs(settings))
            largest = await ensure_topics(settings, topic_specs(settings))
            await rights.check(settings, roles)
            await _check_schema_registry(settings)
            if "rank" in roles:
                await _check_redis(settings)
            _note_back(health)
            return largest
        except kafka_client.KafkaUnavailable as error:
            await _wait(settings, health, str(error))


async def _answered(settings: Settings, health: Health) -> bool:
    while why := await kafka_client.why_away(settings.kafka):
        await _wait(settings, health, why)
    _note_back(health)
    return True


async def _wait(settings: Settings, health: Health, why: str) -> None:
    """Log why Kafka is away, and wait until a server answers, or until another reason is worth looking for."""
    health.away = why
    outage.kafka.seen(why, lasts_s=0)
    deadline_s = time.monotonic() + ASK_AGAIN_S
    is_away = True
    while is_away and time.monotonic() < deadline_s:
        await asyncio.sleep(LOOK_EVERY_S)
        is_away = bool(await kafka_client.why_away(settings.kafka))


def _note_back(health: Health) -> None:
    health.away = ""
    outage.kafka.back(calm_s=0)


async def _check_schema_registry(settings: Settings) -> None:
    """Raise if the schema registry refuses us. If it is only away, records that need it wait."""
    if not settings.kafka.schema_registries:
        return
    try:
        await RegistryClient(settings.kafka).check()
    except RegistryUnavailable as error:
        if error.is_refusal:
            raise
        logger.warning("%s; records that need a schema wait for it", error)


async def _check_redis(settings: Settings) -> None:
    """Raise if Redis refuses us. If it is only away, the worker starts, and lists go to the topic until it is back."""
    cache = ListCache(settings)
    try:
        await cache.check(await owner_of(settings))
    except CacheUnavailable as error:
        logger.debug("%s", error)  # the tier logs it when it has lists for Redis
    finally:
        await cache.close()


def _unless_ended(work: Coroutine[None, None, Done]) -> Done | None:
    """Run the coroutine to its end; return None if SIGTERM or SIGINT came before."""

    async def run() -> Done | None:
        task = asyncio.ensure_future(work)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        try:
            return await task
        except asyncio.CancelledError:
            return None

    return asyncio.run(run())

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
from streams.kafka import rights
from streams.kafka.topics import ensure_topics, topic_specs
from streams.publish.backfill import owner_of
from streams.publish.list_cache import ListCache
from streams.publish.redis_refusal import CacheUnavailable
from streams.settings import Settings
from streams.worker.health import Health

logger = logging.getLogger(__name__)

LOG_EVERY_S = 10.0
LOOK_EVERY_S = 1.0
Done = TypeVar("Done")


def prepare(settings: Settings, roles: Sequence[rights.Role], health: Health) -> Mapping[str, int] | None:
    """Check and create all of it; return the largest message that each topic takes, None if a signal ended the start.

    Raises
    ------
    SettingsError, TopicError, KafkaRefuses
        One line each.
    """
    metrics.topics_from_zero([spec.name for spec in topic_specs(settings)])
    return _unless_ended(_prepare(settings, roles, health))


def wait_for_kafka(settings: Settings, health: Health) -> bool:
    """Wait until a server of Kafka answers; return False if a signal ended the start."""
    return _unless_ended(_answered(settings, health)) is not None


async def _prepare(settings: Settings, roles: Sequence[rights.Role], health: Health) -> Mapping[str, int]:
    while True:
        try:
            await rights.check(settings, roles)  # a topic that we may not see looks like a missing one
            largest = await ensure_topics(settings, topic_specs(settings))
            await rights.check(settings, roles)
            if "rank" in roles:
                await _check_redis(settings)
            return largest
        except kafka_client.KafkaUnavailable as error:
            await _wait(settings, health, str(error))


async def _answered(settings: Settings, health: Health) -> bool:
    while why := await kafka_client.why_away(settings.kafka):
        await _wait(settings, health, why)
    return True


async def _wait(settings: Settings, health: Health, why: str) -> None:
    """Log why Kafka is away, and wait until a server answers, or until the line is due again."""
    health.away = why
    logger.warning("%s; waiting for it", why)
    deadline_s = time.monotonic() + LOG_EVERY_S
    is_away = True
    while is_away and time.monotonic() < deadline_s:
        await asyncio.sleep(LOOK_EVERY_S)
        is_away = bool(await kafka_client.why_away(settings.kafka))
    health.away = ""


async def _check_redis(settings: Settings) -> None:
    """Raise if Redis refuses us. If it is only away, the worker starts, and lists go to the topic until it is back."""
    cache = ListCache(settings)
    try:
        await cache.check(await owner_of(settings))
    except CacheUnavailable as error:
        logger.warning("%s; lists go to the topic, and to Redis once it is back", error)
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

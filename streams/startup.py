"""What must be there before a worker takes anything: Kafka, its topics, our rights, and a Redis that lets us in.

What is wrong for good stops the start with one line. What is only away is waited for: no restart would bring it. Called
by `worker`.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Coroutine, Sequence

from streams import kafka_client, rights
from streams.health import Health
from streams.publish import CacheUnavailable, ListCache
from streams.settings import Redis, Settings
from streams.topics import ensure_topics, topic_specs

logger = logging.getLogger(__name__)

SAY_EVERY_S = 10.0
LOOK_EVERY_S = 1.0


def prepare(settings: Settings, roles: Sequence[rights.Role], health: Health) -> bool:
    """See to all of it; False if the worker was told to end meanwhile.

    Raises
    ------
    SettingsError, TopicError, KafkaRefuses
        One line each.
    """
    return _unless_ended(_prepare(settings, roles, health))


def wait_for_kafka(settings: Settings, health: Health) -> bool:
    """Wait until a server answers, for loading models takes a while; False if the worker was told to end meanwhile."""
    return _unless_ended(_answered(settings, health))


async def _prepare(settings: Settings, roles: Sequence[rights.Role], health: Health) -> None:
    while True:
        try:
            await rights.check(settings, roles)  # a topic that we may not see looks like one that is not there
            await ensure_topics(settings, topic_specs(settings))
            await rights.check(settings, roles)
            break
        except kafka_client.KafkaUnavailable as error:
            await _wait(settings, health, str(error))
    if "rank" in roles:
        await _check_redis(settings.redis)


async def _answered(settings: Settings, health: Health) -> None:
    while why := await kafka_client.why_away(settings.kafka):
        await _wait(settings, health, why)


async def _wait(settings: Settings, health: Health, why: str) -> None:
    """Say it, and come back when it is to be said again, or a server answers."""
    health.away = why
    logger.warning("%s; waiting for it", why)
    again = time.monotonic() + SAY_EVERY_S
    is_away = True
    while is_away and time.monotonic() < again:
        await asyncio.sleep(LOOK_EVERY_S)
        is_away = bool(await kafka_client.why_away(settings.kafka))
    health.away = ""


async def _check_redis(settings: Redis) -> None:
    """Stop where Redis refuses us; one that is away is waited for later, and lists go to the topic meanwhile."""
    cache = ListCache(settings)
    try:
        await cache.check()
    except CacheUnavailable as error:
        logger.warning("%s; lists go to the topic, and here once it is back", error)
    finally:
        await cache.close()


def _unless_ended(work: Coroutine[None, None, None]) -> bool:
    """Run it to its end, or until SIGTERM or SIGINT."""

    async def run() -> bool:
        task = asyncio.ensure_future(work)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        try:
            await task
        except asyncio.CancelledError:
            return False
        return True

    return asyncio.run(run())

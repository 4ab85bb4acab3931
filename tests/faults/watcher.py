"""What a consumer of ours sees all the time: the newest list of every user, and lists that went back.

Reads `recommendations` from its beginning with librdkafka, and Redis with a plain client. Called by `campaign`.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import redis
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from streams.contracts import COLD_START_USER
from streams.settings import Settings

AT_ONCE = 500


@dataclass(frozen=True)
class Seen:
    """A list, as far as the checks need it."""

    list_id: str
    as_of: int
    state_version: int
    degraded: str | None

    @property
    def version(self) -> tuple[int, int]:
        return self.as_of, self.state_version


def consumer(settings: Settings, **more: object) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": settings.kafka.bootstrap_servers,
            "group.id": uuid.uuid4().hex,
            "enable.auto.commit": False,
            "log_level": 0,
            **more,
        }
    )


class Watcher:
    """Follows the topic in a thread; a context."""

    def __init__(self, settings: Settings, direct_redis_url: str) -> None:
        self.newest: dict[str, Seen] = {}
        self.went_back: list[tuple[float, str, Seen, Seen]] = []
        self.lists = 0
        self._settings = settings
        self._redis = redis.Redis.from_url(direct_redis_url)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="watcher", daemon=True)

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._redis.close()

    def reached(self, wanted: dict[str, int]) -> bool:
        """Whether topic and Redis have lists that know so many events of these users."""
        return all(
            user_id in self.newest and self.newest[user_id].state_version >= version
            for user_id, version in wanted.items()
        ) and all(
            seen is not None and seen.state_version >= wanted[user_id] for user_id, seen in self.cached(list(wanted))
        )

    def whole(self, user_ids: Iterable[str]) -> bool:
        """Whether Redis has what the topic had of these users when we began to look, or newer."""
        known = {user_id: seen for user_id in user_ids if (seen := self.newest.get(user_id))}
        return all(
            seen is not None and seen.version >= known[user_id].version for user_id, seen in self.cached(list(known))
        )

    def cached(self, user_ids: list[str]) -> Iterator[tuple[str, Seen | None]]:
        """What Redis has; nothing while it is away."""
        prefix = self._settings.key_prefix
        for start in range(0, len(user_ids), AT_ONCE):
            some = user_ids[start : start + AT_ONCE]
            try:
                values: Any = self._redis.mget([prefix + user_id for user_id in some])
            except redis.RedisError:
                values = [None] * len(some)
            for user_id, value in zip(some, values, strict=True):
                yield user_id, None if value is None else read(value)

    def _follow(self) -> None:
        source = consumer(self._settings)
        topic = self._settings.topic("recommendations")
        places = range(self._settings.kafka.partitions)
        source.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in places])
        while not self._over.is_set():
            message = source.poll(0.2)
            if message is None or message.error() or not (value := message.value()):
                continue
            key: Any = message.key()
            if key == COLD_START_USER.encode():  # as of what its worker has read, which a restart sets back
                continue
            self.lists += 1
            seen, before = read(value), self.newest.get(user_id := key.decode())
            if before and seen.version < before.version:
                self.went_back.append((time.time(), user_id, before, seen))
            self.newest[user_id] = seen
        source.close()


def read(value: Any) -> Seen:
    decoded = json.loads(value)
    return Seen(decoded["list_id"], decoded["as_of"], decoded["state_version"], decoded["degraded"])

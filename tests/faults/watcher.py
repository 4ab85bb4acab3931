"""The consumer of a campaign: sees the newest list of every user, and each list that is older than the one before.

Reads `recommendations` from its beginning with librdkafka, and Redis with a plain client.
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
from streams.rank.degraded_lists import LATER_REASONS
from streams.settings import Settings

MGET_USERS = 500
"""Users of one read of Redis."""


@dataclass(frozen=True)
class SeenList:
    """The fields of a list that the checks need."""

    list_id: str
    as_of: int
    state_version: int
    degraded: str | None

    @property
    def version(self) -> tuple[int, int]:
        return self.as_of, self.state_version


def consumer(settings: Settings, **more: object) -> Consumer:
    """Make a consumer with a group of its own; `more` are further settings of librdkafka."""
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
    """Reads the topic in a thread, as long as the context is entered.

    Attributes
    ----------
    newest : dict of str to SeenList
        Of each user, the last list of the topic.
    went_back : list of tuple
        Time, user, the list before and the list after, where the list after is of an older state.
    lists : int
        All lists so far, without the cold-start list.
    """

    def __init__(self, settings: Settings, direct_redis_url: str) -> None:
        self.newest: dict[str, SeenList] = {}
        self.went_back: list[tuple[float, str, SeenList, SeenList]] = []
        self.lists = 0
        self._settings = settings
        self._redis = redis.Redis.from_url(direct_redis_url)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="watcher", daemon=True)

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        self._redis.close()

    def reached(self, wanted: dict[str, int]) -> bool:
        """Return whether topic and Redis have lists of at least these state versions.

        Parameters
        ----------
        wanted : dict of str to int
            From a user to a state version.
        """
        return all(
            user_id in self.newest and self.newest[user_id].state_version >= version
            for user_id, version in wanted.items()
        ) and all(
            seen is not None and seen.state_version >= wanted[user_id] for user_id, seen in self.cached(list(wanted))
        )

    def ranked(self, user_ids: Iterable[str]) -> bool:
        """Return whether no list of these users waits to be ranked again by the model."""
        return all(self.newest[user_id].degraded not in LATER_REASONS for user_id in user_ids)

    def redis_is_complete(self, user_ids: Iterable[str]) -> bool:
        """Return whether Redis has these users' lists that the topic has at the start of this call, or newer lists."""
        on_topic = {user_id: seen for user_id in user_ids if (seen := self.newest.get(user_id))}
        return all(
            seen is not None and seen.version >= on_topic[user_id].version
            for user_id, seen in self.cached(list(on_topic))
        )

    def cached(self, user_ids: list[str]) -> Iterator[tuple[str, SeenList | None]]:
        """Yield each user and the list that Redis has of them; None if there is none, or Redis does not respond."""
        prefix = self._settings.key_prefix
        for start in range(0, len(user_ids), MGET_USERS):
            chunk = user_ids[start : start + MGET_USERS]
            try:
                values: Any = self._redis.mget([prefix + user_id for user_id in chunk])
            except redis.RedisError:
                values = [None] * len(chunk)
            for user_id, value in zip(chunk, values, strict=True):
                yield user_id, None if value is None else read(value)

    def _follow(self) -> None:
        source = consumer(self._settings)
        topic = self._settings.topic("recommendations")
        partitions = range(self._settings.kafka.partitions)
        source.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
        while not self._stopping.is_set():
            message = source.poll(0.2)
            if message is None or message.error() or not (value := message.value()):
                continue
            key: Any = message.key()
            if key == COLD_START_USER.encode():  # a restart may lower its version, rightly
                continue
            self.lists += 1
            seen, before = read(value), self.newest.get(user_id := key.decode())
            if before and seen.version < before.version:
                self.went_back.append((time.time(), user_id, before, seen))
            self.newest[user_id] = seen
        source.close()


def read(value: Any) -> SeenList:
    """Decode a list."""
    decoded = json.loads(value)
    return SeenList(decoded["list_id"], decoded["as_of"], decoded["state_version"], decoded["degraded"])

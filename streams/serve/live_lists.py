"""The newest lists as they are published: one consumer of the topic `recommendations` for all who watch users.

The consumer begins at the end of the topic, for Redis has what was published before. A watcher holds at most one list a
user: a newer list replaces one that was not fetched yet, so a slow watcher costs no memory. Lists for a
placement are left out. Knows no HTTP.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from typing import NamedTuple

from aiokafka import ConsumerRecord

from streams.contracts import COLD_START_USER
from streams.kafka import client as kafka_client
from streams.publish.list_key import ListKeys
from streams.settings import Settings

logger = logging.getLogger(__name__)

RECENT_USERS = 12
"""Users with a new list whose ids are kept; chosen by us: a page suggests them."""


class Missed(Enum):
    """Stands for a list when the consumer may have missed lists: read the newest from Redis."""

    MISSED = "missed"


class LiveList(NamedTuple):
    """A record of the topic: the list as JSON, or None where the user was forgotten, and when it was written."""

    payload: bytes | None
    published_ms: int | None


MISSED = Missed.MISSED
Update = LiveList | Missed


class Watcher:
    """The updates of some users that were not fetched yet: of each user the newest.

    Parameters
    ----------
    users : mapping of str to str
        Key of a list -> the user's id as it is stored: a pseudonym where these are set.
    """

    def __init__(self, users: Mapping[str, str]) -> None:
        self.users = users
        self._updates: dict[str, Update] = {}
        self._arrived = asyncio.Event()

    def put(self, key: str, update: Update) -> None:
        """Replace the update of the user whose list has this key."""
        self._updates[self.users[key]] = update
        self._arrived.set()

    async def fetch(self, timeout_s: float) -> dict[str, Update]:
        """Wait for updates, and take them; empty after `timeout_s` without one."""
        try:
            await asyncio.wait_for(self._arrived.wait(), timeout_s)
        except asyncio.TimeoutError:
            return {}
        updates, self._updates = self._updates, {}
        self._arrived.clear()
        return updates


class LiveLists:
    """Follow the topic `recommendations`, and give each list to the watchers of its user."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._keys = ListKeys(settings)
        self._watchers: defaultdict[str, set[Watcher]] = defaultdict(set)  # by the key of the user's list
        self._recent: deque[str] = deque(maxlen=RECENT_USERS)

    @property
    def recent_users(self) -> list[str]:
        """The users with the latest lists, the newest first."""
        return list(self._recent)[::-1]

    @contextmanager
    def watch(self, users: Collection[str]) -> Iterator[Watcher]:
        """Watch users until the end of the context."""
        watcher = Watcher({self._keys.of(user): user for user in users})
        for key in watcher.users:
            self._watchers[key].add(watcher)
        try:
            yield watcher
        finally:
            for key in watcher.users:
                self._watchers[key].discard(watcher)
                if not self._watchers[key]:
                    del self._watchers[key]

    def take(self, record: ConsumerRecord) -> None:
        """Give one record of the topic to the watchers of its key."""
        try:
            key = (record.key or b"").decode()
        except UnicodeDecodeError:
            return  # no list of ours
        self._note_recent(key, record.value is not None)
        for watcher in self._watchers.get(key, ()):
            watcher.put(key, LiveList(record.value, record.timestamp))

    def _note_recent(self, key: str, has_list: bool) -> None:
        if key in ("", COLD_START_USER) or self._keys.of(key) != key:
            return  # not certainly the id of a user: it may be the key of a list for a placement
        if key in self._recent:
            self._recent.remove(key)
        if has_list:
            self._recent.append(key)

    def missed(self) -> None:
        """Tell all watchers that lists may have been missed."""
        for key, watchers in self._watchers.items():
            for watcher in watchers:
                watcher.put(key, MISSED)

    async def run(self) -> None:
        """Follow for ever; begin again at the end where Kafka was away for longer than its client waits.

        Raises
        ------
        streams.kafka.client.KafkaRefuses
        """
        await kafka_client.follow(self._follow)

    async def _follow(self) -> None:
        kafka = self._settings.kafka
        consumer = kafka_client.consumer(kafka, self._settings.topic("recommendations"), group_id=None)
        async with kafka_client.started(consumer, kafka):
            await consumer.seek_to_end()
            for partition in consumer.assignment():
                await consumer.position(partition)  # resolves the end before anybody reads Redis
            self.missed()
            while True:
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    for record in records:
                        self.take(record)

"""What Kafka knows about one list: the titles of its items, the state of its user, and whether workers run.

A topic has no index, so the topics are read from their beginning, for `LIMIT_S` at most. Writes nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError, GroupIdNotFound

from encoders.interest import Interest
from encoders.interest_record import StateUnreadable
from streams.kafka import client as kafka_client
from streams.kafka.topics import changelog_name, group_id, partitions_by_topic
from streams.settings import Settings
from streams.state.user_record import decode_record
from streams.state.users import is_record, user_of

LIMIT_S = 2.0
"""Chosen by us: a person still waits, and 17,000 items are read in half of it."""
BATCH = 5_000
TIERS: tuple[Literal["state", "rank"], ...] = ("state", "rank")


class _Titled(msgspec.Struct):
    title: str = ""


@dataclass
class Lookup:
    """What was found.

    Attributes
    ----------
    items_topic : str
        The topic of the catalogue.
    users_wanted : bool
        Whether the user's state was looked up.
    error : str
        Why Kafka cannot be asked; empty if it can.
    titles : dict of str to str
        By item id.
    live : set of bytes
        The keys of the catalogue's items that were read.
    whole : bool
        Whether everything was read.
    user : Interest or None
        The user's state; None if the user has none.
    merged_into : str
        The user into whom this one was merged; empty if the user was not.
    members : dict of str to int
        The number of workers in each tier; empty if it is not known.
    """

    items_topic: str
    users_wanted: bool
    error: str = ""
    titles: dict[str, str] = field(default_factory=dict)
    live: set[bytes] = field(default_factory=set)
    whole: bool = False
    user: Interest | None = None
    merged_into: str = ""
    members: dict[str, int] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Whether the catalogue has no item."""
        return self.whole and not self.live

    @property
    def all_unknown(self) -> bool:
        """Whether every event of the user is about an item that the catalogue does not have."""
        return self.user is not None and len(self.user.waiting) > 0 and not self.user.long.any()


async def look_up(settings: Settings, item_ids: Sequence[str], user_id: str | None) -> Lookup:
    """Look up the titles of items, the state of a user (None: of nobody), and the workers. No error is raised."""
    found = Lookup(settings.topic("items"), user_id is not None)
    found.error = await kafka_client.why_away(settings.kafka)
    if found.error:
        return found
    try:
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(_read(settings, set(item_ids), user_id, found), LIMIT_S)
    except (kafka_client.KafkaUnavailable, kafka_client.KafkaRefuses) as error:
        found.error = str(error)
    return found


async def _read(settings: Settings, item_ids: set[str], user_id: str | None, found: Lookup) -> None:
    async with kafka_client.admin(settings.kafka) as admin:
        present = await partitions_by_topic(admin)
        found.members = await _members(admin, settings)
    parts = [TopicPartition(found.items_topic, number) for number in range(present.get(found.items_topic, 0))]
    users = changelog_name(settings)
    if user_id is not None and users in present:
        parts.append(TopicPartition(users, kafka_client.partition_of(user_id.encode(), present[users])))
    if not parts:
        found.whole = True
        return
    wanted = {item_id.encode(): item_id for item_id in item_ids}
    consumer = kafka_client.consumer(settings.kafka, group_id=None)
    async with kafka_client.started(consumer, settings.kafka):
        consumer.assign(parts)
        ends = await consumer.end_offsets(parts)
        until = time.monotonic() + LIMIT_S
        while unread := [part for part in parts if await consumer.position(part) < ends[part]]:
            if time.monotonic() > until:
                return
            for part, records in (await consumer.getmany(*unread, timeout_ms=200, max_records=BATCH)).items():
                if part.topic == found.items_topic:
                    _take_items(records, wanted, found)
                else:
                    _take_user(records, user_id or "", found)
    found.whole = True


async def _members(admin: AIOKafkaAdminClient, settings: Settings) -> dict[str, int]:
    """Count the members of each tier's consumer group. A Kafka that never had a group has no coordinator either."""
    members: dict[str, int] = {}
    for tier in TIERS:
        try:  # one group a request: aiokafka reads the answer about several in the schema of an older version
            (response,) = await admin.describe_consumer_groups([group_id(settings, tier)])
        except GroupCoordinatorNotAvailableError:
            return dict.fromkeys(TIERS, 0)
        for error_code, _, _, _, _, of_group, *_ in response.groups:
            if error_code in (0, GroupIdNotFound.errno):
                members[tier] = len(of_group)
    return members


def _take_items(records: Sequence[Any], wanted: Mapping[bytes, str], found: Lookup) -> None:
    for record in records:
        if record.value is None:
            found.live.discard(record.key)
        else:
            found.live.add(record.key)
        if record.key in wanted and record.value is not None:
            with suppress(msgspec.DecodeError, UnicodeDecodeError):
                found.titles[wanted[record.key]] = msgspec.json.decode(record.value, type=_Titled).title


def _take_user(records: Sequence[Any], user_id: str, found: Lookup) -> None:
    of_user = user_id.encode()
    for record in records:
        if record.key is None or not record.key.endswith(of_user) or not is_record(record.key):
            continue
        if user_of(record.key) == user_id:
            found.user, found.merged_into = None, ""
            with suppress(StateUnreadable):
                _take_record(record.value, found)


def _take_record(value: bytes | None, found: Lookup) -> None:
    if value is None:
        return
    record = decode_record(value)
    if record.link is not None and record.link.stage == "moved":
        found.merged_into = record.link.into
    if record.interest.version:
        found.user = record.interest

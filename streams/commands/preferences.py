"""`afterclick preferences`: what a user wishes, as the workers keep it; a new wish, or one that is taken back.

The changelog of the users' states is read for `LIMIT_S` at most: a topic has no index.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Sequence
from datetime import datetime, timezone

import msgspec
from aiokafka import AIOKafkaProducer, TopicPartition

from encoders.errors import AfterclickError
from ranker.wishes.grammar import in_words
from streams.contracts import Preference
from streams.kafka import client as kafka_client
from streams.kafka.record_time import now_ms
from streams.kafka.topics import changelog_name, partitions_by_topic
from streams.receive.decode import receive
from streams.receive.message import BadMessage, Message
from streams.receive.pseudonym import pseudonym
from streams.settings import Settings
from streams.state.kept_wishes import NONE, KeptWish, UserWishes, decode_wishes, wishes_key
from streams.state.user_record import decode_record
from streams.state.users import record_key
from streams.terminal.report import SENTENCE, Field, Report

LIMIT_S = 10.0
"""Chosen by us: a person still waits."""
ANSWER_S = 5.0
"""How long a worker may take to read a wish that was just sent; chosen by us."""
LOOK_EVERY_S = 0.2
BATCH = 5_000
MOST_MERGES = 5


class NoPreference(AfterclickError):
    """The wish cannot be sent, or there is none to take back; the message says why."""


class StoredWish(msgspec.Struct):
    """A wish as `--json` prints it. `understood` is empty for one that was not; then `answer` says why."""

    wish_id: str
    text: str
    understood: str
    answer: str
    made_at: int
    expires_at: int | None


async def wishes_of(settings: Settings, user_id: str) -> tuple[UserWishes, str]:
    """Return the wishes of a user, and whose they are: the user's, or those of whom the user was merged into.

    Raises
    ------
    KafkaUnavailable, KafkaRefuses
    NoPreference
        The changelog could not be read to its end in time.
    StateUnreadable
        Another version wrote them.
    """
    owner = pseudonym(user_id, settings.pseudonym_key)
    for _ in range(MOST_MERGES):
        values = await _newest(settings, owner, (wishes_key(owner), record_key(owner)))
        record = values.get(record_key(owner))
        link = decode_record(record).link if record else None
        if link is None or link.stage != "moved":
            return decode_wishes(values.get(wishes_key(owner))), owner
        owner = link.into
    return NONE, owner


async def state(settings: Settings, user_id: str, text: str, until: datetime | None) -> KeptWish | None:
    """Send a wish. Returns what the workers keep of it; None if none has read it yet.

    Raises
    ------
    NoPreference
        A worker would reject it.
    KafkaUnavailable, KafkaRefuses
    """
    wish_id = uuid.uuid4().hex[:12]
    await _send(
        settings,
        Preference(event_id=wish_id, user_id=user_id, timestamp=now_ms(), text=text, expires_at=until),
    )
    last = time.monotonic() + ANSWER_S
    while time.monotonic() < last:
        wishes, _ = await wishes_of(settings, user_id)
        for kept in wishes.kept:
            if kept.wish_id == wish_id:
                return kept
        await asyncio.sleep(LOOK_EVERY_S)
    return None


async def revoke(settings: Settings, user_id: str, wish_id: str) -> None:
    """Take a wish back; raises `NoPreference` if the user has none with this id."""
    wishes, _ = await wishes_of(settings, user_id)
    known = [kept.wish_id for kept in wishes.kept]
    if wish_id not in known:
        expected = f"one of {', '.join(known)}" if known else "a wish; the user has none"
        raise NoPreference(f"--revoke: got {wish_id!r}, expected {expected}")
    event_id = uuid.uuid4().hex[:12]
    await _send(settings, Preference(event_id=event_id, user_id=user_id, timestamp=now_ms(), revoke=wish_id))


def listed(wishes: UserWishes, now: int) -> list[StoredWish]:
    """Return the wishes that hold at a time (milliseconds), the oldest first."""
    return [
        StoredWish(
            kept.wish_id,
            kept.text,
            in_words(kept.wish) if kept.wish else "",
            kept.answer,
            kept.made_ms,
            kept.expires_ms,
        )
        for kept in wishes.kept
        if kept.holds(now)
    ]


def render(user_id: str, wishes: Sequence[StoredWish]) -> Report:
    """Draw the wishes of a user."""
    fields = (Field("id"), Field("since"), Field("wish", wrap=SENTENCE), Field("understood as", wrap=SENTENCE))
    report = Report(fields, f"{user_id}: {len(wishes)} wish{'' if len(wishes) == 1 else 'es'}")
    for one in wishes:
        since = datetime.fromtimestamp(one.made_at / 1000, timezone.utc)
        report.add(one.wish_id, f"{since:%Y-%m-%d %H:%M}", one.text, one.understood or f"not understood: {one.answer}")
    return report


async def _newest(settings: Settings, owner: str, keys: Sequence[bytes]) -> dict[bytes, bytes | None]:
    """The newest values of keys of a user in the changelog; none where there is no changelog yet."""
    topic, found = changelog_name(settings), dict[bytes, bytes | None]()
    async with kafka_client.admin(settings.kafka) as admin:
        partitions = (await partitions_by_topic(admin)).get(topic)
    if partitions is None:
        return found
    part = TopicPartition(topic, kafka_client.partition_of(owner.encode(), partitions))
    consumer = kafka_client.consumer(settings.kafka, group_id=None)
    async with kafka_client.started(consumer, settings.kafka):
        consumer.assign([part])
        end = (await consumer.end_offsets([part]))[part]
        last = time.monotonic() + LIMIT_S
        while await consumer.position(part) < end:
            if time.monotonic() > last:
                raise NoPreference(
                    f"preferences: got {await consumer.position(part):,} of {end:,} records of {topic} in "
                    f"{LIMIT_S:g} s, expected all; the wishes are in the user's list too: afterclick recommend --json"
                )
            for records in (await consumer.getmany(part, timeout_ms=200, max_records=BATCH)).values():
                found |= {record.key: record.value for record in records if record.key in keys}
    return found


async def _send(settings: Settings, message: Preference) -> None:
    try:
        value = msgspec.json.encode(message)
        receive(Message("preferences", 0, 0, None, value), now_ms())
    except BadMessage as error:
        raise NoPreference(str(error)) from None
    except UnicodeEncodeError:
        raise NoPreference("preferences: got a text that is no UTF-8, expected UTF-8; correct the text") from None
    producer = AIOKafkaProducer(**kafka_client.client_options(settings.kafka), acks="all")
    async with kafka_client.started(producer, settings.kafka):
        await producer.send_and_wait(settings.topic("preferences"), value, key=message.user_id.encode())

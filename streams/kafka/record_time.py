"""When a record was written, as far as its time can be trusted, and the time at which its event counts.

A record's time comes from its producer's clock (CreateTime), which may be wrong by weeks, or from the broker's
(LogAppendTime). Our own clock may be wrong as well, and only Kafka's settings tell which of the two is. The rules:

1. A record's time is trusted if the broker set it, or bounds it: the topic's `message.timestamp.after.max.ms` is an
   hour or less, which is Kafka 4's default. Then nothing depends on our clock, and every replay gives the same result.
2. Otherwise it is trusted up to an hour ahead of our clock. Up to a day ahead, the record counts as written now.
   Further ahead its message is refused, with the reason `time` and a text that names the record's time; a request to
   forget a user is not refused, and counts as written now. A replay of records that were not ahead changes nothing.
3. A record without a time, or one from before 1990, counts as written now.
4. An event that is dated after its record counts at the record's time.

Kafka's settings of a topic are read only once a record of it looks wrong. Knows no message.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Iterable
from datetime import tzinfo
from typing import Any, NamedTuple, TypeVar

import msgspec
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from encoders.event_time import milliseconds
from streams.contracts import Forget, RankRequest
from streams.kafka import client as kafka_client
from streams.receive.decode import EARLIEST_MS, FUTURE_MS, Accepted, receive
from streams.receive.message import BadMessage, Message, Tombstone
from streams.settings import KafkaSettings

logger = logging.getLogger(__name__)

AHEAD_MS = 3_600_000
"""The most that correct clocks differ by. Kafka 4 takes no record that is further ahead."""
LOG_APPEND_TIME = 1
"""The value of a record's `timestamp_type` that says that the broker set its time."""
SETTINGS_KEPT_S = 60.0
"""How long the settings of a topic are kept; chosen by us."""
TRIES = 5
_BOUNDS = ("message.timestamp.after.max.ms", "message.timestamp.difference.max.ms")
"""The name since Kafka 3.6, and the name before Kafka 4."""
_TYPE = "message.timestamp.type"

Dated = TypeVar("Dated", bound=Accepted)


class Record(NamedTuple):
    """What a Kafka record's time depends on: topic (full name), stored time (milliseconds), type of time."""

    topic: str
    stored_ms: int
    timestamp_type: int

    @classmethod
    def of(cls, record: Any) -> Record:
        """Take it from a record of aiokafka, or from a message of Faust, whose times are seconds (a float)."""
        stored = record.timestamp or 0
        stored_ms = round(stored * 1000) if isinstance(stored, float) else stored
        return cls(record.topic, stored_ms, record.timestamp_type)


class RecordTimes:
    """Decides which records' times are trusted.

    Parameters
    ----------
    kafka : streams.settings.Kafka
        Where to read how a topic's times are bounded.
    """

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._bounded: dict[str, tuple[float, bool]] = {}

    async def look(self, records: Iterable[Record]) -> None:
        """Read the settings of the topics of records that look wrong. To be called before `written_ms`."""
        limit_ms, now = now_ms() + AHEAD_MS, time.monotonic()
        suspect = {
            record.topic
            for record in records
            if record.stored_ms > limit_ms and record.timestamp_type != LOG_APPEND_TIME
        }
        stale = [topic for topic in suspect if now - self._bounded.get(topic, (float("-inf"),))[0] > SETTINGS_KEPT_S]
        for topic in stale:
            self._bounded[topic] = now, await self._ask(topic)

    def written_ms(self, record: Record) -> int | None:
        """Return when the record was written (milliseconds); None if its time is not trusted."""
        now = now_ms()
        if record.stored_ms < EARLIEST_MS:
            return now
        if (
            record.stored_ms <= now + AHEAD_MS
            or record.timestamp_type == LOG_APPEND_TIME
            or self._bounded.get(record.topic, (0.0, False))[1]
        ):
            return record.stored_ms
        return now if record.stored_ms <= now + FUTURE_MS else None

    async def _ask(self, topic: str) -> bool:
        config = await self._config(topic)
        bounds_ms = [int(config[name]) for name in _BOUNDS if name in config]
        bounded = config.get(_TYPE) == "LogAppendTime" or min(bounds_ms, default=2**63) <= AHEAD_MS
        logger.warning(
            "%s has records from more than an hour ahead of our clock. %s (Kafka says %s)",
            topic,
            "Kafka bounds their times, so ours is wrong: correct it" if bounded else "Nothing says that ours is wrong",
            ", ".join(f"{name}={value}" for name, value in config.items()) or "nothing of its settings",
        )
        return bounded

    async def _config(self, topic: str) -> dict[str, str]:
        """Return the topic's settings that Kafka lets us read. While Kafka is away, wait for it."""
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, dict.fromkeys((_TYPE, *_BOUNDS), ""))
        for _ in range(TRIES):
            try:
                async with kafka_client.admin(self._kafka) as admin:
                    answers = await admin.describe_configs([resource])
            except kafka_client.KafkaUnavailable as error:
                logger.warning("%s", error)
                await asyncio.sleep(1)
                continue
            return {
                name: value
                for answer in answers
                for code, _message, _type, _name, entries in answer.resources
                for name, value, *_rest in entries
                if not code
            }
        return {}


def receive_dated(
    times: RecordTimes,
    record: Record,
    message: Message,
    zone: tzinfo | None,
    ours: bool = False,
    taken: list[str] | None = None,
    types: Collection[str] | None = None,
) -> tuple[Accepted | Tombstone, int]:
    """Return a record's message, decoded and checked, and when the record was written (milliseconds).

    `RecordTimes.look` is to be called before. See `receive` for the other parameters.

    Raises
    ------
    BadMessage
        As `receive`, and for a record whose time is not trusted.
    """
    written_ms = times.written_ms(record)
    received = receive(message, record.stored_ms if written_ms is None else written_ms, zone, ours, taken, types)
    if written_ms is None and not ours and not isinstance(received, (Forget, Tombstone)):
        ahead_hours = (record.stored_ms - now_ms()) / 3_600_000
        raise BadMessage(
            "time",
            f"{message.topic}: the record's own time: got {record.stored_ms} ms since the epoch, {ahead_hours:.1f} "
            "hours ahead of this worker's clock, expected at most 24; correct the clock of the producer, or of this "
            "worker, then retry the dead letter",
            "the record's own time ahead",
        )
    return received, now_ms() if written_ms is None else written_ms


def counted_at(decoded: Dated, written_ms: int) -> Dated:
    """Return the message, dated no later than its record was written."""
    field = "as_of" if isinstance(decoded, RankRequest) else "timestamp"
    timestamp = getattr(decoded, field)
    if timestamp is None or milliseconds(timestamp) <= written_ms:
        return decoded
    return msgspec.structs.replace(decoded, **{field: written_ms})


def now_ms() -> int:
    """Return the time of our clock, in milliseconds since the epoch."""
    return round(time.time() * 1000)

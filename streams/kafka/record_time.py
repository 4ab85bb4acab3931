"""When a record was written, as far as that is to be believed; and the time at which its event counts.

A record's time comes from its producer's clock (CreateTime), which may be wrong by weeks, or from the broker's
(LogAppendTime). Our own clock may be wrong as well, and tells from a wrong producer only by Kafka's help. The rules:

1. A record's time is believed if the broker gave it, or bounds it: the topic's `message.timestamp.after.max.ms` is an
   hour or less, which is Kafka 4's default. Then nothing depends on our clock, and every replay gives the same result.
2. Elsewhere it is believed up to an hour ahead of our clock. Up to a day ahead, the record counts as written now.
   Further ahead its message is refused, with the reason `time` and a text that names the record's time; a wish to be
   forgotten is not refused, and counts as written now. Replays give the same result for records that were not ahead.
3. A record without a time, or one from before 1990, counts as written now.
4. An event that is dated after its record counts at the record's time.

Kafka is asked about a topic only once a record of it looks wrong. Knows no message.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from datetime import tzinfo
from typing import Any, NamedTuple, TypeVar

import msgspec
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from encoders.event_time import milliseconds
from streams.contracts import Forget, RankRequest
from streams.kafka import client as kafka_client
from streams.receive.decode import EARLIEST_MS, FUTURE_MS, Accepted, receive
from streams.receive.message import BadMessage, Message, Tombstone
from streams.settings import Kafka

logger = logging.getLogger(__name__)

AHEAD_MS = 3_600_000
"""What clocks that are set right may differ by, at the most; Kafka 4 takes no record that is further ahead."""
LOG_APPEND_TIME = 1
"""The broker's own time, in `timestamp_type` of a record."""
ASKED_FOR_S = 60.0
"""How long an answer of Kafka's about a topic holds; chosen by us."""
TRIES = 5
_BOUNDS = ("message.timestamp.after.max.ms", "message.timestamp.difference.max.ms")
"""Since Kafka 3.6, and before Kafka 4."""
_TYPE = "message.timestamp.type"

Dated = TypeVar("Dated", bound=Accepted)


class Record(NamedTuple):
    """Of a record in Kafka, what its time depends on: full name of its topic, milliseconds, Kafka's type of them."""

    topic: str
    stored_ms: int
    timestamp_type: int

    @classmethod
    def of(cls, record: Any) -> Record:
        """From a record of aiokafka's, or a message of Faust's, whose times are seconds (a float)."""
        stored = record.timestamp or 0
        stored_ms = round(stored * 1000) if isinstance(stored, float) else stored
        return cls(record.topic, stored_ms, record.timestamp_type)


class RecordTimes:
    """What is believed of records' times.

    Parameters
    ----------
    kafka : where to ask how a topic's times are bounded.
    """

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._bounded: dict[str, tuple[float, bool]] = {}

    async def look(self, records: Iterable[Record]) -> None:
        """Ask Kafka about the topics of records that look wrong; to be called before `written_ms` is."""
        limit_ms, now = now_ms() + AHEAD_MS, time.monotonic()
        suspect = {
            record.topic
            for record in records
            if record.stored_ms > limit_ms and record.timestamp_type != LOG_APPEND_TIME
        }
        stale = [topic for topic in suspect if now - self._bounded.get(topic, (float("-inf"),))[0] > ASKED_FOR_S]
        for topic in stale:
            self._bounded[topic] = now, await self._ask(topic)

    def written_ms(self, record: Record) -> int | None:
        """When the record was written, milliseconds; None if its time is not believed."""
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
        """What Kafka lets us know of the topic's settings; while it is away, wait for it."""
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
) -> tuple[Accepted | Tombstone, int]:
    """Receive the message of a record, and tell when it was written (milliseconds).

    `look` is to be called before. See `receive` for the other parameters.

    Raises
    ------
    BadMessage
        As `receive`, and for a record whose time is not believed.
    """
    written_ms = times.written_ms(record)
    received = receive(message, record.stored_ms if written_ms is None else written_ms, zone, ours, taken)
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
    """The message, dated at the latest when its record was written."""
    field = "as_of" if isinstance(decoded, RankRequest) else "timestamp"
    timestamp = getattr(decoded, field)
    if timestamp is None or milliseconds(timestamp) <= written_ms:
        return decoded
    return msgspec.structs.replace(decoded, **{field: written_ms})


def now_ms() -> int:
    """Our clock."""
    return round(time.time() * 1000)

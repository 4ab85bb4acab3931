"""Send messages until Kafka has stored each of them: while Kafka is away, send again.

A message may be stored twice. That is harmless: a state or a list replaces an older one, a newer request supersedes an
older one, and a user's state takes a routed event only once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError
from aiokafka.structs import RecordMetadata
from faust.exceptions import NotReady, ProducerSendError

from streams.faust_compat.app import App
from streams.faust_compat.constants import NO_RIGHT
from streams.faust_compat.fencing import MembershipLost
from streams.kafka import outage
from streams.kafka.outgoing import BROKERS_LARGEST, OVERHEAD_BYTES, Outgoing

logger = logging.getLogger(__name__)

RETRY_S = 1.0
PATIENCE_S = 10.0
"""Kafka stores a message within milliseconds, or within seconds while a partition's leader moves; chosen by us."""
TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)


class ReliableProducer:
    """The app's producer, which does not give up.

    Parameters
    ----------
    largest : mapping of str to int or None
        Topic -> its `max.message.bytes`. A topic that is not there has Kafka's default.
    """

    def __init__(self, app: App, largest: Mapping[str, int] | None = None) -> None:
        self._started_s: list[float] = []  # when each delivery that is under way started
        self._error = ""
        self._app = app
        self._largest = largest or {}

    @property
    def stuck(self) -> str:
        """Why Kafka stores nothing, in words; "" if it does, or nothing is to send. aiokafka says so much later."""
        waited_s = time.monotonic() - min(self._started_s, default=float("inf"))
        if waited_s < PATIENCE_S:
            return ""
        return f"has stored nothing that we send for {waited_s:.0f} s{self._error and f' ({self._error})'}"

    async def deliver(self, messages: Sequence[Outgoing]) -> list[RecordMetadata]:
        """Return where each message was stored, once all are. Within a partition the order is kept.

        Raises
        ------
        MembershipLost
            Another worker has the partitions. Some of the messages may be stored, the others never will be.
        """
        started_s = time.monotonic()
        self._started_s.append(started_s)
        try:
            return await self._deliver(messages)
        finally:
            self._started_s.remove(started_s)

    async def _deliver(self, messages: Sequence[Outgoing]) -> list[RecordMetadata]:
        fitting = [self._fitting(message) for message in messages]
        while True:
            try:
                outcomes = await self._send(fitting)
                if any(isinstance(outcome, TOO_LARGE) for outcome in outcomes):
                    fitting = [_after(outcome, message) for outcome, message in zip(outcomes, fitting, strict=True)]
                for outcome in sorted(outcomes, key=lambda outcome: not isinstance(outcome, MembershipLost)):
                    if isinstance(outcome, BaseException):
                        raise outcome
                self._error = ""
                return [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
            except NotReady:
                if not self._app.should_stop:
                    raise
                raise asyncio.CancelledError(
                    "the worker is ending; events whose messages are not stored are not acknowledged"
                ) from None
            except MembershipLost:
                raise
            except (KafkaError, ProducerSendError) as error:
                self._error = repr(error)
                if isinstance(error, NO_RIGHT):
                    self._app.kafka.on_refusal(error)
                if outage.is_sign(repr(error)):
                    outage.kafka.seen(repr(error))
                else:
                    logger.warning(
                        "Kafka did not store %d messages (%r); the worker sends them again in %g s",
                        len(messages),
                        error,
                        RETRY_S,
                    )
                await asyncio.sleep(RETRY_S)

    async def _send(self, messages: Sequence[Outgoing]) -> list[RecordMetadata | BaseException]:
        """Send each message once. Returns where it was stored, or why it was not."""
        of_partition: dict[tuple[str, int | None], list[int]] = {}
        for index, message in enumerate(messages):
            of_partition.setdefault((message.topic, message.partition), []).append(index)
        groups = of_partition.values()
        sent = [self._send_to_one([messages[index] for index in group]) for group in groups]
        of_message: dict[int, RecordMetadata | BaseException] = {}
        for group, outcomes in zip(groups, await asyncio.gather(*sent), strict=True):
            of_message |= zip(group, outcomes, strict=True)
        return [of_message[index] for index in range(len(messages))]

    async def _send_to_one(self, messages: Sequence[Outgoing]) -> list[RecordMetadata | BaseException]:
        """Send messages of one topic, and of one partition or of unknown ones."""
        topic, partition = messages[0].topic, messages[0].partition
        producer: Any = self._app.producer
        try:
            if partition is None or len(messages) == 1:
                one_by_one = [
                    await producer.send(topic, m.key, m.value, partition, _seconds(m.written_ms), m.headers)
                    for m in messages
                ]
                return await asyncio.gather(*one_by_one, return_exceptions=True)
            batches = await producer.send_together(topic, partition, map(_record, messages))
            outcomes = await asyncio.gather(*(stored for _, stored in batches), return_exceptions=True)
        except (NotReady, KafkaError, ProducerSendError) as error:
            return [error] * len(messages)
        return [each for (number, _), outcome in zip(batches, outcomes, strict=True) for each in _each(outcome, number)]

    def _fitting(self, message: Outgoing) -> Outgoing:
        """Return the message, or the one to send instead if Kafka will refuse it for its size."""
        while message.smaller:
            limit = self._largest.get(message.topic, BROKERS_LARGEST) - OVERHEAD_BYTES
            if message.size <= limit:
                break
            smaller = _cut(message, limit)
            if smaller.topic == message.topic and smaller.size >= message.size:
                break  # nothing more can be left out; Kafka decides
            message = smaller
        return message


def _record(message: Outgoing) -> dict[str, Any]:
    headers = list((message.headers or {}).items())
    return {"key": message.key, "value": message.value, "timestamp": message.written_ms, "headers": headers}


def _each(first: RecordMetadata | BaseException, number: int) -> list[RecordMetadata | BaseException]:
    """The outcome of each record of a batch, by that of the first."""
    if isinstance(first, BaseException):
        return [first] * number
    return [first._replace(offset=first.offset + index) for index in range(number)]


def _seconds(written_ms: int | None) -> float | None:
    """Return the time as Faust takes it. Faust cuts the milliseconds that it computes from it."""
    return None if written_ms is None else (written_ms + 0.5) / 1000


def _after(outcome: object, message: Outgoing) -> Outgoing:
    """Return the message to send after this outcome: half of one that was too large."""
    if not isinstance(outcome, TOO_LARGE):
        return message
    if message.smaller:
        return _cut(message, message.size // 2)
    logger.error("%s: Kafka refuses %d bytes as too large; raise its max.message.bytes", message.topic, message.size)
    return message


def _cut(message: Outgoing, limit: int) -> Outgoing:
    assert message.smaller
    logger.warning("%s: a message of %d bytes is cut, for only %d fit", message.topic, message.size, limit)
    return message.smaller(limit)

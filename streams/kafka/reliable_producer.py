"""Get messages out: send, wait for Kafka's word on each, and while Kafka is away try again.

Every message of ours may go out twice: states and lists replace, requests are overtaken, and a routed event is taken in
once. Called by both workers.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence

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
"""What Kafka takes, it takes within milliseconds, and within seconds while a partition's leader moves; chosen by us."""
TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)


class ReliableProducer:
    """The app's producer, patient.

    Parameters
    ----------
    largest : the `max.message.bytes` of topics, as far as they are known; of the others it is Kafka's default.

    """

    def __init__(self, app: App, largest: Mapping[str, int] | None = None) -> None:
        self._begun: list[float] = []  # when each delivery that is under way began
        self._error = ""
        self._app = app
        self._largest = largest or {}

    @property
    def stuck(self) -> str:
        """Why nothing gets out, in words; empty if something does, or there is nothing. aiokafka tries for long."""
        waited_s = time.monotonic() - min(self._begun, default=float("inf"))
        if waited_s < PATIENCE_S:
            return ""
        return f"has not taken for {waited_s:.0f} s what we send{self._error and f' ({self._error})'}"

    async def deliver(self, messages: Sequence[Outgoing]) -> list[RecordMetadata]:
        """Return where each message was stored, once all are; in the order given within a partition.

        Raises
        ------
        MembershipLost
            Some of it may be out, some will never be: its partitions are another worker's.
        """
        began_s = time.monotonic()
        self._begun.append(began_s)
        try:
            return await self._deliver(messages)
        finally:
            self._begun.remove(began_s)

    async def _deliver(self, messages: Sequence[Outgoing]) -> list[RecordMetadata]:
        fitting = [self._fitting(message) for message in messages]
        while True:
            try:
                sent = [
                    await self._app.producer.send(m.topic, m.key, m.value, m.partition, None, m.headers)
                    for m in fitting
                ]
                outcomes = await asyncio.gather(*sent, return_exceptions=True)
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
                raise asyncio.CancelledError("the worker is ending; what is not out is not acknowledged") from None
            except MembershipLost:
                raise
            except (KafkaError, ProducerSendError) as error:
                self._error = repr(error)
                if isinstance(error, NO_RIGHT):
                    self._app.kafka.on_refusal(error)
                if outage.is_sign(repr(error)):
                    outage.kafka.seen(repr(error))
                else:
                    logger.warning("Kafka did not take %d messages (%r); again in %g s", len(messages), error, RETRY_S)
                await asyncio.sleep(RETRY_S)

    def _fitting(self, message: Outgoing) -> Outgoing:
        """The message, or what is to be sent instead of one that Kafka will not take."""
        while message.smaller:
            most = self._largest.get(message.topic, BROKERS_LARGEST) - OVERHEAD_BYTES
            if message.size <= most:
                break
            smaller = _cut(message, most)
            if smaller.topic == message.topic and smaller.size >= message.size:
                break  # nothing more to leave out; Kafka has the last word
            message = smaller
        return message


def _after(outcome: object, message: Outgoing) -> Outgoing:
    """What to send after this outcome: where a message was too large, half of it."""
    if not isinstance(outcome, TOO_LARGE):
        return message
    if message.smaller:
        return _cut(message, message.size // 2)
    logger.error("%s: Kafka refuses %d bytes as too large; raise its max.message.bytes", message.topic, message.size)
    return message


def _cut(message: Outgoing, most: int) -> Outgoing:
    assert message.smaller
    logger.warning("%s: a message of %d bytes is cut, for only %d fit", message.topic, message.size, most)
    return message.smaller(most)

"""Send messages to the input topics for programs that do not speak Kafka, and say of each whether Kafka has it.

It connects in the background, so a Kafka that is away delays no start. While no server answers, every message is
refused at once. Checks no message.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError

from encoders.errors import AfterclickError
from streams.kafka import client as kafka_client
from streams.kafka import outage
from streams.kafka.outgoing import BROKERS_LARGEST, Outgoing
from streams.kafka.topics import ensure_topics, topic_specs
from streams.settings import Settings

logger = logging.getLogger(__name__)

STORE_TIMEOUT_S = 10.0
"""The longest wait for Kafka to confirm; chosen by us: an election is over by then, and a client still waits."""
SUSPECT_S = 2.0
"""After this time without a confirmation we look whether a server answers; chosen by us: Kafka confirms in ms."""
LOOK_EVERY_S = 1.0
LINGER_MS = 2
"""Chosen by us: messages of many clients share a request to Kafka, and each waits no longer than this for it."""


class NotStored(NamedTuple):
    """Why Kafka may not have a message.

    Attributes
    ----------
    text : str
        What; got; expected; what to do.
    is_final : bool
        Sending it again does not help.
    """

    text: str
    is_final: bool = False


class InputProducer:
    """Sends messages.

    Parameters
    ----------
    settings : Settings
        Where Kafka is, and how its topics are to be made.

    Attributes
    ----------
    away : str
        Why nothing can be sent, in one line; empty if it can.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer: Any = None
        self._task: asyncio.Task[None] | None = None
        self._suspicion = asyncio.Event()
        self._gone = asyncio.Event()
        self.away = "not connected yet"

    async def start(self) -> None:
        """Begin to connect.

        Raises
        ------
        streams.settings.SettingsError
            See `client_options`.
        """
        kafka_client.client_options(self._settings.kafka)
        self._task = asyncio.create_task(self._stay_connected())

    async def stop(self) -> None:
        """Send what is buffered, and disconnect."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def send(self, messages: Sequence[Outgoing]) -> list[NotStored | None]:
        """Send messages; return one outcome for each, None if Kafka has the message on all its replicas."""
        if self.away:
            return [_AWAY] * len(messages)
        sent: list[Any] = []
        delivery = asyncio.create_task(self._deliver(messages, sent))
        await asyncio.wait([delivery], timeout=SUSPECT_S)
        if not delivery.done():
            self._suspicion.set()
            gone = asyncio.create_task(self._gone.wait())
            await asyncio.wait([delivery, gone], timeout=STORE_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
            gone.cancel()
            delivery.cancel()
        outcomes = [_outcome(each) for each in sent] + [_UNCONFIRMED] * (len(messages) - len(sent))
        if failed := [outcome for outcome in outcomes if outcome is not None and not outcome.is_final]:
            logger.warning("%d messages may not be stored: %s", len(failed), failed[0].text)
        return outcomes

    async def _deliver(self, messages: Sequence[Outgoing], sent: list[Any]) -> None:
        """Append a future for each message, or its error, in order: one partition keeps the order of a client."""
        for message in messages:
            try:
                future = await self._producer.send(message.topic, message.value, message.key)
                future.add_done_callback(_retrieve)
                sent.append(future)
            except KafkaError as error:
                sent.append(error)
        if futures := [each for each in sent if isinstance(each, asyncio.Future)]:
            await asyncio.wait(futures)

    async def _stay_connected(self) -> None:
        while True:
            try:
                inputs = [spec for spec in topic_specs(self._settings) if spec.is_input]
                await ensure_topics(self._settings, inputs)
                self._producer = AIOKafkaProducer(
                    **kafka_client.client_options(self._settings.kafka),
                    acks="all",
                    linger_ms=LINGER_MS,
                    max_request_size=BROKERS_LARGEST,
                    request_timeout_ms=int(STORE_TIMEOUT_S * 1000),
                    metadata_max_age_ms=kafka_client.METADATA_AGE_MS,
                )
                async with kafka_client.started(self._producer, self._settings.kafka):
                    self._note("")
                    await self._watch()
            except AfterclickError as error:
                self._note(str(error))
            await asyncio.sleep(LOOK_EVERY_S)

    async def _watch(self) -> None:
        """Whenever Kafka did not confirm a message in time, look whether a server answers, until one does."""
        while True:
            await self._suspicion.wait()
            while away := await kafka_client.why_away(self._settings.kafka):
                self._note(away)
                await asyncio.sleep(LOOK_EVERY_S)
            self._suspicion.clear()
            self._note("")

    def _note(self, away: str) -> None:
        if away:
            outage.kafka.seen(away, lasts_s=0)
        if away and not self.away:
            logger.warning("no events are taken until Kafka is back")
        elif self.away and not away:
            logger.info("Kafka takes events")
        self.away = away
        if away:
            self._gone.set()
        else:
            self._gone.clear()


_AWAY = NotStored("Kafka: got no server that takes messages now, expected one; send it again later")
_UNCONFIRMED = NotStored(
    f"Kafka: got no confirmation within {STORE_TIMEOUT_S:g} s, expected one; it may still store the message: send it "
    "again with the same event_id, which counts once"
)


def _retrieve(future: asyncio.Future[Any]) -> None:
    """Look at an error that comes after its client's answer, so that asyncio does not log it as forgotten."""
    if not future.cancelled():
        future.exception()


def _outcome(sent: Any) -> NotStored | None:
    error = sent
    if isinstance(sent, asyncio.Future):
        if not sent.done() or sent.cancelled():
            return _UNCONFIRMED
        error = sent.exception()
    if error is None:
        return None
    if isinstance(error, (MessageSizeTooLargeError, RecordListTooLargeError)):
        return NotStored(
            "Kafka: got a message larger than the topic takes, expected a smaller one; send less text", True
        )
    return NotStored(f"Kafka: got {error!r}, expected it to store the message; send it again with the same event_id")

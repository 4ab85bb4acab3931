"""Send messages to Kafka until it has stored each of them, or a time limit ends.

The producer is idempotent: Kafka stores a message once, in order, however often the producer has to send it. Where a
new producer has to take over, Kafka may store a message twice; the workers count it once by its id. Knows no contract.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    OutOfOrderSequenceNumber,
    ProducerClosed,
    ProducerFenced,
    UnknownTopicOrPartitionError,
)

from streams.client.backoff import ATTEMPTS, Backoff
from streams.client.errors import ServiceRefused, ServiceUnavailable
from streams.client.messages import KeyedMessage, sources
from streams.contracts import MAX_REQUEST_BYTES
from streams.faust_compat.producer_end import stop

_PASSING = (KafkaConnectionError, KafkaTimeoutError, OutOfOrderSequenceNumber, ProducerClosed, ProducerFenced)
"""Errors after which another attempt may succeed, beside those that aiokafka calls retriable."""


class KafkaSender:
    """Connects at the first message.

    Parameters
    ----------
    servers : str
        `host:port`; several are separated by commas.
    options : mapping
        Further arguments of aiokafka's clients: security.
    prefix : str
        Stands before the name of every topic.
    timeout_s : float
        For each call, with all its attempts.

    Attributes
    ----------
    servers : str
    """

    def __init__(self, servers: str, options: Mapping[str, Any], prefix: str, timeout_s: float) -> None:
        self.servers = servers
        self._options = options
        self._prefix = prefix
        self._timeout_s = timeout_s
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self._stopping: set[asyncio.Future[None]] = set()

    async def send(self, messages: Sequence[KeyedMessage]) -> None:
        """Send messages, in their order for each key, and wait until all copies that Kafka asks for are written.

        Raises
        ------
        ServiceUnavailable
            Kafka did not store all of them within the time limit.
        ServiceRefused
            Kafka refuses a message or a right.
        """
        backoff, left = Backoff(self._timeout_s), list(messages)
        error: BaseException | None = None
        while True:
            try:
                left, error = await asyncio.wait_for(self._attempt(left), backoff.left_s)
            except asyncio.TimeoutError:
                error = error or KafkaTimeoutError("no answer")
            except KafkaError as failure:
                error = failure
            if error is None:
                return
            if not _passes(error):
                raise ServiceRefused(
                    f"Kafka at {self.servers}: got {error!r}, expected it to store the message; correct the message, "
                    "the topic's max.message.bytes, or our rights",
                    sources(left),
                ) from error
            if not await backoff.wait():
                raise ServiceUnavailable(
                    f"Kafka at {self.servers}: got {error!r}, expected {len(left)} messages to be stored within "
                    f"{self._timeout_s:g} s; {_advice(error)}, and send `unconfirmed` of this error again: each "
                    "message counts once",
                    sources(left),
                ) from error

    async def _attempt(self, messages: Sequence[KeyedMessage]) -> tuple[list[KeyedMessage], BaseException | None]:
        """Return the messages that were not stored, and why."""
        producer = await self._started()
        sent: list[asyncio.Future[Any]] = []
        untried: KafkaError | None = None
        try:
            for _, topic, key, value in messages:
                sent.append(await producer.send(self._prefix + topic, value, key))
        except KafkaError as error:
            untried = error
        outcomes = await asyncio.gather(*sent, return_exceptions=True)
        outcomes += [untried] * (len(messages) - len(sent))
        failed = [(m, o) for m, o in zip(messages, outcomes, strict=True) if isinstance(o, BaseException)]
        if not failed:
            return [], None
        reason = min((outcome for _, outcome in failed), key=_passes)
        if not isinstance(reason, UnknownTopicOrPartitionError):
            self._retire(producer)
        return [message for message, _ in failed], reason

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    bootstrap_servers=self.servers.split(","),
                    acks="all",
                    enable_idempotence=True,
                    max_request_size=MAX_REQUEST_BYTES,  # the topic's own limit decides
                    request_timeout_ms=int(self._timeout_s * 1000 / ATTEMPTS),
                    **self._options,
                )
                try:
                    await producer.start()
                except BaseException:
                    await producer.stop()
                    raise
                self._producer = producer
            return self._producer

    def _retire(self, producer: AIOKafkaProducer) -> None:
        """Let the next message get a new producer: to this one Kafka answers `OutOfOrderSequenceNumber` from now on."""
        if self._producer is producer:
            self._producer = None
            stopping = asyncio.ensure_future(stop(producer, self._timeout_s))
            self._stopping.add(stopping)
            stopping.add_done_callback(self._stopping.discard)

    async def close(self) -> None:
        """Wait until Kafka has what calls that still run have sent, at most for the time limit, and close."""
        if self._producer is not None:
            self._retire(self._producer)
        await asyncio.gather(*self._stopping)


def _passes(error: BaseException) -> bool:
    """Whether another attempt may succeed."""
    return isinstance(error, _PASSING) or getattr(error, "retriable", False) or type(error) is KafkaError


def _advice(error: BaseException) -> str:
    if isinstance(error, UnknownTopicOrPartitionError):
        return "start a worker, which creates the topics, or correct `topic_prefix`"
    return "check that it runs, then `kafka` and `kafka_options`"

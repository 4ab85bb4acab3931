"""Get messages out: send, wait for Kafka's word on each, and while Kafka is away try again.

Every message of ours may go out twice: states and lists replace, requests are overtaken, and a routed event is taken in
once. Called by both workers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import NamedTuple

import faust
from aiokafka.errors import KafkaError
from aiokafka.structs import RecordMetadata
from faust.exceptions import NotReady, ProducerSendError

from streams import outage
from streams.lease import LeaseLost

logger = logging.getLogger(__name__)

RETRY_S = 1.0


class Outgoing(NamedTuple):
    """One message to be. `topic` is the full name; without a `partition` the key's hash decides."""

    topic: str
    key: bytes | None
    value: bytes | None
    partition: int | None = None
    headers: dict[str, bytes] | None = None


class Outbox:
    """The app's producer, patient."""

    def __init__(self, app: faust.App) -> None:
        self._app = app

    async def deliver(self, messages: Sequence[Outgoing]) -> list[RecordMetadata]:
        """Return where each message was stored, once all are; in the order given within a partition.

        Raises
        ------
        LeaseLost
            Some of it may be out, some will never be: its partitions are another worker's.
        """
        while True:
            try:
                sent = [
                    await self._app.producer.send(m.topic, m.key, m.value, m.partition, None, m.headers)
                    for m in messages
                ]
                outcomes = await asyncio.gather(*sent, return_exceptions=True)
                for outcome in sorted(outcomes, key=lambda outcome: not isinstance(outcome, LeaseLost)):
                    if isinstance(outcome, BaseException):
                        raise outcome
                return [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
            except NotReady:
                if not self._app.should_stop:
                    raise
                raise asyncio.CancelledError("the worker is ending; what is not out is not acknowledged") from None
            except LeaseLost:
                raise
            except (KafkaError, ProducerSendError) as error:
                if outage.is_sign(repr(error)):
                    outage.kafka.seen(repr(error))
                else:
                    logger.warning("Kafka did not take %d messages (%r); again in %g s", len(messages), error, RETRY_S)
                await asyncio.sleep(RETRY_S)

"""`afterclick forget`: send one message to the topic `forget`. The workers erase the user when they read it."""

from __future__ import annotations

import msgspec
from aiokafka import AIOKafkaProducer

from encoders.errors import AfterclickError
from streams.contracts import Forget
from streams.kafka.client import client_options, started
from streams.kafka.record_time import now_ms
from streams.receive.decode import receive
from streams.receive.message import BadMessage, Message
from streams.settings import Settings


class NoUser(AfterclickError):
    """No user can have this id; the message says why."""


async def send(settings: Settings, user_id: str) -> None:
    """Send the message and wait until Kafka has it.

    Raises
    ------
    NoUser
        The workers would reject the id.
    KafkaUnavailable
        Kafka did not acknowledge it.
    """
    value = _message(user_id)
    producer = AIOKafkaProducer(**client_options(settings.kafka), acks="all")
    async with started(producer, settings.kafka):
        await producer.send_and_wait(settings.topic("forget"), value, key=user_id.encode())


def _message(user_id: str) -> bytes:
    try:
        value = msgspec.json.encode(Forget(user_id=user_id, timestamp=now_ms()))
        receive(Message("forget", 0, 0, None, value), now_ms())
    except BadMessage as error:
        raise NoUser(str(error)) from None
    except UnicodeEncodeError:
        raise NoUser(f"forget: user_id: got {user_id!r}, expected UTF-8; write the id as it is in the events") from None
    return value

"""Ask for a user to be erased: one message to the topic `forget`. The workers do the rest."""

from __future__ import annotations

import time

import msgspec
from aiokafka import AIOKafkaProducer

from streams.contracts import Forget
from streams.kafka_client import client_options, started
from streams.settings import Settings


async def send(settings: Settings, user_id: str) -> None:
    """Send the message and wait until Kafka has it.

    Raises
    ------
    KafkaUnavailable
        Kafka did not take it.
    """
    message = Forget(user_id=user_id, timestamp=round(time.time() * 1000))
    producer = AIOKafkaProducer(**client_options(settings.kafka), acks="all")
    async with started(producer, settings.kafka):
        await producer.send_and_wait(settings.topic("forget"), msgspec.json.encode(message), key=user_id.encode())

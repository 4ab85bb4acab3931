"""A fault of aiokafka's producer at its end. Imports aiokafka alone: programs that use the client import this too."""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka import AIOKafkaProducer


async def stop(producer: AIOKafkaProducer, timeout_s: float) -> None:
    """Stop a producer, and give up what Kafka has not stored after that time.

    Fault: an idempotent producer of aiokafka 0.14 waits for Kafka without a limit.
    """
    stopping = asyncio.ensure_future(producer.stop())
    done, _ = await asyncio.wait([stopping], timeout=timeout_s)
    if not done:
        stopping.cancel()
        sender: Any = producer._sender
        await sender.close()
        await producer.client.close()
    await asyncio.gather(stopping, return_exceptions=True)

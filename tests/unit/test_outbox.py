"""What does not get out is told while it waits: aiokafka itself tries for minutes before it says so."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import NotEnoughReplicasError

from streams.kafka import reliable_producer as producer
from streams.kafka.outgoing import Outgoing
from streams.kafka.reliable_producer import ReliableProducer


def test_a_kafka_that_takes_nothing_is_told_until_it_takes_something(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producer, "PATIENCE_S", 0.05)
    monkeypatch.setattr(producer, "RETRY_S", 0.0)
    futures: list[asyncio.Future[str]] = []

    async def send(*_: object) -> asyncio.Future[str]:
        futures.append(asyncio.get_running_loop().create_future())
        return futures[-1]

    async def run() -> None:
        app: Any = SimpleNamespace(producer=SimpleNamespace(send=send), should_stop=False)
        box = ReliableProducer(app)
        assert box.stuck == ""
        waiting = asyncio.create_task(box.deliver([Outgoing("clicks", b"k", b"v")]))
        await asyncio.sleep(0.01)
        assert box.stuck == "", "Kafka takes a moment"
        await asyncio.sleep(0.1)
        assert box.stuck == "has not taken for 0 s what we send"
        futures[-1].set_exception(NotEnoughReplicasError())
        await asyncio.sleep(0.05)
        assert "NotEnoughReplicasError" in box.stuck
        futures[-1].set_result("stored")
        assert await waiting == ["stored"]
        assert box.stuck == ""

    asyncio.run(run())

"""Messages that Kafka does not take are sent again, and health learns of them; aiokafka itself tries for minutes."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaError, KafkaTimeoutError, NotEnoughReplicasError
from faust.exceptions import ProducerSendError

from streams.faust_compat.fencing import MembershipLost
from streams.kafka import reliable_producer as producer
from streams.kafka.outgoing import Outgoing
from streams.kafka.reliable_producer import ReliableProducer


def test_the_producer_says_that_kafka_takes_nothing_until_it_takes_something(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producer, "PATIENCE_S", 0.05)
    monkeypatch.setattr(producer, "RETRY_S", 0.0)
    futures: list[asyncio.Future[str]] = []

    async def send(*_: object) -> asyncio.Future[str]:
        futures.append(asyncio.get_running_loop().create_future())
        return futures[-1]

    async def run() -> None:
        app: Any = SimpleNamespace(producer=SimpleNamespace(send=send), should_stop=False)
        patient = ReliableProducer(app)
        assert patient.stuck == ""
        waiting = asyncio.create_task(patient.deliver([Outgoing("clicks", b"k", b"v")]))
        await asyncio.sleep(0.01)
        assert patient.stuck == "", "Kafka takes a moment"
        await asyncio.sleep(0.1)
        assert patient.stuck == "has stored nothing that we send for 0 s"
        futures[-1].set_exception(NotEnoughReplicasError())
        await asyncio.sleep(0.05)
        assert "NotEnoughReplicasError" in patient.stuck
        futures[-1].set_result("stored")
        assert await waiting == ["stored"]
        assert patient.stuck == ""

    asyncio.run(run())


class Flaky:
    """An app whose producer fails with the given outcomes, send by send, and then works."""

    should_stop = False

    def __init__(self, *outcomes: Exception | None) -> None:
        self.producer = self
        self.sent = 0
        self._outcomes = list(outcomes)

    async def send(self, *_: Any) -> Any:
        self.sent += 1
        outcome = self._outcomes.pop(0) if self._outcomes else None
        if isinstance(outcome, ProducerSendError):
            raise outcome
        future = asyncio.get_running_loop().create_future()
        if outcome is None:
            future.set_result("place")
        else:
            future.set_exception(outcome)
        return future


@pytest.mark.parametrize("failure", [KafkaTimeoutError(), ProducerSendError("a full buffer")])
def test_a_message_that_kafka_did_not_take_is_sent_again(failure: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producer, "RETRY_S", 0.01)
    app: Any = Flaky(failure)
    assert asyncio.run(ReliableProducer(app).deliver([Outgoing("t", b"k", b"v")])) == ["place"]
    assert app.sent == 2


def test_messages_of_lost_partitions_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producer, "RETRY_S", 60)
    app: Any = Flaky(KafkaTimeoutError(), MembershipLost("gone"), None)
    with pytest.raises(MembershipLost):
        asyncio.run(ReliableProducer(app).deliver([Outgoing("t", b"k", b"v")] * 3))
    assert issubclass(MembershipLost, KafkaError)

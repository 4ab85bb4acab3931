"""Messages that Kafka does not take are sent again, and health learns of them; aiokafka itself tries for minutes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaError, KafkaTimeoutError, NotEnoughReplicasError
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.structs import RecordMetadata
from faust.exceptions import ProducerSendError
from hypothesis import given
from hypothesis import strategies as st

from streams.faust_compat.fencing import MembershipLost
from streams.faust_compat.transport import FencedProducer
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


class Broker:
    """A producer whose partitions keep what they are sent; the first attempts fail at some of them."""

    should_stop = False

    def __init__(self, failing: dict[int, int]) -> None:
        self.producer = self
        self.failing = failing
        self.stored: dict[int, list[bytes]] = {}

    async def send(self, topic: str, key: bytes, value: bytes, partition: int, *_: Any) -> Any:
        [(_, stored)] = await self.send_together(topic, partition, [{"value": value}])
        return stored

    async def send_together(self, topic: str, partition: int, records: Iterable[dict[str, Any]]) -> list[Any]:
        values, sent = [record["value"] for record in records], []
        for begin in range(0, len(values), 2):
            outcome = asyncio.get_running_loop().create_future()
            if self.failing.get(partition, 0):
                self.failing[partition] -= 1
                outcome.set_exception(NotEnoughReplicasError())
            else:
                log = self.stored.setdefault(partition, [])
                outcome.set_result(RecordMetadata(topic, partition, None, len(log), 0, 0, None))
                log += values[begin : begin + 2]
            sent.append((len(values[begin : begin + 2]), outcome))
        return sent


@given(
    partitions=st.lists(st.integers(0, 2), max_size=9), failing=st.dictionaries(st.integers(0, 2), st.integers(0, 2))
)
def test_messages_of_partitions_go_together_and_each_learns_where_it_is(
    partitions: list[int], failing: dict[int, int]
) -> None:
    app: Any = Broker(failing)
    messages = [Outgoing("t", b"k", b"%d" % number, partition) for number, partition in enumerate(partitions)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(producer, "RETRY_S", 0.0)
        places = asyncio.run(ReliableProducer(app).deliver(messages))
    assert [place.partition for place in places] == partitions
    assert [app.stored[place.partition][place.offset] for place in places] == [m.value for m in messages]
    for partition, log in app.stored.items():
        last_attempt = [m.value for m in messages if m.partition == partition]
        assert log[-len(last_attempt) :] == last_attempt, "in their order"


def test_a_batch_takes_what_fits_and_an_empty_one_a_record_of_any_size() -> None:
    sent: list[list[int]] = []

    class Aiokafka:
        def create_batch(self) -> BatchBuilder:
            return BatchBuilder(300, 0)

        async def send_batch(self, batch: BatchBuilder, topic: str, *, partition: int) -> str:
            sent.append([batch.record_count(), partition])
            return topic

    fenced: Any = FencedProducer.__new__(FencedProducer)
    fenced._ensure_producer = Aiokafka
    sizes = [500, 10, 10, 400, 90, 90, 90]
    records: list[Any] = [{"key": b"k", "value": b"v" * size, "timestamp": None, "headers": []} for size in sizes]
    assert asyncio.run(fenced.send_together("t", 4, records)) == [(1, "t"), (2, "t"), (1, "t"), (2, "t"), (1, "t")]
    assert sent == [[1, 4], [2, 4], [1, 4], [2, 4], [1, 4]]

"""An upstream's request without features: who completes it, who waits, and what happens if nobody answers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import numpy as np
import pytest

from ranker.features import NAMES, SCHEMA
from ranker.score import FeatureSet
from streams.contracts import Features, RankRequest, Recommendations
from streams.kafka.client import partition_of
from streams.kafka.outgoing import Outgoing
from streams.kafka.own_messages import OUR_REQUEST, TO_COMPLETE, origin
from streams.rank import completion
from streams.rank.tier import RankTier
from streams.rank.worker import RankWorker
from streams.settings import CandidatesSettings, Settings
from tests.unit.test_rank_worker import Slow, event

SETTINGS = Settings()
ANN_IS_AT = partition_of(b"ann", SETTINGS.kafka.partitions)


class Reader(Slow):
    """A model with a fusion head."""

    feature_set: Any = FeatureSet(NAMES, "")


class Broker:
    """Stands for Kafka and Redis: keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[Outgoing] = []

    async def deliver(self, messages: Sequence[Outgoing]) -> list[Any]:
        self.sent += messages
        return []

    async def write(self, published: Sequence[Any], written: Sequence[Any]) -> None: ...

    def of(self, topic: str) -> list[Outgoing]:
        return [message for message in self.sent if message.topic == topic]

    @property
    def degraded(self) -> list[str | None]:
        lists = (msgspec.json.decode(m.value or b"", type=Recommendations) for m in self.of("recommendations"))
        return [list_.degraded for list_ in lists]


class World:
    def __init__(self, threads: ThreadPoolExecutor, settings: Settings = SETTINGS, scorer: Any = None) -> None:
        self.broker = Broker()
        out: Any = self.broker
        self.worker = RankWorker(settings, RankTier(settings, scorer or Reader()), out, out, threads)
        self.acked: list[int] = []

    async def take(self, offset: int, partition: int = ANN_IS_AT, ours: bool = False) -> None:
        received = event("ann", offset)
        received.ack = lambda: self.acked.append(offset)
        received.message.partition = partition
        if ours:
            request = msgspec.json.decode(received.message.value, type=RankRequest)
            rows = np.zeros((len(request.candidates), len(NAMES)), np.float16).tobytes()
            completed = msgspec.structs.replace(request, features=Features(schema=SCHEMA, values=rows))
            received.message.value = msgspec.json.encode(completed)
            received.message.headers = list(OUR_REQUEST.items())
        await self.worker.take(received)


def play(steps: Any, settings: Settings = SETTINGS, scorer: Any = None) -> World:
    async def played() -> World:
        with ThreadPoolExecutor(1) as threads:
            world = World(threads, settings, scorer)
            running = asyncio.create_task(world.worker.run())
            await steps(world)
            await world.worker.acks.drain(5)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            return world

    return asyncio.run(played())


def test_the_list_waits_for_the_completed_request() -> None:
    async def steps(world: World) -> None:
        await world.take(0)
        await asyncio.sleep(0.1)
        assert world.broker.degraded == []
        assert world.acked == [], "a crash now would lose nothing"
        [routed] = world.broker.of("routed-events")
        assert (origin(routed.headers), routed.key) == (TO_COMPLETE, b"ann")
        await world.take(1, ours=True)

    world = play(steps)
    assert world.broker.degraded == [None]
    assert sorted(world.acked) == [0, 1]
    assert len(world.broker.of("routed-events")) == 1, "a completed request goes round no more"


def test_if_no_state_worker_answers_the_model_reads_the_texts_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completion, "WAIT_S", 0.1)

    async def steps(world: World) -> None:
        await world.take(0)
        await world.worker.acks.drain(5)
        world.worker._completion._wait_s = 60  # a list that waited would not be out at the end
        await world.take(1)
        await world.worker.acks.drain(5)

    world = play(steps)
    assert world.broker.degraded == ["no-features"] * 2
    assert len(world.broker.of("routed-events")) == 1, "the second did not wait"


def test_a_request_elsewhere_goes_to_the_partition_of_its_user() -> None:
    async def steps(world: World) -> None:
        await world.take(0, partition=ANN_IS_AT + 1)

    world = play(steps)
    [forwarded] = world.broker.of("rank-requests")
    assert (forwarded.partition, forwarded.key, forwarded.headers) == (ANN_IS_AT, b"ann", None)
    assert (world.broker.degraded, world.acked) == ([], [0])


def test_a_request_for_a_domain_is_completed_whatever_ranks_it_and_a_wrong_one_is_rejected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(completion, "WAIT_S", 0.1)

    async def steps(world: World) -> None:
        for offset, (domain, is_empty) in enumerate([("films", True), ("films", False), ("music", True)]):
            received = event("ann", offset)
            request = msgspec.json.decode(received.message.value) | {"domain": domain}
            if is_empty:
                request["candidates"] = []
            received.message.partition, received.message.value = ANN_IS_AT, msgspec.json.encode(request)
            await world.worker.take(received)

    world = play(steps, Settings(candidates=CandidatesSettings(domains=("films",))), Slow())
    [routed] = world.broker.of("routed-events")
    assert msgspec.json.decode(routed.value or b"")["domain"] == "films"
    errors = [msgspec.json.decode(letter.value or b"")["error"] for letter in world.broker.of("dead-letters")]
    assert [error.partition(";")[0] for error in errors] == [
        "rank-requests: domain: got one with candidates, expected one of the two",
        "rank-requests: domain: got 'music', expected one that is declared (films)",
    ]

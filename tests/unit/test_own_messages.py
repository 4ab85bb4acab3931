"""Workers take their own messages whatever clocks say, and do not take imitations by other programs."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from streams.contracts import COLD_START_USER
from streams.kafka.client import partition_of
from streams.kafka.own_messages import OUR_REQUEST, is_our_request, origin, routed_headers, written_ms
from streams.kafka.record_time import RecordTimes
from streams.rank.tier import RankTier
from streams.rank.worker import RankWorker
from streams.settings import Settings
from streams.state.event_router import ROUTED
from tests.unit.test_rank_worker import Slow, event
from tests.unit.test_state_worker import NOW, SETTINGS, World

DAY = 86_400_000


@pytest.fixture(autouse=True)
def _kafka_bounds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def config(*_: Any) -> dict[str, str]:
        return {}

    monkeypatch.setattr(RecordTimes, "_config", config)


class Published:
    """Takes lists and dead letters."""

    def __init__(self) -> None:
        self.lists: dict[str, Any] = {}
        self.letters: list[Any] = []

    async def deliver(self, messages: Any) -> list[Any]:
        for message in messages:
            value = message.value and json.loads(message.value)
            if message.topic == "dead-letters":
                self.letters.append(value)
            else:
                self.lists[message.key.decode()] = value
        return []

    async def write(self, published: Any, indices: Any) -> None:
        pass


async def ranked(*events: Any) -> Published:
    out: Any = Published()
    with ThreadPoolExecutor(1) as thread:
        worker = RankWorker(Settings(), RankTier(Settings(), Slow()), out, out, thread)
        running = asyncio.create_task(worker.run())
        for one in events:
            await worker.take(one)
            await worker.acks.drain(5)
        running.cancel()
    return out  # type: ignore[no-any-return]


def asked(user_id: str, offset: int, ours: bool, ahead_ms: int = 0, tombstone: bool = False) -> Any:
    one = event(user_id, offset)
    request = json.loads(one.message.value)
    one.message.value = None if tombstone else json.dumps(request | {"as_of": NOW + ahead_ms}).encode()
    one.message.headers = list(OUR_REQUEST.items()) if ours else None
    return one


def test_only_our_own_request_makes_the_cold_start_list() -> None:
    out = asyncio.run(
        ranked(
            asked("*", 0, ours=True),
            asked("*", 1, ours=False),
            asked("*", 2, ours=False, tombstone=True),
            asked("ann", 3, ours=False),
        )
    )
    assert out.lists["*"]["list_id"] == "r0"
    assert set(out.lists) == {"*", "ann"}
    assert [(letter["offset"], letter["cause"]) for letter in out.letters] == [
        (1, "user_id reserved"),
        (2, "user_id reserved"),
    ]


def test_no_request_of_our_own_is_refused_for_its_time() -> None:
    """Another's is; and one that is dated a little after its record is as of its record."""
    out = asyncio.run(
        ranked(
            asked("ann", 0, ours=True, ahead_ms=40 * DAY),
            asked("bob", 1, ours=False, ahead_ms=40 * DAY),
            asked("cyd", 2, ours=False, ahead_ms=DAY // 2),
        )
    )
    assert out.lists["ann"]["as_of"] == NOW + 40 * DAY
    assert out.lists["cyd"]["as_of"] == NOW
    assert [letter["offset"] for letter in out.letters] == [1]


def test_the_state_tier_marks_every_request_that_it_sends() -> None:
    world = World()
    asyncio.run(world.work([world.click("u", "e1"), world.forget("v", 1)]))
    requests = world.broker.of("rank-requests")
    assert {(message.key, message.value is None) for message in requests} == {(b"u", False), (b"v", True)}
    assert all(is_our_request(list((message.headers or {}).items())) for message in requests)


def test_a_routed_event_counts_when_its_first_record_was_written() -> None:
    """The worker that routes may have a wrong clock, and routes once more after a reset of offsets."""
    world = World()
    home = partition_of(b"u", SETTINGS.kafka.partitions)
    away = (home + 1) % SETTINGS.kafka.partitions
    asyncio.run(world.work([world.click("u", "e1", DAY // 2, partition=away, written_ms=NOW + 5)]))
    [routed] = world.broker.of(ROUTED)
    for clock_ms in (-40 * DAY, 40 * DAY):
        other = World()
        headers: dict[str, Any] = dict(routed.headers or {})
        arrived = other.event(ROUTED, "u", routed.value, partition=home, written_ms=NOW + clock_ms, **headers)
        asyncio.run(other.work([arrived]))
        assert other.tier.users.get("u").interest.as_of_ms == NOW + 5
        assert other.broker.of("dead-letters") == []


def test_no_routed_event_belongs_to_the_cold_start_user() -> None:
    world = World()
    click = json.dumps({"event_id": "e", "user_id": "*", "item_id": "a", "timestamp": NOW}).encode()
    home = partition_of(b"*", SETTINGS.kafka.partitions)
    headers: dict[str, Any] = dict(routed_headers("clicks", NOW))
    asyncio.run(world.work([world.event(ROUTED, "*", click, partition=home, **headers)]))
    assert world.version("*") == 0
    assert len(world.broker.of("dead-letters")) == 1


def test_headers_of_other_programs_are_ignored() -> None:
    assert (origin(None), written_ms(None), is_our_request(None)) == ("", None, False)
    for headers in ([("origin", None)], [("origin", b"\xff")], [("written", b"-5")], [("written", b"1" * 40)], []):
        assert not is_our_request(headers)
        assert written_ms(headers) is None
        assert origin(headers) in ("", "\ufffd")
    assert (origin(routed_headers("clicks", 5)), written_ms(routed_headers("clicks", 5))) == ("clicks", 5)
    assert COLD_START_USER == "*"

"""Lists that went out without the model: which wait, in which order they are ranked again, and what cancels that."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import numpy as np
import pytest
from faust.types import TP

from ranker.features import NAMES, SCHEMA
from ranker.score import FeatureSet
from streams.contracts import Features, RankRequest, Recommendations
from streams.kafka.outgoing import Outgoing
from streams.kafka.own_messages import AGAIN, OUR_REQUEST, TO_COMPLETE, TO_MAKE_ANEW, origin
from streams.rank import degraded_lists, rank_again
from streams.rank.degraded_lists import DegradedList, DegradedLists, FoundList, Slot
from streams.rank.tier import RankTier
from streams.rank.worker import RankWorker
from streams.settings import RankerSettings, Settings
from tests.unit.test_rank_worker import LIST_S, Slow, event

MAX_WAIT_S = 0.4
OURS = list(OUR_REQUEST.items())


def lists_of(*users: str, partition: int = 0) -> DegradedLists:
    lists = DegradedLists()
    lists.own({0, 1})
    lists.read({0, 1}, {})
    for user_id in users:
        lists.add((user_id, None), DegradedList(partition))
    return lists


def taken(lists: DegradedLists, limit: int = 9) -> list[str]:
    return [user_id for (user_id, _), _ in lists.take(limit)]


def test_the_oldest_lists_are_taken_first_and_only_some_at_a_time() -> None:
    lists = lists_of("ann", "bob", "cid")
    assert (taken(lists, 2), taken(lists, 2)) == (["ann", "bob"], [])
    lists.discard(("ann", None))
    lists.put_back(("bob", None), failed=True)
    assert taken(lists, 2) == ["cid", "bob"], "who had a turn comes last"
    assert (len(lists), lists.any.is_set()) == (2, True)
    lists = lists_of(*"abcdefgh")
    assert taken(lists, 4) == ["a", "b", "c", "d"]
    lists.discard(("a", None))
    assert taken(lists, 4) == [], "many at a time"
    lists.discard(("b", None))
    assert taken(lists, 4) == ["e", "f"]


def test_a_new_partition_brings_the_degraded_lists_of_the_topic() -> None:
    lists = lists_of()
    lists.own({0, 1, 2})
    assert (lists.unread(), lists.any.is_set()) == ({2}, True)
    lists.add(("bob", None), DegradedList(2, kept=b"{}"))
    found: dict[Slot, FoundList] = {(user, None): FoundList(2, n) for user, n in (("bob", 2), ("dan", 4), ("cid", 3))}
    lists.read({2}, found)
    assert lists.take(9) == [(("bob", None), b"{}"), (("cid", None), None), (("dan", None), None)]


def test_a_lost_partition_takes_its_lists_along() -> None:
    lists = lists_of("ann")
    lists.add(("bob", None), DegradedList(1))
    taken(lists, 1)
    lists.revoke({0})
    lists.add(("cid", None), DegradedList(0))
    assert taken(lists) == ["bob"]


def test_a_list_that_fails_while_others_are_ranked_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """An outage of the model, or of the state tier, is no reason to give up."""
    lists = lists_of("ann")
    for _ in range(2 * degraded_lists.MAX_FAILURES):
        assert taken(lists) == ["ann"]
        lists.put_back(("ann", None), failed=True)
    for _ in range(degraded_lists.MAX_FAILURES):
        assert taken(lists) == ["ann"]
        time.sleep(0.001)
        lists.discard(("bob", None))
        lists.put_back(("ann", None), failed=True)
    assert (taken(lists), len(lists), lists.any.is_set()) == ([], 0, False)
    monkeypatch.setattr(degraded_lists, "ANSWER_S", -1.0)
    lists = lists_of("ann")
    for _ in range(degraded_lists.MAX_FAILURES):
        assert taken(lists) == ["ann"], "nobody answers the first time"
        time.sleep(0.001)
        lists.discard(("bob", None))
    assert taken(lists) == []


def test_memory_is_bounded_and_what_is_beyond_is_read_from_the_topic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(degraded_lists, "MAX_LISTS", 2)
    monkeypatch.setattr(degraded_lists, "MAX_KEPT_BYTES", 3)
    lists = lists_of("ann", "bob", "cid")
    assert (len(lists), lists.unread()) == (2, set()), "no room"
    lists.discard(("ann", None))
    assert lists.unread() == {0}
    lists.read({0}, {("cid", None): FoundList(0, 1)})
    assert (taken(lists), lists.unread()) == (["bob", "cid"], set())
    lists = lists_of()
    assert lists.add(("ann", "cart"), DegradedList(0, kept=b"abc"))
    assert not lists.add(("bob", "cart"), DegradedList(0, kept=b"abc"))
    assert lists.add(("ann", "cart"), DegradedList(0, kept=b"abd")), "the older one makes room"
    assert len(lists) == 1


class Broker:
    """Stands for Kafka and Redis: keeps the lists in order, and the questions to the state tier."""

    def __init__(self) -> None:
        self.lists: list[tuple[str, int, str | None]] = []
        self.asked: list[str] = []
        self.incomplete: list[RankRequest] = []

    async def deliver(self, messages: Sequence[Outgoing]) -> list[Any]:
        for message in messages:
            if message.topic == "routed-events" and origin(message.headers) == TO_COMPLETE:
                self.incomplete.append(msgspec.json.decode(message.value or b"", type=RankRequest))
            elif message.topic == "routed-events":
                assert origin(message.headers) == TO_MAKE_ANEW
                self.asked.append((message.key or b"").decode())
            elif message.value is not None:
                list_ = msgspec.json.decode(message.value, type=Recommendations)
                self.lists.append((list_.user_id, list_.state_version, list_.degraded))
        return []  # the index of published lists learns nothing

    async def write(self, published: Sequence[Any], written: Sequence[Any]) -> None: ...

    def of(self, user_id: str) -> list[tuple[int, str | None]]:
        return [(version, degraded) for user, version, degraded in self.lists if user == user_id]


class World:
    def __init__(self, threads: ThreadPoolExecutor, model: Any) -> None:
        self.broker, self._offset = Broker(), 0
        out: Any = self.broker
        settings = Settings(ranker=RankerSettings(max_wait_ms=round(MAX_WAIT_S * 1000), placements=("cart",)))
        self.worker = RankWorker(settings, RankTier(settings, model), out, out, threads)
        self.worker.own({0})

    async def take(self, user_id: str, version: int, *, again: bool = False, **changes: Any) -> None:
        received, self._offset = event(user_id, self._offset), self._offset + 1
        request = msgspec.json.decode(received.message.value, type=RankRequest)
        changed = msgspec.structs.replace(request, state_version=version, **changes)
        received.message.value, received.message.tp = msgspec.json.encode(changed), TP("rank-requests", 0)
        received.message.headers = [*OURS, (AGAIN, b"")] if again else OURS
        await self.worker.take(received)

    async def overload(self, users: int) -> None:
        """Have most of these users' lists go out without the model."""
        for number in range(users):
            await self.take(f"u{number}", 1)
        await self.worker.acks.drain(5)

    async def answer(self) -> None:
        """Answer the questions as the state tier does, for ever."""
        answered = 0
        while True:
            for user_id in self.broker.asked[answered:]:
                answered += 1
                await self.take(user_id, 1, again=True)
            await asyncio.sleep(0.01)

    @property
    def waiting(self) -> list[str]:
        newest = {user: degraded for user, _, degraded in self.broker.lists}
        return [user for user, degraded in newest.items() if degraded]


@pytest.fixture
def play() -> Callable[..., World]:
    """Run a worker."""

    def played(steps: Callable[[World], Awaitable[None]], model: Any = None) -> World:
        async def run() -> World:
            with ThreadPoolExecutor(1) as threads:
                world = World(threads, model or Slow())
                running = asyncio.create_task(world.worker.run())
                try:
                    await steps(world)
                finally:
                    running.cancel()
                    await asyncio.gather(running, return_exceptions=True)
                return world

        return asyncio.run(run())

    return played


async def until(condition: Callable[[], Any]) -> None:
    for _ in range(3_000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the condition is still false")


def test_every_list_is_ranked_again_once_there_is_room_and_whoever_clicks_meanwhile_comes_first(
    play: Callable[..., World],
) -> None:
    async def steps(world: World) -> None:
        await world.overload(60)
        late = world.waiting
        assert len(late) > 20
        state_tier = asyncio.create_task(world.answer())
        await until(lambda: len(world.waiting) < len(late))
        await world.take("fresh", 7)
        await until(lambda: world.broker.of("fresh"))
        assert world.broker.of("fresh") == [(7, None)]
        assert len(world.waiting) > len(late) / 2
        await until(lambda: not world.waiting)
        assert world.broker.asked == late, "each once, the oldest first"
        assert {tuple(world.broker.of(user_id)) for user_id in late} == {((1, "overload"), (1, None))}
        await world.worker.acks.drain(5)
        assert len(world.worker.acks) == 0
        state_tier.cancel()

    play(steps)


def test_a_newer_list_a_forgotten_user_and_a_revoked_partition_cancel_it(play: Callable[..., World]) -> None:
    async def steps(world: World) -> None:
        await world.overload(40)
        newer, forgotten, *others = world.waiting
        await world.take(newer, 2)
        gone = event(forgotten, 99)
        gone.message.value, gone.message.headers = None, OURS
        await world.worker.take(gone)
        await world.worker.acks.drain(5)
        for user_id in (newer, forgotten, others[0]):
            await world.take(user_id, 1, again=True)
        await until(lambda: world.broker.of(others[0])[-1] == (1, None))
        assert world.broker.of(newer)[-1][0] == 2
        assert world.broker.of(forgotten) == [(1, "overload")]
        await world.take(others[1], 1, again=True)
        await world.worker.on_revoke({TP("rank-requests", 0)})
        await asyncio.sleep(5 * LIST_S)
        assert world.broker.of(others[1]) == [(1, "overload")]
        assert len(world.worker.acks) == 0

    play(steps)


def test_the_list_of_a_user_without_a_history_is_as_with_the_model(play: Callable[..., World]) -> None:
    async def steps(world: World) -> None:
        await world.overload(40)
        cold = [f"cold{number}" for number in range(40)]
        for user_id in cold:
            await world.take(user_id, 1, history=[])
        await world.worker.acks.drain(5)
        assert {tuple(world.broker.of(user_id)) for user_id in cold} == {((1, "cold-user"),)}

    play(steps)


def test_an_upstreams_request_is_kept_in_memory(play: Callable[..., World]) -> None:
    async def steps(world: World) -> None:
        for number in range(60):
            await world.take(f"u{number}", 0, placement="cart")
        await world.worker.acks.drain(5)
        assert len(world.waiting) > 10
        await until(lambda: not world.waiting)
        assert world.broker.asked == []

    play(steps)


class WithParts(Slow):
    """A model with a head, and learnt sources of the version `new`."""

    feature_set: Any = FeatureSet(NAMES, "new")


def test_a_list_with_other_features_is_ranked_again_with_the_features_of_the_model(play: Callable[..., World]) -> None:
    """Its request is made anew; an upstream's is completed again."""

    def sent(version: str) -> Features:
        return Features(schema=SCHEMA, values=np.zeros((5, len(NAMES)), np.float16).tobytes(), version=version)

    async def steps(world: World) -> None:
        await world.take("ann", 1, features=sent("old"))
        await world.take("bob", 0, placement="cart", features=sent("old"))
        await until(lambda: world.broker.asked and world.broker.incomplete)
        assert world.broker.of("ann") == [(1, "other-features")]
        assert world.broker.of("bob") == [(0, "other-features")]
        assert world.broker.asked == ["ann"]
        assert [(one.user_id, one.placement, one.features) for one in world.broker.incomplete] == [
            ("bob", "cart", None)
        ]
        await world.take("ann", 1, again=True, features=sent("new"))
        await world.take("bob", 0, placement="cart", features=sent("new"))
        await until(lambda: not world.waiting)

    play(steps, WithParts())


class Broken(Slow):
    def score(self, requests: Any) -> Any:
        raise RuntimeError("no memory left on the device")


def test_a_model_that_fails_again_writes_no_second_list_and_is_left_alone_for_a_while(
    play: Callable[..., World],
) -> None:
    async def steps(world: World) -> None:
        await world.take("ann", 1)
        await until(lambda: world.broker.asked)
        await world.take("ann", 1, again=True)
        await world.worker.acks.drain(5)
        await asyncio.sleep(4 * rank_again.ROUND_S)
        assert world.broker.of("ann") == [(1, "model-error")]
        assert world.broker.asked == ["ann"], "it pauses"

    play(steps, Broken())

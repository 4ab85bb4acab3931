"""The state worker without Kafka: what each event causes, and in which order events are acknowledged."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import numpy as np
import pytest
from aiokafka.structs import RecordMetadata, TopicPartition

from ranker.recall.candidates import BUILT_IN, Source
from ranker.recall.catalogue import Catalogue
from ranker.recall.counts import Counts
from streams import metrics
from streams.contracts import Item, RankRequest
from streams.faust_compat.fencing import MembershipLost
from streams.kafka.client import partition_of
from streams.kafka.outgoing import Outgoing
from streams.kafka.own_messages import ORIGIN, TO_MAKE_ANEW, WRITTEN, is_again, is_later, routed_headers
from streams.kafka.reliable_producer import ReliableProducer
from streams.kafka.topics import changelog_name
from streams.settings import CandidatesSettings, Settings
from streams.state import cold_start, due_requests, intake, item_counts, worker
from streams.state.event_router import ROUTED
from streams.state.tier import StateTier
from streams.state.users import Users
from streams.state.worker import StateWorker
from tests.stores import MemoryStore

DIM, NOW = 8, 1_790_000_000_000
SETTINGS = Settings()
CHANGELOG = changelog_name(SETTINGS)


class Broker:
    """Stands in for Kafka: it records the messages of each call, and gives each message metadata."""

    def __init__(self) -> None:
        self.calls: list[list[Outgoing]] = []

    async def deliver(self, messages: Sequence[Outgoing]) -> list[RecordMetadata]:
        await asyncio.sleep(0)
        if messages:
            self.calls.append(list(messages))
        return [cast(RecordMetadata, SimpleNamespace(topic=m.topic, partition=0, offset=0)) for m in messages]

    def of(self, topic: str) -> list[Outgoing]:
        return [message for call in self.calls for message in call if message.topic == topic]


class World:
    """A worker over such a broker, and events whose acknowledgements are recorded."""

    def __init__(
        self, sources: Sequence[Source] = (), items: Sequence[str] = ("a",), settings: Settings = SETTINGS
    ) -> None:
        self.broker, self.store, self.acked = Broker(), MemoryStore(), list[int]()
        self.tier = StateTier(settings, Users(self.store, DIM), Catalogue(DIM), Counts(9e9, 9e8), sources)
        for item_id in items:
            self.tier.put_item(Item(item_id=item_id, title=item_id), np.eye(DIM, dtype=np.float32)[0], NOW)
        producer = cast(ReliableProducer, self.broker)
        encoder: Any = SimpleNamespace(encode=lambda texts: np.eye(DIM, dtype=np.float32)[: len(texts)])
        self.worker = StateWorker(settings, self.tier, encoder, ThreadPoolExecutor(1), producer, self.store, CHANGELOG)
        self._offset = 0

    def event(
        self,
        topic: str,
        user_id: str,
        value: bytes | None,
        partition: int | None = None,
        written_ms: int = NOW + 1_000,
        timestamp_type: int = 0,
        offset: int | None = None,
        **headers: bytes,
    ) -> Any:
        if offset is None:
            offset, self._offset = self._offset, self._offset + 1
        home = partition_of(user_id.encode(), SETTINGS.kafka.partitions)
        message = SimpleNamespace(
            topic=topic,
            partition=home if partition is None else partition,
            offset=offset,
            key=user_id.encode(),
            value=value,
            timestamp=written_ms / 1000,
            timestamp_type=timestamp_type,
            headers=list(headers.items()),
            tp=TopicPartition("one order for all", 0),
        )
        return SimpleNamespace(message=message, ack=lambda: self.acked.append(offset))

    def click(
        self,
        user_id: str,
        event_id: str,
        after_ms: int = 0,
        *,
        topic: str = "clicks",
        list_id: str | None = None,
        **more: Any,
    ) -> Any:
        click = {"event_id": event_id, "user_id": user_id, "item_id": "a", "timestamp": NOW + after_ms}
        click |= {"list_id": list_id} if list_id else {}
        return self.event(topic, user_id, json.dumps(click).encode(), **more)

    def forget(self, user_id: str, after_ms: int = 0, **more: Any) -> Any:
        wish = {"user_id": user_id, "timestamp": NOW + after_ms}
        return self.event("forget", user_id, json.dumps(wish).encode(), **more)

    async def work(self, events: Sequence[Any]) -> None:
        """Give the worker these events at once, and wait until all are acknowledged."""
        running = asyncio.create_task(self.worker.run())
        await self.worker.take(events)
        await self.worker.acks.drain(20)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert len(self.worker.acks) == 0

    def version(self, user_id: str) -> int:
        return Users(self.store, DIM).get(user_id).interest.version


def test_a_request_is_made_while_kafka_stores_the_state_and_sent_after_that() -> None:
    world, order = World(), list[str]()
    deliver, request = world.broker.deliver, world.tier.request

    async def stored_late(messages: Sequence[Outgoing]) -> list[RecordMetadata]:
        name = messages[0].topic if messages else ""
        order.append(f"sent {name}")
        await asyncio.sleep(0.05)
        order.append(f"stored {name}")
        return await deliver(messages)

    def noted(*arguments: Any) -> RankRequest:
        order.append("made")
        return request(*arguments)

    world.broker.deliver, world.tier.request = stored_late, noted  # type: ignore[method-assign,assignment]
    asyncio.run(world.work([world.click("u", "e1")]))
    states, requests = CHANGELOG, "rank-requests"
    assert order[:5] == [f"sent {states}", "made", f"stored {states}", f"sent {requests}", f"stored {requests}"]
    assert world.acked == [0]


def test_no_request_tells_of_a_state_that_kafka_did_not_store() -> None:
    world = World()
    deliver = world.broker.deliver

    async def lost(messages: Sequence[Outgoing]) -> list[RecordMetadata]:
        await asyncio.sleep(0.01)
        if any(message.topic == CHANGELOG for message in messages):
            raise MembershipLost("another worker has them")
        return await deliver(messages)

    async def work() -> None:
        world.broker.deliver = lost  # type: ignore[method-assign]
        running = asyncio.create_task(world.worker.run())
        await world.worker.take([world.click("u", "e1")])
        await asyncio.sleep(0.1)
        assert (world.broker.calls, world.acked, world.version("u")) == ([], [], 0)
        world.broker.deliver = deliver  # type: ignore[method-assign]
        world.worker.refresh(["u"])  # the lost request is not sent with a later one
        await asyncio.sleep(0.1)
        running.cancel()

    asyncio.run(work())
    assert (world.broker.calls, world.acked) == ([], [])


def test_many_events_are_one_write_and_one_request_per_user() -> None:
    world = World()
    events = [world.click(f"u{number % 3}", f"e{number}", number) for number in range(45)]
    asyncio.run(world.work(events))
    assert sorted(m.key or b"" for m in world.broker.of(CHANGELOG)) == [b"uu0", b"uu1", b"uu2"]
    assert sorted(m.key or b"" for m in world.broker.of("rank-requests")) == [b"u0", b"u1", b"u2"]
    assert {json.loads(m.value or b"")["trigger"]["event_id"] for m in world.broker.of("rank-requests")} == {
        "e42",
        "e43",
        "e44",
    }
    assert [world.version(f"u{number}") for number in range(3)] == [15, 15, 15]
    assert world.acked == list(range(45))


def test_a_request_has_the_feedback_of_each_click_once() -> None:
    world = World()
    clicks = [("e1", "l1"), ("e2", None), ("e1", "l1"), ("e3", "l2")]
    asyncio.run(world.work([world.click("u", event_id, list_id=list_id) for event_id, list_id in clicks]))
    [request] = world.broker.of("rank-requests")
    feedback = json.loads(request.value or b"")["feedback"]
    assert feedback == [{"list_id": "l1", "item_id": "a"}, {"list_id": "l2", "item_id": "a"}]


def test_each_event_makes_a_list_of_each_domain_and_its_feedback_counts_once() -> None:
    candidates = CandidatesSettings(domains=("books", "films"))
    world = World(settings=SETTINGS.model_copy(update={"candidates": candidates}))
    asyncio.run(world.work([world.click("u", "e1", list_id="l1")]))
    requests = [json.loads(message.value or b"") for message in world.broker.of("rank-requests")]
    assert [(one.get("placement"), one.get("domain")) for one in requests] == [
        (None, None),
        ("books", "books"),
        ("films", "films"),
    ]
    assert [bool(one.get("feedback")) for one in requests] == [True, False, False]
    assert len({one["request_id"] for one in requests}) == 3
    assert {one["state_version"] for one in requests} == {1}


def test_the_cold_start_list_is_made_whenever_its_candidates_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cold_start, "EVERY_S", 0.01)
    world = World(BUILT_IN, items=())
    monkeypatch.setattr(time, "time", lambda: NOW / 1000 + 40 * 86_400)  # the worker's own clock is not used
    world.store.held = ()

    def item(item_id: str, stored_ms: int) -> Any:
        value = f'{{"item_id": "{item_id}", "title": "{item_id}"}}'.encode()
        key = item_id.encode()
        return SimpleNamespace(
            topic="items", partition=0, offset=0, key=key, value=value, timestamp=stored_ms, timestamp_type=0
        )

    async def lists(count: int) -> list[list[str]]:
        serving = asyncio.create_task(world.worker.serve_cold_start())
        await asyncio.sleep(0.2)
        assert not serving.done()
        serving.cancel()
        requests = [json.loads(message.value or b"") for message in world.broker.of("rank-requests")]
        assert len(requests) == count
        assert {request["user_id"] for request in requests} <= {"*"}
        assert [request["as_of"] for request in requests] == [NOW, NOW + 1][:count], "of the newest record"
        return [[candidate["item_id"] for candidate in request["candidates"]] for request in requests]

    asyncio.run(lists(0))
    world.store.held = [partition_of(b"*", SETTINGS.kafka.partitions)]
    asyncio.run(lists(0))
    asyncio.run(world.worker.put_items([item("a", NOW)]))
    assert asyncio.run(lists(1)) == [["a"]]
    asyncio.run(world.worker.put_items([item("b", NOW + 1)]))
    assert set(asyncio.run(lists(2))[-1]) == {"a", "b"}


def test_a_request_to_be_forgotten_within_a_batch_applies_by_event_time() -> None:
    world = World()
    events = [
        world.click("u", "e1", 1),
        world.forget("u", 10),
        world.click("u", "e2", 5),
        world.click("u", "e3", 20),
        world.click("v", "e4"),
    ]
    asyncio.run(world.work(events))
    assert world.version("u") == 1
    requests = [message for message in world.broker.of("rank-requests") if message.key == b"u"]
    assert [message.value is None for message in requests] == [True, False]
    assert json.loads(requests[-1].value or b"")["trigger"]["event_id"] == "e3"
    assert world.acked == list(range(5))


def test_an_event_on_the_number_of_its_users_partition_is_routed_if_another_worker_holds_the_user() -> None:
    """A topic with more partitions than ours is divided among the workers in another way."""
    world = World()
    home = partition_of(b"u", SETTINGS.kafka.partitions)
    world.store.held = [home + 1]
    asyncio.run(world.work([world.click("u", "e1", partition=home)]))
    assert world.version("u") == 0
    [routed] = world.broker.of(ROUTED)
    assert routed.key == b"u"
    assert routed.headers == {ORIGIN: b"clicks", WRITTEN: str(NOW + 1_000).encode()}


def test_bad_repeated_and_routed_events_in_one_batch() -> None:
    world = World()
    home = partition_of(b"u", SETTINGS.kafka.partitions)
    away = (home + 1) % SETTINGS.kafka.partitions
    events = [
        world.click("u", "e1"),
        world.event("clicks", "u", b"\xff{"),
        world.click("u", "e1"),
        world.click("u", "e2", partition=away),
        world.click("u", "e3", topic=ROUTED, origin=b"purchases"),
    ]
    asyncio.run(world.work(events))
    [letter] = world.broker.of("dead-letters")
    assert (json.loads(letter.value or b"")["topic"], json.loads(letter.value or b"")["payload"]) == ("clicks", "/3s=")
    [routed] = world.broker.of(ROUTED)
    assert (routed.key, routed.value) == (b"u", events[3].message.value)
    assert routed.headers == {ORIGIN: b"clicks", WRITTEN: str(NOW + 1_000).encode()}
    assert world.version("u") == 2
    [request] = world.broker.of("rank-requests")
    assert json.loads(request.value or b"")["trigger"] == {"event_id": "e3", "type": "purchase"}
    assert world.acked == list(range(5))


def test_nothing_is_acknowledged_before_its_state_is_durable_and_its_request_is_out() -> None:
    world = World()
    acked_before: list[int] = []
    deliver = world.broker.deliver

    async def watched(messages: Sequence[Outgoing]) -> list[RecordMetadata]:
        acked_before.append(len(world.acked))
        return await deliver(messages)

    world.broker.deliver = watched  # type: ignore[method-assign]
    asyncio.run(world.work([world.click("u", "e1"), world.click("u", "e2")]))
    assert [[m.topic for m in call] for call in world.broker.calls] == [[CHANGELOG], ["rank-requests"]]
    assert acked_before[:2] == [0, 0]


def test_a_closed_worker_reads_no_user_and_writes_nothing() -> None:
    """Faust closes the store next, and every user would read as a new one."""
    world = World()

    async def closed() -> None:
        running = asyncio.create_task(world.worker.run())
        await world.worker.take([world.click("u", "e1")])
        await world.worker.close(10)
        world.store.clear()
        world.tier.users.drop_cache()
        await world.worker.take([world.click("u", "e2")])
        world.worker.refresh(["u"])
        await asyncio.wait_for(running, 10)

    asyncio.run(closed())
    assert (len(world.broker.of(CHANGELOG)), world.acked) == (1, [0])


def test_a_worker_that_closes_while_kafka_is_away_makes_no_request_from_a_closed_store(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    monkeypatch.setattr(worker, "LAST_FLUSH_S", 0.05)

    async def closed() -> None:
        away, deliver = asyncio.Event(), world.broker.deliver

        async def late(messages: Sequence[Outgoing]) -> list[RecordMetadata]:
            await away.wait()
            return await deliver(messages)

        world.broker.deliver = late  # type: ignore[method-assign]
        running = asyncio.create_task(world.worker.run())
        await world.worker.take([world.click("u", "e1")])
        await world.worker.close(0.05)
        world.store.clear()
        world.tier.users.discard()
        away.set()
        await asyncio.wait_for(running, 10)

    asyncio.run(closed())
    assert (world.broker.of("rank-requests"), world.acked) == ([], [])


def test_events_that_were_not_applied_are_left_to_the_next_holder_of_the_partition() -> None:
    world = World()

    async def revoked() -> None:
        await world.worker.take([world.click("u", "e1")])
        await world.worker.on_revoke({TopicPartition("one order for all", 0)})
        await world.work([world.click("v", "e2")])

    asyncio.run(revoked())
    assert (world.version("u"), world.version("v"), world.acked) == (0, 1, [1])


def test_a_repeated_request_to_be_forgotten_keeps_a_user_who_came_back() -> None:
    """The user keeps state and list, and a request still answers the events that wait for one."""
    world = World()

    async def come_back() -> None:
        await world.work([world.click("u", "e1", 1), world.forget("u", 10)])
        await world.work([world.click("u", "e2", 20)])
        await world.work([world.click("u", "e3", 30), world.forget("u", 10)])

    asyncio.run(come_back())
    assert world.version("u") == 2
    requests = world.broker.of("rank-requests")
    assert [message.value is None for message in requests] == [True, False, False]
    assert json.loads(requests[-1].value or b"")["state_version"] == 2
    assert world.acked == list(range(5))


def test_many_repeats_are_logged_once_but_not_those_of_a_replay(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    repeats = world.worker._applier.repeats

    async def work() -> None:
        repeats._since_ms = NOW + 1_001  # all records are older than this worker
        await world.work([world.click("u", "order-1") for _ in range(50)])
        assert not [line for line in caplog.messages if "repeats" in line]
        repeats._since_ms = NOW + 1_000
        await world.work([world.click("u", "order-1") for _ in range(50)])
        await world.work([world.click("u", f"e{number}") for number in range(50)])

    asyncio.run(work())
    [line] = [line for line in caplog.messages if "repeats" in line]
    assert line.startswith("50 of the last 50 clicks and purchases are repeats and do not count; expected at most 5%")
    assert metrics.duplicates_ratio._value.get() == 0.5
    repeats.begin()
    repeats.publish()
    assert metrics.duplicates_ratio._value.get() == 0


def test_counts_are_stored_after_the_states_that_they_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a worker dies in between, the next worker counts its events, once."""
    monkeypatch.setattr(item_counts, "STORE_EVERY_S", 0.0)
    world = World()
    deliver = world.broker.deliver

    async def slow(messages: Sequence[Outgoing]) -> list[RecordMetadata]:
        if any(message.topic == CHANGELOG for message in messages):
            await asyncio.sleep(0.1)
        return await deliver(messages)

    world.broker.deliver = slow  # type: ignore[method-assign]

    async def stored() -> None:
        storing = asyncio.create_task(world.worker.store_counts())
        await world.work([world.click("u", "e1")])
        await asyncio.sleep(0.05)
        storing.cancel()

    asyncio.run(stored())
    assert [call[0].topic for call in world.broker.calls][:1] == [CHANGELOG]
    assert "item-counts" in [call[0].topic for call in world.broker.calls]


def requested(world: World) -> list[tuple[str, bool]]:
    """The users whose requests were made, in order, and whether the request is for a list to be ranked again."""
    requests = world.broker.of("rank-requests")
    return [((m.key or b"").decode(), is_again(list((m.headers or {}).items()))) for m in requests]


def question(world: World, user_id: str) -> Any:
    """What a rank worker asks for a request with."""
    asked = RankRequest(request_id="r", user_id=user_id, as_of=NOW, history=[], candidates=[])
    home = partition_of(user_id.encode(), SETTINGS.kafka.partitions)
    headers: Any = routed_headers(TO_MAKE_ANEW, 0)
    return world.event("routed-events", user_id, msgspec.json.encode(asked), home, **headers)


def test_a_request_is_made_anew_for_a_known_user_unless_a_newer_one_is_due() -> None:
    world = World()

    async def played() -> None:
        await world.work([world.click("ann", "e1"), world.click("bob", "e2")])
        asked = [question(world, user) for user in ("nobody", "ann", "bob")]
        running = asyncio.create_task(world.worker.run())
        await world.worker.take([*asked, world.click("bob", "e3", 1)])
        for _ in range(500):
            if len(requested(world)) < 4:
                await asyncio.sleep(0.01)
        running.cancel()

    asyncio.run(played())
    assert sorted(requested(world)[:2]) == [("ann", False), ("bob", False)]
    assert requested(world)[2:] == [("bob", False), ("ann", True)], "who has clicked comes first"
    assert world.acked == list(range(6))


def test_requests_that_nobody_waits_for_get_as_much_time_as_the_flush_took(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(due_requests, "SLICE_S", 0.0)
    monkeypatch.setattr(due_requests, "PAUSE_S", 0.0)
    world = World()
    deliver = world.broker.deliver

    async def slow(messages: Sequence[Outgoing]) -> list[RecordMetadata]:
        await asyncio.sleep(0.2)
        return await deliver(messages)

    world.broker.deliver = slow  # type: ignore[method-assign]
    old = [world.click(f"u{number}", f"e{number}", -9 * 86_400_000) for number in range(10)]
    asyncio.run(world.work([world.click("new", "now"), *old]))
    sizes = [len(call) for call in world.broker.calls if call and call[0].topic == "rank-requests"]
    assert sizes == [1, 10]


def test_users_of_old_events_come_last_and_wait_while_many_events_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "MAX_BATCH", 50)
    monkeypatch.setattr(due_requests, "BACKLOG", 20)
    world = World()
    old = [world.click(f"u{number % 40}", f"e{number}", number - 9 * 86_400_000) for number in range(400)]
    asyncio.run(world.work([*old[:390], world.click("fresh", "now"), *old[390:]]))
    made = [user for user, _ in requested(world)]
    later = [user for user in made if user != "fresh"]
    assert made[0] == "fresh"
    marked = [(m.key or b"").decode() for m in world.broker.of("rank-requests") if is_later((m.headers or {}).items())]
    assert marked == later, "the rank tier need not hurry"
    assert len(made) < 60, "one for each user, not one for each flush"
    assert {user: world.version(user) for user in made} == {"fresh": 1} | {f"u{number}": 10 for number in range(40)}


def test_a_user_without_candidates_gets_a_list_when_items_arrive_whichever_comes_first() -> None:
    """As in a new shop: the first click is there before the items, and they come in several batches."""
    world = World(BUILT_IN, items=())

    async def opened() -> list[list[str]]:
        running = asyncio.create_task(world.worker.run())
        await world.worker.take([world.click("u", "e1")])
        await world.worker.acks.drain(20)
        for batch in (["a"], ["b", "c"], ["d"]):
            values = {name: json.dumps({"item_id": name, "title": name}).encode() for name in batch}
            await world.worker.put_items([world.event("items", name, value).message for name, value in values.items()])
            await asyncio.sleep(0.1)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        requests = [json.loads(message.value or b"") for message in world.broker.of("rank-requests")]
        return [[candidate["item_id"] for candidate in request["candidates"]] for request in requests]

    *empty, last = asyncio.run(opened())
    assert sorted(last) == ["b", "c"]  # "a" is the click's, and who has candidates waits for no further item
    assert empty
    assert not any(empty)

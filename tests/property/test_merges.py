"""Merges against recomputing from the joined log: several workers, any order, crashes in the middle of a flush."""

from __future__ import annotations

import asyncio
import json
import random
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import permutations
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import numpy as np
import pytest
from aiokafka.structs import RecordMetadata, TopicPartition
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders.event_time import milliseconds
from encoders.events.entries import Event, item_key, query_key
from encoders.events.shown_lists import hash_of, read
from encoders.events.types import TAKEN_BACK, TAKEN_BACK_CODE
from encoders.interest import Vector, passed, recompute
from ranker.recall.catalogue import Catalogue
from ranker.recall.counts import Counts
from ranker.wishes.grammar import Clause, Wish
from streams.contracts import TOPICS, Click, Impression, Item, Preference, Purchase, Search, UserEvent
from streams.kafka.client import partition_of
from streams.kafka.outgoing import Outgoing
from streams.kafka.reliable_producer import ReliableProducer
from streams.kafka.topics import changelog_name
from streams.receive.user_events import event_of
from streams.settings import Settings
from streams.settings.recommending import CandidatesSettings
from streams.settings.wishes import WishesSettings
from streams.state import kept_wishes, stored_memory, visitors
from streams.state.decays import decay_of
from streams.state.event_router import ROUTED
from streams.state.tier import StateTier
from streams.state.users import Users
from streams.state.worker import StateWorker
from tests.property.test_replays import assert_alike
from tests.stores import MemoryStore

DIM, START = 8, 1_790_000_000_000
SETTINGS = Settings(candidates=CandidatesSettings(shown_minutes=10), wishes=WishesSettings(model="a model"))
DECAY = decay_of(SETTINGS)
CHANGELOG = changelog_name(SETTINGS)
PARTITIONS = SETTINGS.kafka.partitions
USERS = ["visitor-1", "visitor-2", "visitor-3", "member-1", "member-2"]
ITEMS = [f"item-{number}" for number in range(6)]
VECTORS = np.eye(DIM, dtype=np.float32)
QUERIES = {f"query {number}": VECTORS[4 + number] for number in range(3)}
Position = tuple[str, int]


class Killed(Exception):
    """The worker dies."""


class Cluster:
    """Kafka's logs, and workers that die and come back. Partitions of users are divided among two workers."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.logs: dict[Position, list[Any]] = defaultdict(list)
        self.committed: dict[Position, int] = defaultdict(int)
        self.letters: list[dict[str, Any]] = []
        self.tombstones: list[str] = []
        self.durable: dict[bytes, bytes] = {}
        self.counted = 0
        self.dies: list[int] = []  # so many messages are stored before a worker dies, again and again
        self.workers = [Worker(self, number) for number in range(2)]

    def write(self, topic: str, key: str, value: Any, partition: int | None = None, headers: Any = None) -> None:
        home = partition_of(key.encode(), PARTITIONS) if partition is None else partition
        log = self.logs[topic, home]
        log.append(
            SimpleNamespace(
                topic=topic,
                partition=home,
                offset=len(log),
                key=key.encode(),
                value=value,
                timestamp=START / 1000 + 1e6,
                timestamp_type=0,
                headers=list((headers or {}).items()),
                tp=TopicPartition(topic, home),
            )
        )

    async def deliver(self, messages: Sequence[Outgoing]) -> list[RecordMetadata]:
        """Store messages, in the order of each partition; the worker may die when a part of them is stored."""
        waiting = defaultdict(list)
        for message in messages:
            home = message.partition
            if home is None:
                home = partition_of(message.key or b"", PARTITIONS)
            waiting[message.topic, home].append(message)
        while waiting:
            if self.dies:
                self.dies[0] -= 1
                if self.dies[0] < 0:
                    self.dies.pop(0)
                    raise Killed
            position = self.random.choice(list(waiting))
            self.store(waiting[position].pop(0))
            if not waiting[position]:
                del waiting[position]
        return [cast(RecordMetadata, SimpleNamespace(topic=m.topic, partition=0, offset=0)) for m in messages]

    def store(self, message: Outgoing) -> None:
        key = message.key or b""
        if message.topic == CHANGELOG:
            if message.value is None:
                self.durable.pop(key, None)
            else:
                self.durable[key] = message.value
        elif message.topic == ROUTED:
            self.write(ROUTED, key.decode(), message.value, headers=message.headers)
        elif message.topic == "dead-letters":
            self.letters.append(json.loads(message.value or b""))
        elif message.topic == "rank-requests" and message.value is None:
            self.tombstones.append(key.decode())

    async def run(self) -> None:
        """Let the workers take batches in any order until all is worked off."""
        for _ in range(1_000):
            open_ = [at for at, log in self.logs.items() if self.workers[at[1] % 2].position(at) < len(log)]
            busy = [one for one in self.workers if one.is_busy]
            if not open_ and not busy:
                return
            positions = self.random.sample(open_, self.random.randint(0, len(open_)))
            for worker in self.workers:
                mine = [at for at in positions if self.workers[at[1] % 2] is worker]
                try:
                    await worker.turn(mine)
                except Killed:
                    self.workers[worker.number] = Worker(self, worker.number)
        raise AssertionError("events go round for ever")

    @property
    def users(self) -> Users:
        return Users(self.durable, DIM)

    def link(self, user_id: str) -> str | None:
        link = self.users.get(user_id).link
        assert link is None or link.stage == "moved"
        return None if link is None else link.into

    def root(self, user_id: str) -> str:
        for _ in USERS:
            if (into := self.link(user_id)) is None:
                return user_id
            user_id = into
        raise AssertionError("a cycle")


class Worker:
    """One worker over what was durable when it started."""

    def __init__(self, cluster: Cluster, number: int) -> None:
        self.cluster, self.number = cluster, number
        self._read = dict(cluster.committed)
        store = MemoryStore(cluster.durable)
        store.held = [partition for partition in range(PARTITIONS) if partition % 2 == number]
        counts = Counts(9e9, 9e8)
        observe = counts.observe

        def count(events: Sequence[Event], *rest: Any) -> None:
            cluster.counted += len(events)
            observe(events, *rest)

        cast(Any, counts).observe = count
        self.tier = StateTier(SETTINGS, Users(store, DIM), Catalogue(DIM), counts, ())
        for item_id, vector in zip(ITEMS[:4], VECTORS, strict=False):  # the others are not in the catalogue
            self.tier.put_item(Item(item_id=item_id, title=item_id), vector, START)
        encoder: Any = SimpleNamespace(
            encode=lambda texts: VECTORS[: len(texts)],
            encode_events=lambda texts: np.array([QUERIES[text] for text in texts]),
        )
        producer = cast(ReliableProducer, cluster)
        self.worker = StateWorker(SETTINGS, self.tier, encoder, ThreadPoolExecutor(1), producer, store, CHANGELOG)

    @property
    def is_busy(self) -> bool:
        waiting = self.worker._applier.waiting_wishes._waiting
        return bool(self.worker._merger.is_busy() or self.worker._requests or waiting)

    def ask_model(self) -> None:
        """Let the model read some of the wishes that wait for it. It understands one of them."""
        applier, choice = self.worker._applier, self.cluster.random
        for said in applier.waiting_wishes._waiting:
            if choice.random() < 0.5:
                applier._reader.answers[said] = Wish((Clause("exclude", (("fur",),)),)) if said[0] == READ else None

    def position(self, at: Position) -> int:
        return self._read.get(at, 0)

    async def turn(self, positions: Sequence[Position]) -> None:
        events = []
        for at in positions:
            begin = self.position(at)
            records = self.cluster.logs[at][begin : begin + self.cluster.random.randint(1, 5)]
            self._read[at] = begin + len(records)
            events += [self._event(at, record) for record in records]
        self.ask_model()
        await self.worker.take(events)
        await self.worker._work()

    def _event(self, at: Position, record: Any) -> Any:
        def ack() -> bool:
            assert self.cluster.committed[at] == record.offset
            self.cluster.committed[at] = record.offset + 1
            return True

        return SimpleNamespace(message=record, ack=ack)


def click(kind: type[Click], number: int, user: str, item: int, second: int) -> Click:
    return kind(event_id=f"e{number}", user_id=user, item_id=ITEMS[item], timestamp=START + second * 1000)


def dislike(number: int, user: str, item: int, second: int) -> UserEvent:
    at = START + second * 1000
    return UserEvent(event_id=f"e{number}", user_id=user, item_id=ITEMS[item], timestamp=at, type="dislike")


def give_back(number: int, user: str, item: int, second: int) -> Purchase:
    at = START + second * 1000
    what: dict[str, Any] = {"event_id": f"r{number}", "user_id": user, "item_id": ITEMS[item], "timestamp": at}
    return Purchase(**what, quantity=-1, takes_back=f"e{number}")


def search(number: int, user: str, text: str, second: int) -> Search:
    return Search(event_id=f"e{number}", user_id=user, text=text, timestamp=START + second * 1000)


def preference(number: int, user: str, text: str, second: int) -> Preference:
    """A wish; `text` is the number of one to take back."""
    wish, revoke = (None, f"e{text}") if text.isdigit() else (text, None)
    return Preference(event_id=f"e{number}", user_id=user, timestamp=START + second * 1000, text=wish, revoke=revoke)


NUMBERS, SECONDS = st.integers(0, 9), st.integers(0, 90_000)  # all users have the same numbers
WHOSE, WHICH = st.sampled_from(USERS), st.integers(0, len(ITEMS) - 1)
Sent = Click | Search | Preference
READ = "I cannot stand fur"
WISHES = ["no fur", "more query 0", "gibberish", READ, "3", "4"]
clicks: st.SearchStrategy[Sent] = st.one_of(
    st.builds(click, st.sampled_from([Click, Purchase]), NUMBERS, WHOSE, WHICH, SECONDS),
    st.builds(dislike, NUMBERS, WHOSE, WHICH, SECONDS),
    st.builds(give_back, NUMBERS, WHOSE, WHICH, SECONDS),
    st.builds(search, NUMBERS, WHOSE, st.sampled_from(list(QUERIES)), SECONDS),
    st.builds(preference, NUMBERS, WHOSE, st.sampled_from(WISHES), SECONDS),
)
merges = st.tuples(st.sampled_from(USERS), st.sampled_from(USERS), st.integers(0, 90_000)).filter(
    lambda merge: merge[0] != merge[1]
)
Merge = tuple[str, str, int]
Forget = str
Log = list[Sent | Impression | Merge | Forget]
logs: st.SearchStrategy[Log] = st.lists(st.one_of(clicks, clicks, merges), max_size=40)
deaths = st.lists(st.integers(0, 20), max_size=5)
LATER = START + 10**9


@pytest.fixture(autouse=True, scope="module")
def small_memory() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored_memory, "RECENT", 2)
        patch.setattr(stored_memory, "MIDDLE", 4)
        patch.setattr(visitors, "BLOCK", 1)
        patch.setattr(kept_wishes, "MAX_WISHES", 100)
        yield


def put_all(cluster: Cluster, log: Log, anywhere: bool = False) -> None:
    """Write a log to the topics, in the partitions of its users, or anywhere; then let the workers work it off."""
    for one in log:
        value: dict[str, Any]
        if isinstance(one, (Sent, Impression)):
            topic = next(topic for topic, kind in TOPICS.items() if kind is type(one))
            user_id, value = one.user_id, msgspec.to_builtins(one)
        elif isinstance(one, str):
            topic, user_id, value = "forget", one, {"user_id": one, "timestamp": LATER}
        else:
            topic, user_id = "merges", one[0]
            value = {"from_user_id": user_id, "into_user_id": one[1], "timestamp": START + one[2]}
        partition = cluster.random.randrange(PARTITIONS) if anywhere else None
        cluster.write(topic, user_id, json.dumps(value).encode(), partition)
    asyncio.run(cluster.run())
    assert all(cluster.committed[at] == len(entries) for at, entries in cluster.logs.items())


def play(log: Log, seed: int, dies: Sequence[int] = (), anywhere: bool = False) -> Cluster:
    """Let workers work off a log, and die meanwhile."""
    cluster = Cluster(seed)
    cluster.dies = list(dies)
    put_all(cluster, log, anywhere)
    return cluster


def joined(cluster: Cluster, log: Log) -> dict[str, dict[Any, Event]]:
    """The events of each user by their identity, as if all had been one user who are one in the end."""
    events: dict[str, dict[Any, Event]] = {user: {} for user in USERS}
    bought = [one for one in log if isinstance(one, Purchase)]
    given_back = {(one.user_id, one.takes_back, one.item_id) for one in bought if one.takes_back}
    for one in log:
        if isinstance(one, (Click, Search)):
            event = event_of(one, DECAY.weights)
            identity = (one.user_id, one.event_id, event.type, event.item)
            if event.type == "purchase" and (one.user_id, one.event_id, getattr(one, "item_id", "")) in given_back:
                event = replace(event, type=TAKEN_BACK)
            events[cluster.root(one.user_id)].setdefault(identity, event)
    return events


def stated(cluster: Cluster, log: Log) -> dict[str, dict[Any, Preference]]:
    """The same with wishes, and what takes them back."""
    preferences: dict[str, dict[Any, Preference]] = {user: {} for user in USERS}
    for one in log:
        if isinstance(one, Preference):
            preferences[cluster.root(one.user_id)].setdefault((one.user_id, one.event_id), one)
    return preferences


@given(logs, st.integers(0, 2**32), deaths, st.booleans())
@settings(max_examples=80, deadline=None)
def test_a_merge_is_as_if_both_had_always_been_one(log: Log, seed: int, dies: list[int], anywhere: bool) -> None:
    cluster = play(log, seed, dies, anywhere)
    vectors: dict[int, Vector] = dict(zip(map(item_key, ITEMS[:4]), VECTORS, strict=False))
    vectors |= {query_key(text): vector for text, vector in QUERIES.items()}
    events, preferences = joined(cluster, log), stated(cluster, log)
    for user_id in USERS:
        assert cluster.users.get(user_id).interest.version == len(events[user_id]) + len(preferences[user_id])
    times: dict[Any, set[Any]] = defaultdict(set)
    for one in log:
        if isinstance(one, Preference):
            times[Preference, one.event_id, one.user_id].add(one)
        elif isinstance(one, Sent):
            about = one.text if isinstance(one, Search) else one.item_id
            times[type(one), one.event_id, one.user_id, about].add(one.timestamp)
    if all(len(of_event) == 1 for of_event in times.values()):  # else the time that arrives first counts
        for user_id in USERS:
            expected = recompute(events[user_id].values(), vectors.get, DECAY, DIM)
            said = preferences[user_id].values()
            for one in said:
                expected = passed(expected, milliseconds(one.timestamp), DECAY)
            revoked = {one.revoke for one in said}
            kept = sorted((one.event_id, one.text) for one in said if one.text and one.event_id not in revoked)
            wishes = cluster.users.wishes.of(user_id).kept
            assert sorted((one.wish_id, one.text) for one in wishes) == kept
            assert all((one.wish is None) == (one.text == "gibberish") for one in wishes)
            assert_alike(cluster.users.get(user_id).interest, expected)
            assert cluster.users.get(user_id).interest.searches == expected.searches
    if not dies:
        every = [event for of_user in events.values() for event in of_user.values()]
        liked = [event for event in every if DECAY.weight(event) > 0 or event.type == TAKEN_BACK]
        assert cluster.counted == sum(not event.query for event in liked), "no event counts twice in the shop's counts"
    merged = {one[0] for one in log if isinstance(one, tuple) and cluster.link(one[0]) is not None}
    assert merged <= set(cluster.tombstones), "their lists are deleted"
    refused = [one for one in log if isinstance(one, tuple) and cluster.link(one[0]) != one[1]]
    assert bool(refused) == bool(cluster.letters)
    assert all("expected" in letter["error"] for letter in cluster.letters)


@given(
    st.lists(clicks, max_size=20),
    st.dictionaries(st.integers(0, 3), st.integers(1, 4), max_size=4),
    st.sampled_from(USERS),
    st.integers(0, 2**32),
    deaths,
)
@settings(max_examples=60, deadline=None)
def test_to_forget_one_is_to_forget_all_whoever_comes_first(
    clicked: list[Sent], targets: dict[int, int], forgotten: str, seed: int, dies: list[int]
) -> None:
    made: list[Merge] = [(USERS[one], USERS[other], one) for one, other in targets.items() if one < other]
    log: Log = [*clicked, *made, forgotten]
    cluster = play(log, seed, dies)
    one_person = {forgotten}
    for _ in USERS:
        one_person |= {user for one, other, _ in made if {one, other} & one_person for user in (one, other)}
    left = [key for key in cluster.durable if key[:1] != b"f"]
    assert not [key for key in left if any(key.endswith(user.encode()) for user in one_person)]
    assert not any(user.encode() in cluster.durable[key] for key in left for user in one_person)
    events, preferences = joined(cluster, log), stated(cluster, log)
    for user_id in set(USERS) - one_person:
        assert cluster.users.get(user_id).interest.version == len(events[user_id]) + len(preferences[user_id])


def test_merges_that_would_form_a_cycle_together_are_refused() -> None:
    clicked = [click(Click, 1, user, 0, 0) for user in USERS]
    log: Log = [*clicked, (USERS[0], USERS[1], 5), (USERS[1], USERS[3], 5), (USERS[3], USERS[0], 5)]
    for seed in range(20):
        cluster = play(log, seed)
        assert len(cluster.letters) in (1, 2, 3), "all of them, if they were asked for at the same time"
        assert all("expected no cycle" in letter["error"] for letter in cluster.letters)
        assert sum(cluster.users.get(user).interest.version for user in USERS) == len(USERS)


def test_what_a_merged_visitor_was_shown_the_user_was_shown() -> None:
    visitor, member = USERS[0], USERS[3]

    def impression(number: int) -> Impression:
        items, at = [ITEMS[number]], START + number * 1000
        return Impression(event_id=f"i{number}", user_id=visitor, list_id="l", items=items, timestamp=at)

    for seed in range(10):
        cluster = play([click(Click, 1, visitor, 0, 0), click(Click, 1, member, 1, 0)], seed)
        for one in (impression(2), (visitor, member, 5), impression(3)):
            put_all(cluster, [one])
        shown = read(cluster.users.get(member).shown)
        assert [one.items for one in shown] == [(hash_of(ITEMS[2]),), (hash_of(ITEMS[3]),)]


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_return_takes_a_visitors_purchase_back_wherever_it_is(order: tuple[int, ...]) -> None:
    visitor, member = USERS[0], USERS[3]
    bought, returned = click(Purchase, 1, visitor, 0, 3), give_back(1, visitor, 0, 7)
    steps: Log = [bought, (visitor, member, 5), returned]
    for seed in range(4):
        cluster = play([click(Click, 1, visitor, 1, 0), click(Click, 1, member, 2, 0)], seed)
        if seed % 2:
            put_all(cluster, [steps[number] for number in order])
        else:
            for number in order:
                put_all(cluster, [steps[number]])
        interest = cluster.users.get(member).interest
        assert (interest.version, interest.bought["type"].tolist()) == (4, [TAKEN_BACK_CODE])
        assert abs(interest.long[0]) < 1e-4, "nothing of the purchase is left"
        assert interest.long[1] > 0.9

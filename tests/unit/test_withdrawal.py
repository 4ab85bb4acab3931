"""Lists without items that are gone: what is edited, what is not, and that the newest list wins."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from aiokafka.structs import RecordMetadata, TopicPartition

from streams.contracts import RankRequest
from streams.faust_compat.fencing import MembershipLost
from streams.kafka import client as kafka_client
from streams.kafka.outgoing import Outgoing
from streams.kafka.own_messages import written_ms
from streams.publish.list_cache import OutgoingList
from streams.publish.list_expiry import expiry_s, first_written_ms
from streams.publish.list_record_reader import ListRecordReader
from streams.rank import lists_reader, withdrawal
from streams.rank.list_publisher import ListPublisher
from streams.rank.list_without import without
from streams.rank.lists_reader import ListsReader
from streams.rank.published_lists import IndexedList, ListPlace, PublishedLists, Written
from streams.rank.stale_lists import StaleLists
from streams.rank.tier import RankTier
from streams.rank.withdrawal import Withdrawal
from streams.settings import Settings

NOW = 1_790_000_000_000


def list_of(items: Sequence[str], list_id: str = "l1") -> bytes:
    listed = [{"item_id": item, "rank": rank, "score": 0.5, "of_later": {}} for rank, item in enumerate(items, 1)]
    fields = {"list_id": list_id, "as_of": 7, "state_version": 3, "generated_at": NOW, "degraded": None}
    return json.dumps(fields | {"items": listed, "of_a_later_version": [1]}).encode()


class Installation:
    """A worker of all partitions whose topic is a list of records, and whose Redis a dictionary."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.topic: list[Any] = []
        self.redis: dict[str, OutgoingList] = {}
        self.gone: set[str] = set()
        self.stale = StaleLists(PublishedLists(3), self.gone)
        self.stale.owned = {0}
        self.stale.complete = {0}
        self.lost = False
        self.read_from_topic = self.asked_redis = 0
        self.is_redis_away = False
        monkeypatch.setattr(ListRecordReader, "open", lambda *_: self)

    async def __aenter__(self) -> Any:
        return SimpleNamespace(read=self.read_topic)

    async def __aexit__(self, *_: object) -> None: ...

    async def read_topic(self, places: Sequence[tuple[int, int]]) -> dict[tuple[int, int], Any]:
        self.read_from_topic += len(places)
        return {place: self.topic[place[1]] for place in places if self.topic[place[1]]}

    async def read(self, keys: Sequence[str]) -> list[bytes | None] | None:
        self.asked_redis += 1
        if self.is_redis_away:
            return None
        return [self.redis[key].payload if key in self.redis else None for key in keys]

    async def deliver(self, messages: Sequence[Outgoing]) -> list[RecordMetadata]:
        if self.lost:
            raise MembershipLost("another worker has them")
        return [self.append(m.key, m.value, m.headers) for m in messages]

    async def write(self, lists: Sequence[OutgoingList], _: Any) -> None:
        self.redis |= {list_.key: list_ for list_ in lists}

    def append(self, key: Any, value: bytes | None, headers: Any = None) -> RecordMetadata:
        self.topic.append(SimpleNamespace(key=key, value=value, headers=headers, timestamp=NOW + len(self.topic)))
        return cast(RecordMetadata, SimpleNamespace(partition=0, offset=len(self.topic) - 1))

    def published(self, user_id: str, items: Sequence[str] | None, list_id: str = "l1") -> None:
        """Another worker's list, or ours: it is in the index once it is read."""
        value = None if items is None else list_of(items, list_id)
        record = self.append(user_id.encode(), value)
        written = Written() if value is None else Written.of(value, first_written_ms(self.topic[record.offset]))
        list_ = None if items is None else IndexedList(items, None, written)
        self.stale.note([ListPlace(0, record.offset, user_id.encode())], [list_])

    def work(self) -> None:
        """Run the withdrawal until it waits for a change."""

        async def work(changed: Any) -> None:
            this, settings = cast(Any, self), Settings()
            publisher = ListPublisher(settings, this, this, self.stale, this, this, this)
            withdrawal = Withdrawal(settings, self.stale, publisher, this, lambda: True)
            waits, wait = asyncio.Event(), changed.wait

            async def noted() -> None:
                if not changed.is_set():
                    waits.set()
                await wait()

            changed.wait = noted
            running = asyncio.create_task(withdrawal.run())
            await asyncio.wait({running, waited := asyncio.create_task(waits.wait())}, return_when="FIRST_COMPLETED")
            changed.wait = wait
            waited.cancel()
            running.cancel()

        asyncio.run(work(self.stale.changed))

    def newest(self, user_id: str) -> Any:
        value = next(record.value for record in reversed(self.topic) if record and record.key == user_id.encode())
        return None if value is None else json.loads(value)

    def shown(self, user_id: str) -> list[str]:
        return [item["item_id"] for item in self.newest(user_id)["items"]]


class TopicConsumer:
    """Stands in for aiokafka's consumer. Notes the offsets of the records that it gives."""

    def __init__(self, topic: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
        self.given: list[int] = []
        self.pauses = 0
        self._topic, self._position = topic, 0
        self._at_end = asyncio.Event()
        self._assigned: list[TopicPartition] = []
        self._is_paused = False
        monkeypatch.setattr(kafka_client, "consumer", lambda _: self)
        monkeypatch.setattr(kafka_client, "started", lambda *_: nullcontext())
        monkeypatch.setattr(lists_reader, "READ_EVERY_S", 0)

    def assign(self, partitions: list[TopicPartition]) -> None:
        self._assigned = partitions

    def assignment(self) -> list[TopicPartition]:
        return self._assigned

    def seek(self, _: TopicPartition, offset: int) -> None:
        self._position = offset

    async def position(self, _: TopicPartition) -> int:
        return self._position

    async def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, len(self._topic))

    def pause(self, _: TopicPartition) -> None:
        self._is_paused = True
        self.pauses += 1

    def resume(self, _: TopicPartition) -> None:
        self._is_paused = False

    async def getmany(self, **_: int) -> dict[TopicPartition, list[Any]]:
        if self._is_paused:
            return {}
        offsets = range(self._position, len(self._topic))
        if not offsets:
            self._at_end.set()
        self.given += offsets
        self._position = len(self._topic)
        return {self._assigned[0]: [SimpleNamespace(**vars(self._topic[o]), offset=o) for o in offsets]}

    def follow(self, reader: ListsReader) -> list[int]:
        """Let the reader come to the end. Returns the offsets that it has read since the last call."""

        async def follow() -> None:
            self._at_end = asyncio.Event()
            running = asyncio.create_task(reader.run())
            await self._at_end.wait()
            running.cancel()

        asyncio.run(follow())
        given, self.given = self.given, []
        return given


@pytest.fixture
def installation(monkeypatch: pytest.MonkeyPatch) -> Installation:
    return Installation(monkeypatch)


def test_the_list_stays_the_same_but_for_the_item(installation: Installation) -> None:
    installation.published("ann", ["a", "b", "c"])
    installation.stale.change(["b", "never shown"], [])
    installation.work()
    before = json.loads(list_of(["a", "b", "c"]))
    items = [item | {"rank": rank} for rank, item in enumerate([before["items"][0], before["items"][2]], 1)]
    newest = installation.newest("ann")
    assert newest == before | {"items": items, "generated_at": newest["generated_at"]}
    assert newest["generated_at"] > NOW
    stored = installation.redis["ann"]
    assert (json.loads(stored.payload or b""), stored.as_of, stored.state_version) == (newest, 7, 3)
    assert len(installation.stale) == 0


def test_a_list_expires_as_if_it_were_not_published_again(installation: Installation) -> None:
    installation.published("ann", ["a", "b", "c"])
    for item in ("a", "b"):
        installation.stale.change([item], [])
        installation.work()
    first, _, last = installation.topic
    assert written_ms(last.headers) == first.timestamp
    ttl_s = Settings().redis.ttl_s
    assert expiry_s(last, ttl_s) == expiry_s(first, ttl_s) == installation.redis["ann"].expires_s


def test_redis_is_read_where_it_has_the_newest_list_and_the_topic_otherwise(installation: Installation) -> None:
    for user_id in ("same", "older", "none"):
        installation.published(user_id, ["a", "b", "c"])
        if user_id != "none":
            list_id = "l1" if user_id == "same" else "l0"
            installation.redis[user_id] = OutgoingList(user_id, list_of(["a", "b", "c"], list_id), 7, 3)
    installation.stale.change(["b"], [])
    installation.work()
    assert installation.read_from_topic == 2
    for user_id in ("same", "older", "none"):
        assert (installation.newest(user_id)["list_id"], installation.shown(user_id)) == ("l1", ["a", "c"])
        assert json.loads(installation.redis[user_id].payload or b"") == installation.newest(user_id)
    installation.stale.change(["c"], [])
    installation.work()
    assert installation.read_from_topic == 2, "Redis has them all by now"
    first_ms = [written_ms(record.headers) for record in installation.topic[-3:]]
    assert first_ms == [record.timestamp for record in installation.topic[:3]]


def test_a_redis_that_is_away_is_waited_for_once(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(withdrawal, "BATCH_LISTS", 1)
    installation.is_redis_away = True
    for user_id in ("ann", "bob"):
        installation.published(user_id, ["a", "b"])
    installation.stale.change(["a"], [])
    installation.work()
    assert (installation.shown("ann"), installation.shown("bob"), installation.asked_redis) == (["b"], ["b"], 1)


def test_a_list_without_any_item_is_empty_and_says_why(installation: Installation) -> None:
    installation.published("ann", ["a"])
    installation.stale.change(["a"], [])
    installation.work()
    assert (installation.shown("ann"), installation.newest("ann")["degraded"]) == ([], "no-candidates")


def test_newer_lists_and_erasures_win(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """They arrive while the older list is read."""
    for user_id in ("ann", "bob", "cid"):
        installation.published(user_id, ["a", "b"])
    read = installation.read_topic

    async def meanwhile(places: Sequence[tuple[int, int]]) -> Any:
        records = await read(places)
        if len(installation.topic) == 3:
            installation.published("ann", ["b", "c"], "l2")
            installation.published("bob", None)
        return records

    monkeypatch.setattr(installation, "read_topic", meanwhile)
    installation.stale.change(["a"], [])
    installation.work()
    assert installation.newest("ann")["list_id"] == "l2"
    assert installation.newest("bob") is None
    assert installation.shown("cid") == ["b"]
    assert installation.redis.keys() == {"cid"}


def test_lists_that_this_worker_published_again_are_not_read(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumer = TopicConsumer(installation.topic, monkeypatch)
    reader = ListsReader(Settings(), installation.stale)
    reader.own([0])
    for user_id in ("ann", "bob"):
        installation.published(user_id, ["a", "b", "c"])
    assert consumer.follow(reader) == [0, 1]
    installation.stale.change(["a"], [])
    installation.work()
    installation.published("ann", ["b"], "of another worker")
    assert consumer.pauses == 0
    assert consumer.follow(reader) == [4]
    assert consumer.pauses > 0
    installation.stale.change(["b"], [])
    installation.work()
    installation.append(b"bob", list_of(["c"], "of another worker, meanwhile"))
    assert consumer.follow(reader) == [7]
    assert (installation.shown("ann"), installation.shown("bob")) == ([], ["c"])
    assert installation.stale.lists.find([b"ann", b"bob"]) == [(0, 6, b"ann"), (0, 7, b"bob")]
    reader.own([])
    reader.own([0])
    assert consumer.follow(reader) == list(range(8)), "another worker had the partition meanwhile"


def test_an_item_that_is_back_stays(installation: Installation) -> None:
    installation.published("ann", ["a"])
    installation.stale.change(["a"], [])
    installation.stale.change([], ["a"])
    installation.work()
    assert len(installation.topic) == 1


def test_a_list_that_was_ranked_before_the_item_was_gone(installation: Installation) -> None:
    installation.stale.change(["a"], [])
    installation.published("ann", ["a", "b"])
    installation.work()
    assert installation.shown("ann") == ["b"]


def test_withdrawals_wait_until_the_lists_are_read_and_while_others_own_them(installation: Installation) -> None:
    installation.stale.complete.clear()
    installation.published("ann", ["a", "b"])
    installation.stale.change(["a"], [])
    installation.work()
    assert installation.shown("ann") == ["a", "b"]
    installation.stale.complete.add(0)
    installation.stale.changed.set()
    installation.lost = True
    installation.work()
    assert (len(installation.stale), installation.stale.complete) == (1, set()), "the new owner finds the same"
    installation.lost = False
    installation.stale.complete.add(0)  # it is ours again
    installation.stale.changed.set()
    installation.work()
    assert installation.shown("ann") == ["b"]


def test_records_that_are_no_more_or_no_list_are_skipped(installation: Installation) -> None:
    for user_id in ("gone", "odd", "ann"):
        installation.published(user_id, ["a", "b"])
    installation.topic[0] = None
    installation.topic[1].value = b'{"items": [{"item_id": "a"}]}'
    installation.stale.change(["a"], [])
    installation.work()
    assert installation.shown("ann") == ["b"]
    assert (len(installation.stale), len(installation.topic)) == (0, 4)


def test_a_new_list_does_without_gone_items_and_is_as_long_as_it_can_be() -> None:
    tier = RankTier(Settings(), None)
    tier.gone.add("c3")
    candidates = [{"item_id": f"c{number}", "text": "T"} for number in range(30)]
    names = {"request_id": "r", "user_id": "u", "as_of": NOW}
    request = msgspec.convert({**names, "history": [], "candidates": candidates}, RankRequest)
    [list_] = tier.rank([request], NOW)
    shown = [item.item_id for item in list_.items]
    assert "c3" not in shown
    assert len(shown) == Settings().ranker.list_size


def test_what_is_not_shown_changes_nothing() -> None:
    assert without(list_of(["a"]), {"b"}, NOW) is None

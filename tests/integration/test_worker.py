"""The product end to end: a real Kafka, a real Redis, a real worker, and clients that are not ours."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import msgspec
import pytest
import redis
from confluent_kafka import Consumer, Producer, TopicPartition

from ranker.version import version as version_of
from streams import users
from streams.contracts import NEWCOMERS
from streams.embedded import free_port
from streams.kafka_client import partition_of
from streams.settings import Settings
from streams.topics import MESSAGE_BYTES, changelog_name, ensure_topics, topic_specs
from streams.worker_process import WorkerProcess, environment, worker

KINDS = ["walking boots", "tent for two", "reading lamp", "garden chair", "coffee grinder"]
ITEMS = [f"item-{number}" for number in range(60)]


def now_ms() -> int:
    return round(time.time() * 1000)


class Client:
    """What a shop's backend does: produce with librdkafka's own defaults, consume, read Redis."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        asyncio.run(ensure_topics(settings, topic_specs(settings)))
        self.redis = redis.Redis.from_url(settings.redis.url.get_secret_value())
        server = settings.kafka.bootstrap_servers
        self._producer = Producer({"bootstrap.servers": server, "linger.ms": 2, "message.max.bytes": MESSAGE_BYTES})

    def produce(self, topic: str, key: str | None, value: Any) -> None:
        raw = value if isinstance(value, (bytes, type(None))) else json.dumps(value).encode()
        self._producer.produce(self.settings.topic(topic), key=key, value=raw)
        self._producer.poll(0)

    def flush(self) -> None:
        assert self._producer.flush(30) == 0

    def items(self, item_ids: list[str] = ITEMS) -> None:
        for item_id in item_ids:
            kind = KINDS[int(item_id.split("-")[1]) % len(KINDS)]
            item = {"item_id": item_id, "title": f"{kind.capitalize()} {item_id}", "categories": [kind], "price": 9.5}
            self.produce("items", item_id, item)
        self.flush()

    def click(self, user_id: str, item_id: str, event_id: str | None = None, topic: str = "clicks", **more: Any) -> str:
        event_id = event_id or uuid.uuid4().hex
        event = {"event_id": event_id, "user_id": user_id, "item_id": item_id, "timestamp": now_ms(), **more}
        self.produce(topic, user_id, event)
        return event_id

    def consume(self, topic: str) -> Iterator[tuple[str | None, Any]]:
        """Key and decoded value of every message of a topic, oldest first, up to its present end."""
        name = topic if topic.startswith(self.settings.topic_prefix) else self.settings.topic(topic)
        consumer = Consumer(
            {
                "bootstrap.servers": self.settings.kafka.bootstrap_servers,
                "group.id": uuid.uuid4().hex,
                "enable.partition.eof": False,
            }
        )
        try:
            places = [TopicPartition(name, partition, 0) for partition in range(self.settings.kafka.partitions)]
            ends = {p.partition: consumer.get_watermark_offsets(p, timeout=10)[1] for p in places}
            consumer.assign(places)
            left = sum(ends.values())
            while left:
                message = consumer.poll(10)
                assert message is not None, f"{left} messages of {name} missing"
                assert not message.error(), message.error()
                left -= 1
                key, value = message.key(), message.value()
                decoded = None if value is None else json.loads(value) if topic != name else value
                yield (key.decode(errors="replace") if key else None), decoded
        finally:
            consumer.close()

    def newest(self) -> dict[str, Any]:
        """Each user's newest list on the topic; None where it was erased. Without the one for newcomers."""
        return {key: value for key, value in self.consume("recommendations") if key not in (None, NEWCOMERS)}

    def cached(self, user_id: str) -> Any:
        stored = self.redis.get(self.settings.redis.key_prefix + user_id)
        return None if stored is None else json.loads(stored)


def until(condition: Callable[[], Any], timeout_s: float = 30) -> Any:
    """Wait for a condition and return what it gave."""
    deadline = time.monotonic() + timeout_s
    while not (outcome := condition()):
        assert time.monotonic() < deadline, f"not so within {timeout_s:g} s"
        time.sleep(0.1)
    return outcome


def version(client: Client, user_id: str, wanted: int) -> bool:
    stored = client.cached(user_id)
    return stored is not None and stored["state_version"] == wanted


@pytest.fixture
def client(settings: Settings) -> Client:
    return Client(settings)


def test_a_click_becomes_a_list_in_kafka_and_redis(settings: Settings, client: Client) -> None:
    with worker(settings, "all") as running:
        running.wait_ready()
        client.items()
        until(lambda: running.total("afterclick_catalogue_items") == len(ITEMS))
        for number in (0, 5, 10):
            client.click("ann", f"item-{number}")
        client.flush()
        until(lambda: version(client, "ann", 3))  # two topics have no order between them
        last = client.click("ann", "item-15", topic="purchases", price=9.5, quantity=1, currency="EUR")
        client.flush()
        until(lambda: version(client, "ann", 4))
        stored = client.cached("ann")
        assert stored == until(lambda: client.newest().get("ann"))
        assert stored["trigger"] == {"event_id": last, "type": "purchase"}
        assert stored["degraded"] is None
        assert stored["model"] == version_of(settings.ranker.model)
        ranks = [item["rank"] for item in stored["items"]]
        assert ranks == list(range(1, settings.ranker.list_size + 1))
        shown = [item["item_id"] for item in stored["items"]]
        assert "item-15" not in shown, "just bought"
        assert len(set(shown)) == len(shown)
        boots = [f"item-{number}" for number in range(0, 60, 5)]
        assert sum(item_id in boots for item_id in shown[:5]) >= 4, "four walking boots, and the list has others"
        history = {"item-0", "item-5", "item-10", "item-15"}
        assert all(set(item["reason"]["evidence"]) <= history for item in stored["items"])
        assert any(item["reason"]["text"].startswith("Because you ") for item in stored["items"])
        newcomers = until(lambda: client.cached("*"))
        kinds = {KINDS[int(item["item_id"].split("-")[1]) % len(KINDS)] for item in newcomers["items"][: len(KINDS)]}
        assert kinds == set(KINDS), "one of each kind first"
        assert newcomers["degraded"] == "cold-user"
        assert 0 < client.redis.ttl(settings.redis.key_prefix + "ann") <= settings.redis.ttl_s
        check_metrics(running)
        assert running.stop() == 0


def check_metrics(running: WorkerProcess) -> None:
    """Each metric of the design is there, with a value that the traffic above explains."""
    assert running.total("afterclick_events_total", topic="clicks", outcome="accepted") == 3
    assert running.total("afterclick_events_total", topic="purchases", outcome="accepted") == 1
    until(lambda: running.total("afterclick_consumer_lag_messages") == 0)
    everybodys, lists = (
        running.total(name) for name in ("afterclick_lists_total", "afterclick_event_to_list_seconds_count")
    )
    lists /= 2  # since the event, and since its arrival
    assert 1 <= lists <= 4
    assert lists < everybodys <= lists + 4, "and those for newcomers"
    for since in ("event", "arrival"):
        assert running.total("afterclick_event_to_list_seconds_count", since=since) == lists
        assert 0 < running.total("afterclick_event_to_list_seconds_sum", since=since) < 20 * lists
    for seconds in ("queue", "inference", "tokenise"):
        assert 0 < running.total(f"afterclick_{seconds}_seconds_count") <= everybodys + 1
        assert 0 < running.total(f"afterclick_{seconds}_seconds_sum") < 60
    assert 0 < running.total("afterclick_list_age_seconds") < 60
    assert running.total("afterclick_rank_queue_size") == 0
    assert lists <= running.total("afterclick_batch_lists_sum") <= everybodys
    assert running.total("afterclick_batch_tokens_sum") > 100
    assert running.total("afterclick_padding_tokens_total") >= 0
    assert running.total("afterclick_context_tokens_reused_total") >= 0
    assert 0 < running.total("afterclick_state_bytes_sum") <= 4096 * 4
    assert running.total("afterclick_users_flushed_total") >= 1
    assert running.total("afterclick_cache_writes_total", outcome="written") == everybodys
    assert running.total("afterclick_lists_degraded_total") == 0
    assert running.total("afterclick_dead_letters_total") == 0


class Traffic:
    """Events of some users at random, a fifth of them sent twice, and what the lists must say in the end."""

    def __init__(self, client: Client, seed: int, users: int = 25) -> None:
        self._client = client
        self._random = random.Random(seed)
        self._sent: dict[str, set[str]] = {f"user-{number}": set() for number in range(users)}

    def burst(self, count: int) -> None:
        for _ in range(count):
            user_id = self._random.choice(list(self._sent))
            topic = self._random.choice(["clicks", "clicks", "purchases"])
            happened = now_ms() - self._random.randrange(9**8)
            ids = self._sent[user_id]
            ids.add(self._client.click(user_id, self._random.choice(ITEMS), topic=topic, timestamp=happened))
            if self._random.random() < 0.2:
                again = self._random.choice(sorted(ids))
                self._client.click(user_id, self._random.choice(ITEMS), event_id=again, topic=topic)
        self._client.flush()

    def check(self, running: WorkerProcess) -> None:
        """`state_version` is the number of distinct events, and topic and Redis have the same newest list."""
        wanted = {user_id: len(event_ids) for user_id, event_ids in self._sent.items() if event_ids}
        cached: dict[str, Any] = {}

        def settled() -> bool:
            cached.update({user_id: self._client.cached(user_id) for user_id in wanted})
            return all(cached[user_id] and cached[user_id]["state_version"] == wanted[user_id] for user_id in wanted)

        try:
            until(settled, 60)
        finally:
            off = {u: (wanted[u], (cached[u] or {}).get("state_version")) for u in wanted}
            print("wanted and found:", {u: pair for u, pair in off.items() if pair[0] != pair[1]})
        until(lambda: running.total("afterclick_consumer_lag_messages") == 0)
        newest = self._client.newest()
        assert {user_id: self._client.cached(user_id) for user_id in wanted} == newest
        assert {user_id: list_["state_version"] for user_id, list_ in newest.items()} == wanted


def test_every_event_counts_once_through_restarts_and_a_lost_folder(settings: Settings, client: Client) -> None:
    """kill -9 and SIGTERM in the middle; the second and third worker start on empty folders, from the changelog."""
    client.items()
    traffic = Traffic(client, 11)
    with worker(settings, "all") as running:
        running.wait_ready()
        traffic.burst(400)
        until(lambda: running.total("afterclick_users_flushed_total") > 5)
        running.kill()
    with worker(settings, "all") as running:
        running.wait_ready()
        traffic.burst(600)
        assert running.stop() == 0
    with worker(settings, "all") as running:
        running.wait_ready()
        traffic.burst(400)
        traffic.check(running)


def test_workers_share_the_partitions_and_hand_them_over(settings: Settings, client: Client) -> None:
    """A second worker joins under load, the first leaves, a third joins and is killed."""

    def beside() -> Settings:
        return settings.model_copy(update={"metrics": settings.metrics.model_copy(update={"port": free_port()})})

    client.items()
    traffic = Traffic(client, 12)
    with worker(settings, "all") as first:
        first.wait_ready()
        traffic.burst(300)
        with worker(beside(), "all") as second:
            for _ in range(10):
                traffic.burst(50)
                time.sleep(1)
            second.wait_ready()
            assert first.stop() == 0
            for _ in range(5):
                traffic.burst(50)
                time.sleep(1)
            with worker(beside(), "state") as third:
                third.wait_ready()
                traffic.burst(300)
                third.kill()
            traffic.burst(100)
            traffic.check(second)


def test_a_rolling_restart_under_load_loses_nothing(settings: Settings, client: Client) -> None:
    """Two workers, replaced one after the other while events come in; each new one is ready before the next goes."""
    client.items()
    traffic = Traffic(client, 13)

    def beside(name: str) -> Settings:
        own = {"port": free_port()}
        kafka = settings.kafka.model_copy(update={"instance_id": name})
        return settings.model_copy(update={"metrics": settings.metrics.model_copy(update=own), "kafka": kafka})

    def replaced(old: WorkerProcess, name: str) -> WorkerProcess:
        stopping = threading.Thread(target=old.stop)
        stopping.start()
        while stopping.is_alive():
            traffic.burst(5)
            time.sleep(0.05)
        new = WorkerProcess(beside(name), "all")
        while new.total("afterclick_worker_ready") < 2:
            traffic.burst(5)
            time.sleep(0.1)
        return new

    running = [WorkerProcess(beside(name), "all") for name in ("one", "two")]
    try:
        for one in running:
            one.wait_ready()
        traffic.burst(200)
        for place, name in enumerate(("one", "two")):
            running[place] = replaced(running[place], name)
        traffic.burst(100)
        traffic.check(running[0])
        assert [one.stop() for one in running] == [0, 0]
    finally:
        for one in running:
            one.kill()


def test_a_state_of_a_newer_worker_stops_this_one_in_one_line(settings: Settings, client: Client) -> None:
    newer = msgspec.msgpack.encode([users.SCHEMA + 1, "another shape"])
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers})
    producer.produce(changelog_name(settings), newer, b"uann", partition=partition_of(b"ann", 4))
    assert producer.flush(10) == 0
    running = WorkerProcess(settings, "state")
    try:
        assert running.process.wait(60) == 2
    finally:
        running.kill()
    said = running.log.read_text().splitlines()
    assert said[-1].startswith("afterclick: user record: got schema 3, expected at most 2; a newer worker wrote it")
    assert not [line for line in said if "Traceback" in line]
    assert dict(client.consume(changelog_name(settings))) == {"uann": newer}, "nothing of it was changed"


def test_rocksdb_tables_restore_too(settings: Settings, client: Client) -> None:
    """From the disk, and from the changelog where the disk is empty; each worker ends amid users it just got to know.

    A table that is closed has no users: who reads it then begins them anew.
    """
    without_model = settings.ranker.model_copy(update={"model": "none"})
    tables = settings.tables.model_copy(update={"store": "rocksdb"})
    on_disk = settings.model_copy(update={"tables": tables, "ranker": without_model})
    client.items()
    traffic = Traffic(client, 13, users=2_000)
    for _ in range(2):
        with worker(on_disk, "all") as running:
            running.wait_ready()
            traffic.burst(4_000)
            until(lambda: running.total("afterclick_users_flushed_total"))
            assert running.stop() == 0
        assert any(settings.tables.data_dir.rglob("*.sst")) or any(settings.tables.data_dir.rglob("*.log"))
    shutil.rmtree(settings.tables.data_dir)
    with worker(on_disk, "all") as running:
        running.wait_ready()
        traffic.check(running)


def test_rejected_messages_are_kept_whole(settings: Settings) -> None:
    widest = {"max.message.bytes": str(MESSAGE_BYTES)}
    clicks = next(spec for spec in topic_specs(settings) if spec.name == settings.topic("clicks"))
    asyncio.run(ensure_topics(settings, [replace(clicks, config=widest)]))
    client = Client(settings)
    poison = {
        ("clicks", random.randbytes(MESSAGE_BYTES - 1024)),
        ("clicks", b"{not json"),
        ("clicks", b"\xff\xfe"),
        ("purchases", json.dumps({"event_id": "e", "user_id": "u", "item_id": "i", "timestamp": 5}).encode()),
        ("purchases", None),
        ("items", b'{"item_id": "another", "title": "key and id differ"}'),
        ("rank-requests", b'{"user_id": 1}'),
        ("forget", b"[]"),
    }
    with worker(settings, "all") as running:
        running.wait_ready()
        for topic, value in poison:
            client.produce(topic, "some-key", value)
        client.items()
        client.click("ann", ITEMS[0])
        client.flush()
        until(lambda: version(client, "ann", 1))
        until(lambda: running.total("afterclick_dead_letters_total") == len(poison))
        letters = [letter for _, letter in client.consume("dead-letters")]
        found = {
            (letter["topic"], None if letter["payload"] is None else base64.b64decode(letter["payload"]))
            for letter in letters
        }
        assert found == poison
        assert len(letters) == len(poison)
        assert all(letter["error"].startswith(letter["topic"]) for letter in letters)


def test_an_event_about_an_unknown_item_counts_when_the_item_arrives(settings: Settings, client: Client) -> None:
    with worker(settings, "all") as running:
        running.wait_ready()
        client.items(ITEMS[1:])
        until(lambda: running.total("afterclick_catalogue_items") == len(ITEMS) - 1)
        client.click("ann", ITEMS[0])
        client.flush()
        until(lambda: version(client, "ann", 1))
        assert client.cached("ann")["degraded"] == "cold-user"
        client.items(ITEMS[:1])
        until(lambda: client.cached("ann")["degraded"] is None)
        stored = client.cached("ann")
        assert stored["state_version"] == 1
        assert stored["items"][0]["reason"]["evidence"] == [ITEMS[0]]


def test_a_forgotten_user_is_gone_everywhere(settings: Settings, client: Client) -> None:
    with worker(settings, "all") as running:
        running.wait_ready()
        client.items()
        old_ms = now_ms() - 60_000
        for user_id in ("ann", "bob"):
            for number in range(70):
                client.click(user_id, ITEMS[number % 60], timestamp=old_ms)
        client.flush()
        until(lambda: version(client, "ann", 70) and version(client, "bob", 70))
        afterclick = subprocess.run(
            [sys.executable, "-m", "streams.cli", "forget", "ann"],
            env=environment(settings),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (afterclick.returncode, afterclick.stderr) == (0, "")
        until(lambda: client.cached("ann") is None)
        assert until(lambda: "ann" in (newest := client.newest()) and newest["ann"] is None)
        pending = dict(client.consume("rank-requests"))
        assert pending["ann"] is None, "the tombstone is the newest request"
        changelog = dict(client.consume(changelog_name(settings)))
        assert changelog["uann"] is None
        assert changelog["sann"] is None
        assert changelog["ubob"] is not None
        assert not any(b"ann" in (value or b"") for value in changelog.values())
        client.click("ann", ITEMS[0], timestamp=old_ms)
        client.click("bob", ITEMS[0])
        client.flush()
        until(lambda: version(client, "bob", 71))
        until(lambda: running.total("afterclick_events_total", outcome="forgotten") == 1)
        assert client.cached("ann") is None, "an event of the erased past does not bring them back"
        client.click("ann", ITEMS[0])
        client.flush()
        until(lambda: version(client, "ann", 1))


def test_a_user_lives_in_one_place_whatever_partitioner_their_producers_use(settings: Settings, client: Client) -> None:
    with worker(settings, "all") as running:
        running.wait_ready()
        client.items()
        home = partition_of(b"ann", settings.kafka.partitions)
        producer = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers})
        for number in range(12):
            event = {"event_id": f"e{number}", "user_id": "ann", "item_id": ITEMS[number], "timestamp": now_ms()}
            producer.produce(settings.topic("clicks"), value=json.dumps(event), partition=number % 4, key=b"any")
        producer.flush(10)
        until(lambda: version(client, "ann", 12))
        away = sum(number % 4 != home for number in range(12))
        assert running.total("afterclick_repartitioned_total", topic="clicks") == away
        assert running.total("afterclick_events_total", topic="clicks", outcome="accepted") == 12


def test_an_upstream_system_brings_its_own_candidates(settings: Settings, client: Client) -> None:
    with worker(settings, "rank") as running:
        running.wait_ready()
        request = {
            "request_id": "r1",
            "user_id": "ann",
            "as_of": "2026-03-01T12:00:00Z",
            "history": [
                {
                    "item_id": "a",
                    "type": "purchase",
                    "timestamp": "2026-02-27T12:00:00Z",
                    "title": "Trail running shoes",
                }
            ],
            "candidates": [
                {"item_id": "x", "text": "Cast iron casserole"},
                {"item_id": "y", "text": "Running socks"},
                {"item_id": "a", "text": "Trail running shoes"},
            ],
        }
        client.produce("rank-requests", "ann", request)
        client.flush()
        stored = until(lambda: client.cached("ann"))
        assert [item["item_id"] for item in stored["items"]][:2] == ["a", "y"]
        assert stored["items"][1]["reason"]["text"] == "Picked for you"
        assert (stored["list_id"], stored["as_of"]) == ("r1", 1_772_366_400_000)


def test_the_newest_list_wins_in_redis(settings: Settings, client: Client) -> None:
    def request(request_id: str, as_of: int, state_version: int) -> None:
        value = {"request_id": request_id, "user_id": "ann", "as_of": as_of, "state_version": state_version}
        client.produce("rank-requests", "ann", {**value, "history": [], "candidates": [{"item_id": "x", "text": "X"}]})
        client.flush()

    start = 1_772_366_400_000
    with worker(settings, "rank") as running:
        running.wait_ready()
        request("first", start, 5)
        until(lambda: (client.cached("ann") or {}).get("list_id") == "first")
        for older in ((start - 1, 9), (start, 4)):
            request("older", *older)
        until(lambda: running.total("afterclick_cache_writes_total", outcome="older") >= 1)
        assert client.cached("ann")["list_id"] == "first"
        request("same", start, 5)
        until(lambda: client.cached("ann")["list_id"] == "same")
        request("newer", start, 6)
        until(lambda: client.cached("ann")["list_id"] == "newer")
        assert client.cached("ann")["degraded"] == "cold-user"


def test_a_bug_stops_the_worker_before_anything_is_acknowledged(settings: Settings, client: Client) -> None:
    """A source of the user's own that raises: the worker ends with status 1; mended, it takes the same event again."""
    broken = settings.model_copy(
        update={"candidates": settings.candidates.model_copy(update={"sources": ("tests.broken:Source",)})}
    )
    client.items()
    with worker(broken, "all") as running:
        running.wait_ready()
        client.click("ann", ITEMS[0])
        client.flush()
        assert running.process.wait(30) == 1
        assert "a bug of ours" in running.log.read_text()
    with worker(settings, "all") as running:
        running.wait_ready()
        until(lambda: version(client, "ann", 1))

"""The product end to end: a real Kafka, a real Redis, a real worker, and clients of other projects."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import subprocess
import sys
from dataclasses import replace

from confluent_kafka import Producer

from ranker.version import version as version_of
from streams.kafka.client import partition_of
from streams.kafka.topics import changelog_name, ensure_topics, topic_specs
from streams.settings import Settings
from streams.testing.worker_process import WorkerProcess, environment, worker
from tests.client import ITEMS, KINDS, MAX_MESSAGE_BYTES, Client, now_ms, until, version


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
        cold_start = until(lambda: client.cached("*"))
        kinds = {KINDS[int(item["item_id"].split("-")[1]) % len(KINDS)] for item in cold_start["items"][: len(KINDS)]}
        assert kinds == set(KINDS), "one of each kind first"
        assert cold_start["degraded"] == "cold-user"
        assert 0 < client.redis.ttl(settings.key_prefix + "ann") <= settings.redis.ttl_s
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
    assert lists < everybodys <= lists + 4, "and the cold-start lists"
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


def test_rejected_messages_are_kept_whole_if_they_fit(settings: Settings) -> None:
    widest = {"max.message.bytes": str(MAX_MESSAGE_BYTES)}
    clicks = next(spec for spec in topic_specs(settings) if spec.name == settings.topic("clicks"))
    asyncio.run(ensure_topics(settings, [replace(clicks, config=widest)]))
    client = Client(settings)
    poison = {
        ("clicks", random.randbytes(6_000_000)),
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
        too_wide = random.randbytes(MAX_MESSAGE_BYTES - 1024)
        client.produce("clicks", "some-key", too_wide)
        client.items()
        client.click("ann", ITEMS[0])
        client.flush()
        until(lambda: version(client, "ann", 1))
        until(lambda: running.total("afterclick_dead_letters_total") == len(poison) + 1)
        every = [letter for _, letter in client.consume("dead-letters")]
        (cut,) = [letter for letter in every if "payload_bytes" in letter]
        assert cut["payload_bytes"] == len(too_wide)
        beginning = base64.b64decode(cut["payload"])
        assert too_wide.startswith(beginning)
        assert len(beginning) > 6_200_000, "as much as the topic takes"
        assert running.total("afterclick_messages_cut_total", topic="dead-letters") == 1
        letters = [letter for letter in every if letter is not cut]
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


def test_a_user_has_one_partition_whatever_partitioner_producers_use(settings: Settings, client: Client) -> None:
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
        update={"candidates": settings.candidates.model_copy(update={"sources": ("tests.broken_source:BrokenSource",)})}
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

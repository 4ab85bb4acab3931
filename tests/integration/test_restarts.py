"""Workers end, are killed, restart, lose their folder and share the work, and every event counts once."""

from __future__ import annotations

import random
from typing import Any

import msgspec
from confluent_kafka import Producer

from streams.kafka.client import partition_of
from streams.kafka.topics import changelog_name
from streams.settings import Settings
from streams.state import user_record
from streams.testing.worker_process import WorkerProcess, worker
from tests.client import ITEMS, Client, now_ms, until


class Traffic:
    """Events of some users at random, a fifth of them sent twice, and what the lists must say in the end."""

    def __init__(self, client: Client, seed: int, users: int = 25) -> None:
        self._client = client
        self._random = random.Random(seed)
        self._sent: dict[str, set[tuple[str, str, str]]] = {f"user-{number}": set() for number in range(users)}

    def burst(self, count: int) -> None:
        for _ in range(count):
            user_id = self._random.choice(list(self._sent))
            topic = self._random.choice(["clicks", "clicks", "purchases"])
            happened, item_id = now_ms() - self._random.randrange(9**8), self._random.choice(ITEMS)
            sent = self._sent[user_id]
            sent.add((topic, item_id, self._client.click(user_id, item_id, topic=topic, timestamp=happened)))
            if self._random.random() < 0.2:
                topic, item_id, again = self._random.choice(sorted(sent))
                self._client.click(user_id, item_id, event_id=again, topic=topic)
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
        vectors = {of: running.total("afterclick_new_text_vectors_total", source=of) for of in ("disk", "model")}
        assert vectors["model"] == 0, "the catalogue is the same as before: no text is encoded again"
        assert vectors["disk"] == len(ITEMS)


def test_a_state_of_a_newer_worker_stops_this_one_in_one_line(settings: Settings, client: Client) -> None:
    newer = msgspec.msgpack.encode([user_record.SCHEMA + 1, "another shape"])
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers})
    producer.produce(changelog_name(settings), newer, b"uann", partition=partition_of(b"ann", 4))
    assert producer.flush(10) == 0
    running = WorkerProcess(settings, "state")
    try:
        assert running.process.wait(60) == 2
    finally:
        running.kill()
    said = running.log.read_text().splitlines()
    expected = f"got schema {user_record.SCHEMA + 1}, expected {user_record.SCHEMA}; a newer worker wrote it"
    assert said[-1].startswith(f"afterclick: user record: {expected}")
    assert not [line for line in said if "Traceback" in line]
    assert dict(client.consume(changelog_name(settings))) == {"uann": newer}, "nothing of it was changed"

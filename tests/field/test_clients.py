"""Clients in other languages as streams/README.md shows them, and the Python client while Kafka breaks."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import confluent_kafka
import msgspec
import pytest

from streams.client import (
    Candidate,
    Click,
    Client,
    Forgotten,
    Item,
    RankRequest,
    RerankCandidate,
    Reranked,
    ServiceUnavailable,
)
from streams.contracts import Reason, Recommendations, RecommendedItem
from streams.kafka.client import partition_of
from streams.kafka.topics import ensure_topics, topic_specs
from streams.receive.decode import receive
from streams.receive.message import Message
from streams.settings import HttpSettings, KafkaSettings, RankerSettings, Settings
from streams.testing.apache_kafka import ApacheKafka
from streams.testing.embedded import free_port
from streams.testing.worker_process import worker
from tests.client import Client as Shop
from tests.client import until
from tests.documents import ROOT, blocks
from tests.faults.cluster import Kafka as Cluster

PARTITIONS = 4
LIST = Recommendations(
    schema=2, list_id="l1", user_id="u1", as_of=1, generated_at=1, state_version=1, model="none", trigger=None,
    degraded=None,
    items=[RecommendedItem(item_id="i7", rank=1, score=None, sources=[], reason=Reason(text="New"))],
)  # fmt: skip
EVENTS, SENDERS = 300, 4


@pytest.fixture(scope="module")
def servers(kafka_home: Path) -> Iterator[str]:
    """A Kafka whose topics have no prefix, as in the snippets, with one list."""
    with ApacheKafka(kafka_home) as kafka:
        create_topics(kafka.bootstrap_servers)
        producer = confluent_kafka.Producer({"bootstrap.servers": kafka.bootstrap_servers})
        producer.produce("recommendations", key="u1", value=msgspec.json.encode(LIST))
        assert producer.flush(30) == 0
        yield kafka.bootstrap_servers


def create_topics(servers: str) -> None:
    settings = Settings(kafka=KafkaSettings(bootstrap_servers=servers, partitions=PARTITIONS))
    asyncio.run(ensure_topics(settings, topic_specs(settings)))


def snippet(language: str, servers: str, part: str = "") -> str:
    (block,) = (b for b in blocks("streams/README.md") if b.language == language and part in b.text)
    return block.text.replace("localhost:9092", servers)


def clicks(servers: str) -> list[tuple[int, bytes, bytes]]:
    """Read the topic `clicks` to its end: partition, key and value of each message."""
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": servers, "group.id": "test", "enable.partition.eof": True}
    )
    consumer.assign([confluent_kafka.TopicPartition("clicks", number, 0) for number in range(PARTITIONS)])
    read, at_end = [], 0
    while at_end < PARTITIONS:
        message: Any = consumer.poll(30)
        if message.error():
            assert message.error().code() == confluent_kafka.KafkaError._PARTITION_EOF
            at_end += 1
        else:
            read.append((message.partition(), message.key(), message.value()))
    consumer.close()
    return read


@contextmanager
def running(command: list[str], folder: Path, **environment: str) -> Iterator[Path]:
    """Run a program that does not end by itself; its output goes to a file."""
    output = folder / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=folder, env=os.environ | environment, stdout=file, stderr=file, stdin=subprocess.DEVNULL
        )
    try:
        yield output
    finally:
        process.kill()
        process.wait()


def check(servers: str, command: list[str], folder: Path, expected: str) -> None:
    """Run a snippet: its click is as a worker wants it, and it prints the list."""
    before = len(clicks(servers))
    with running(command, folder) as output:
        until(lambda: expected in output.read_text(), 60)
    partition, key, value = clicks(servers)[-1]
    assert len(clicks(servers)) == before + 1
    assert partition == partition_of(key, PARTITIONS)
    receive(Message("clicks", 0, 0, key, value), time.time_ns() // 10**6)


def test_the_python_snippets_send_a_click_and_read_lists(servers: str, redis_url: str, tmp_path: Path) -> None:
    source = snippet("python", servers, "with Client(").replace("redis://localhost:6379/0", redis_url)
    subprocess.run([sys.executable, "-c", source], check=True, timeout=60)
    assert [key for _, key, _ in clicks(servers)] == [b"u1"]
    follow = [sys.executable, "-c", snippet("python", servers, "AsyncClient")]
    with running(follow, tmp_path, PYTHONUNBUFFERED="1", PYTHONPATH=str(ROOT)) as output:
        until(lambda: "store u1" in output.read_text(), 60)


def test_the_node_snippet_sends_a_click_and_reads_lists(servers: str, tmp_path: Path) -> None:
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("needs node and npm")
    (tmp_path / "package.json").write_text("{}")
    install = ["npm", "install", "--no-audit", "--no-fund", "--silent", "kafkajs@2.2.4"]
    installed = subprocess.run(install, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    if installed.returncode:
        pytest.skip(f"needs kafkajs from the npm registry: {installed.stderr or installed.stdout}")
    (tmp_path / "shop.mjs").write_text(snippet("javascript", servers))
    check(servers, ["node", "shop.mjs"], tmp_path, "u1 [ 'i7' ]")


def test_the_java_snippet_sends_a_click_and_reads_lists(servers: str, kafka_home: Path, tmp_path: Path) -> None:
    if not shutil.which("javac"):
        pytest.skip("needs javac, of a JDK")
    (tmp_path / "Shop.java").write_text(snippet("java", servers))
    check(servers, ["java", "-cp", f"{kafka_home / 'libs'}/*", "Shop.java"], tmp_path, '"item_id":"i7"')


def test_a_shop_needs_nothing_but_the_client(settings: Settings, client: Shop) -> None:
    """Items and events in; lists from Redis, HTTP and Kafka, for a placement too; scores; and everything forgotten."""
    ranker = RankerSettings(model="none", placements=("cart",))
    settings = settings.model_copy(update={"ranker": ranker, "http": HttpSettings(port=free_port())})
    kafka, url = settings.kafka.bootstrap_servers, settings.redis.url.get_secret_value()
    http = f"http://127.0.0.1:{settings.http.port}"
    names: dict[str, Any] = {"topic_prefix": settings.topic_prefix, "placements": ("cart",)}
    with worker(settings) as running, Client(kafka=kafka, redis=url, **names) as fast, Client(http=http) as by_http:
        running.wait_ready()
        fast.send(*(Item(item_id=f"i{n}", title=f"Boots of kind {n}", categories=["Boots"]) for n in range(10)))
        by_http.send(Item(item_id="i10", title="Boots of leather"))
        until(lambda: running.total("afterclick_catalogue_items") == 11)
        fast.click("u1", "i1")
        by_http.click("u1", "i2")
        made = until(
            lambda: (own := fast.recommendations("u1", cold_start=False)) and own.state_version == 2 and own, 60
        )
        assert by_http.recommendations("u1") == made
        candidate = Candidate(item_id="i9", text="Boots of kind 9")
        fast.send(RankRequest(
            request_id="r1", user_id="u1", as_of=made.as_of, history=[], candidates=[candidate], placement="cart",
        ))  # fmt: skip
        cart = until(lambda: fast.recommendations("u1", "cart", cold_start=False), 60)
        assert [item.item_id for item in cart.items] == ["i9"]
        assert by_http.recommendations("u1", "cart") == cart
        ranked = until(lambda: scores(by_http), 60)
        assert {item.item_id for item in ranked.items} == {"i3", "new"}
        assert [error.item_id for error in ranked.errors] == ["unknown"]
        by_http.forget("u1")
        until(lambda: fast.recommendations("u1", cold_start=False) is None, 60)
        lists = fast.lists(from_beginning=True)
        read: list[Any] = []
        while not {Forgotten("u1"), Forgotten("u1", "cart")} <= {each for each in read if isinstance(each, Forgotten)}:
            read.append(next(lists))
        assert made in read
        assert cart in read


def own_list(client: Client, version: int) -> Recommendations | None:
    own = client.recommendations("u1", cold_start=False)
    return own if own and own.state_version == version else None


def scores(client: Client) -> Reranked | None:
    """Rerank once the server's copy of the catalogue is there."""
    candidates: list[RerankCandidate | str] = ["i3", RerankCandidate("new", text="Boots"), "unknown"]
    try:
        ranked = client.rerank(candidates, user_id="u1")
    except ServiceUnavailable:
        return None
    return ranked if len(ranked.errors) == 1 else None


def test_no_event_is_lost_or_counted_twice_while_the_broker_is_killed(kafka_home: Path, tmp_path: Path) -> None:
    """Several threads share a client. The broker is killed while they send, and comes back."""
    cluster = Cluster(kafka_home, tmp_path, 1)
    sent: list[str] = []
    try:
        cluster.start()
        create_topics(cluster.bootstrap_servers)
        with Client(kafka=cluster.bootstrap_servers, timeout_s=60) as client:

            def send(sender: int) -> None:
                sent.extend(client.click(f"u{sender}", "i1", event_id=f"{sender}-{n}") for n in range(EVENTS))

            threads = [threading.Thread(target=send, args=(sender,)) for sender in range(SENDERS)]
            for thread in threads:
                thread.start()
            until(lambda: len(sent) > EVENTS * SENDERS / 3, 60)
            cluster.kill()
            time.sleep(0.5)
            assert len(sent) < EVENTS * SENDERS
            cluster.start()
            for thread in threads:
                thread.join(120)
        stored = [msgspec.json.decode(value, type=Click) for _, _, value in clicks(cluster.bootstrap_servers)]
    finally:
        cluster.kill()
    assert len(sent) == EVENTS * SENDERS
    assert sorted(click.event_id for click in stored) == sorted(sent)
    for sender in range(SENDERS):
        of_user = [click.event_id for click in stored if click.user_id == f"u{sender}"]
        assert of_user == [f"{sender}-{number}" for number in range(EVENTS)]

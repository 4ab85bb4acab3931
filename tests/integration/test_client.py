"""The client on a real Kafka, a real Redis and a real HTTP service."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import confluent_kafka
import httpx
import msgspec
import pytest
import redis.asyncio
from pydantic import SecretStr

from streams.client import AsyncClient, Click, Client, ClientClosed, Forgotten, Item, ServiceRefused, ServiceUnavailable
from streams.contracts import COLD_START_USER, Recommendations
from streams.kafka.client import partition_of
from streams.settings import HttpSettings, Settings
from streams.testing.embedded import free_port, stop_process
from streams.testing.worker_process import environment
from tests.client import Client as Shop

TOKEN = "a token of letters"
START_S = 60.0


def kafka_client(settings: Settings, **more: Any) -> Client:
    return Client(kafka=settings.kafka.bootstrap_servers, topic_prefix=settings.topic_prefix, **more)


def list_of(user_id: str, version: int = 1) -> Recommendations:
    return Recommendations(
        schema=2, list_id=f"{user_id}-{version}", user_id=user_id, as_of=1, generated_at=1, state_version=version,
        model="none", trigger=None, degraded=None, items=[],
    )  # fmt: skip


def records(settings: Settings, topic: str, count: int) -> list[tuple[int, bytes, bytes | None]]:
    """Read so many messages of a topic, and no more: partition, key and value of each."""
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": settings.kafka.bootstrap_servers, "group.id": uuid.uuid4().hex}
    )
    partitions = range(settings.kafka.partitions)
    consumer.assign([confluent_kafka.TopicPartition(settings.topic(topic), number, 0) for number in partitions])
    try:
        read = [consumer.poll(30) for _ in range(count)]
        assert consumer.poll(0.2) is None
    finally:
        consumer.close()
    return [(message.partition(), message.key(), message.value()) for message in read]  # type: ignore[union-attr, misc]


def test_what_it_sends_is_stored_under_the_keys_that_the_workers_expect(settings: Settings, client: Shop) -> None:
    users = [f"user {number}" for number in range(20)]
    with kafka_client(settings) as sender:
        sender.send(Item(item_id="i1", title="Boots"), *(click(user) for user in users))
        sender.delete_items("i1")
        sender.forget(users[0])
    clicks = records(settings, "clicks", len(users))
    assert {key.decode() for _, key, _ in clicks} == set(users)
    for partition, key, value in clicks:
        assert partition == partition_of(key, settings.kafka.partitions)
        assert msgspec.json.decode(value or b"", type=Click).user_id == key.decode()
    assert [value is None for _, _, value in records(settings, "items", 2)] == [False, True]
    assert [key for _, key, _ in records(settings, "forget", 1)] == [users[0].encode()]


def click(user_id: str) -> Click:
    return Click(event_id=uuid.uuid4().hex, user_id=user_id, item_id="i1", timestamp=time.time_ns() // 10**6)


def test_a_group_goes_on_where_it_was(settings: Settings, client: Shop) -> None:
    """The list that was being worked on when the iteration ended comes again."""
    for version in range(1, 4):
        client.produce("recommendations", "u1", msgspec.json.encode(list_of("u1", version)))
    client.produce("recommendations", "u1", None)
    client.flush()
    with kafka_client(settings) as reader:
        first = [*itertools.islice(reader.lists(group="mail", from_beginning=True), 2)]
        again = list(itertools.islice(reader.lists(group="mail", from_beginning=True), 3))
    assert first == [list_of("u1", 1), list_of("u1", 2)]
    assert again == [list_of("u1", 2), list_of("u1", 3), Forgotten("u1")]


def test_new_lists_arrive_while_the_iteration_waits(settings: Settings, client: Shop) -> None:
    async def read() -> object:
        async with AsyncClient(kafka=settings.kafka.bootstrap_servers, topic_prefix=settings.topic_prefix) as reader:
            lists = reader.lists()
            arrived = asyncio.ensure_future(anext(lists))
            for version in itertools.count():  # until the iteration has found the end of the topic
                client.produce("recommendations", "u1", msgspec.json.encode(list_of("u1", version)))
                client.flush()
                if arrived in (await asyncio.wait([arrived], timeout=0.2))[0]:
                    break
            await lists.aclose()
            return arrived.result()

    assert isinstance(asyncio.run(asyncio.wait_for(read(), 30)), Recommendations)


def test_a_client_that_is_closed_ends_the_iteration_of_another_thread(settings: Settings, client: Shop) -> None:
    reader = kafka_client(settings)
    open_lists = reader.lists(from_beginning=True)
    client.produce("recommendations", "u1", msgspec.json.encode(list_of("u1")))
    client.flush()
    assert next(open_lists) == list_of("u1")
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(next, open_lists)
        time.sleep(0.2)
        reader.close()
        with pytest.raises(ClientClosed, match="got a closed client"):
            waiting.result(10)


@pytest.mark.parametrize("given", ["url", "client"])
def test_a_list_is_read_from_redis(settings: Settings, client: Shop, given: str) -> None:
    url = settings.redis.url.get_secret_value()
    client.redis.set(settings.key_prefix + "u1", msgspec.json.encode(list_of("u1")))
    client.redis.set(settings.key_prefix + "damaged", b"{}")
    cache = url if given == "url" else redis.asyncio.Redis.from_url(url, decode_responses=True)
    with Client(redis=cache, topic_prefix=settings.topic_prefix) as reader:
        assert reader.recommendations("u1") == list_of("u1")
        assert reader.recommendations("u2") is None
        client.redis.set(settings.key_prefix + COLD_START_USER, msgspec.json.encode(list_of(COLD_START_USER)))
        assert reader.recommendations("u2") == list_of(COLD_START_USER)
        assert reader.recommendations("u2", cold_start=False) is None
        empty = msgspec.structs.replace(list_of("u3"), items=[])
        client.redis.set(settings.key_prefix + "u3", msgspec.json.encode(empty))
        assert reader.recommendations("u3") == list_of(COLD_START_USER)
        assert reader.recommendations("u3", cold_start=False) == empty
        with pytest.raises(ServiceRefused, match=r"the list of 'damaged': got .*missing"):
            reader.recommendations("damaged")


def test_a_wrong_login_is_refused_at_once(settings: Settings) -> None:
    address = settings.redis.url.get_secret_value().replace("://", "://stranger:a-password@")
    with Client(redis=address) as reader, pytest.raises(ServiceRefused, match="correct the login of `redis`"):
        reader.recommendations("u1")


def test_a_topic_that_nobody_made_is_named_and_kafka_is_not_blamed(settings: Settings) -> None:
    servers = settings.kafka.bootstrap_servers
    with (
        Client(kafka=servers, topic_prefix="never-", timeout_s=1) as early,
        pytest.raises(ServiceUnavailable, match=r"topic never-recommendations: got none in Kafka at .* start a worker"),
    ):
        next(early.lists())
    with (
        Client(kafka=f"127.0.0.1:{free_port()}", timeout_s=1) as lost,
        pytest.raises(ServiceUnavailable, match=r"Kafka at .* expected a connection within 1 s"),
    ):
        next(lost.lists())


@contextmanager
def service(settings: Settings) -> Iterator[str]:
    """`afterclick serve` in a process of its own."""
    command = [sys.executable, "-m", "streams.cli", "serve"]
    process = subprocess.Popen(command, env=environment(settings), stdin=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{settings.http.port}"
    try:
        deadline_s = time.monotonic() + START_S
        while time.monotonic() < deadline_s and process.poll() is None:
            try:
                if httpx.get(f"{url}/readyz").is_success:
                    break
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        yield url
    finally:
        stop_process(process)


def test_everything_goes_by_http(settings: Settings, client: Shop) -> None:
    tokens = {name: SecretStr(TOKEN) for name in ("read_token", "write_token", "rank_token")}
    settings = settings.model_copy(update={"http": HttpSettings(port=free_port(), rerank=False, **tokens)})
    client.redis.set(settings.key_prefix + "a/b", msgspec.json.encode(list_of("a/b")))
    with service(settings) as url:
        with Client(http=url, read_token=TOKEN, write_token=TOKEN) as by_http:
            by_http.send(Item(item_id="i1", title="Boots"))
            event_id = by_http.click("u1", "i1", text="boots", dwell_ms=5)
            by_http.purchase("u1", "i1", quantity=2, price=9.5, currency="EUR")
            by_http.impression("u1", "l1", ["i1"])
            by_http.merge("v1", "u1")
            by_http.forget("u1")
            assert by_http.recommendations("a/b") == list_of("a/b")
            assert by_http.recommendations("u1") is None
        refusal = pytest.raises(ServiceRefused, match=r"401 unauthorized .* correct `read_token`")
        with Client(http=url, read_token="another token") as stranger, refusal:
            stranger.recommendations("a/b")
    ((_, _, value),) = records(settings, "clicks", 1)
    stored = msgspec.json.decode(value or b"", type=Click)
    assert (stored.event_id, stored.user_id, stored.text, stored.dwell_ms) == (event_id, "u1", "boots", 5)
    for topic in ("items", "purchases", "impressions", "merges", "forget"):
        assert len(records(settings, topic, 1)) == 1
    with Client(http=url, timeout_s=0.5) as late, pytest.raises(ServiceUnavailable, match="got ConnectError"):
        late.recommendations("u1")

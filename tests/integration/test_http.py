"""HTTP over a real Kafka and a real Redis: what goes in and out, and what a connection may cost."""

from __future__ import annotations

import asyncio
import json
import shlex
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import httpx
import pytest
import redis
from pydantic import SecretStr

from streams.settings import HttpSettings, KafkaSettings, RedisSettings, Settings
from tests.client import Client, now_ms, until
from tests.documents import blocks
from tests.http_app import serving

CLIENT_TIMEOUT_S = 0.5


def made(kafka: str, redis_url: str, **http: object) -> Settings:
    unique = uuid.uuid4().hex[:8]
    return Settings(
        topic_prefix=f"h{unique}.",
        kafka=KafkaSettings(bootstrap_servers=kafka, group_id=f"g{unique}", partitions=4),
        redis=RedisSettings(url=SecretStr(redis_url)),
        http=HttpSettings.model_validate(
            {"rate_per_s": 0, "client_timeout_s": CLIENT_TIMEOUT_S, "rerank": False} | http
        ),
    )


@pytest.fixture(scope="module")
def shop_settings(kafka: str, redis_url: str) -> Settings:
    return made(kafka, redis_url, max_connections=20)


@pytest.fixture(scope="module")
def address(shop_settings: Settings) -> Iterator[str]:
    with serving(shop_settings) as url:
        until(lambda: httpx.get(f"{url}/readyz").text == "ok\n")
        yield url


def event(**more: object) -> dict[str, object]:
    return {"type": "click", "event_id": "e", "user_id": "ann", "item_id": "i", "timestamp": now_ms(), **more}


def test_events_are_in_kafka_when_the_answer_comes(shop_settings: Settings, address: str) -> None:
    events = [event(event_id=f"e{number}", user_id=f"u{number % 3}") for number in range(300)]
    answer = httpx.post(f"{address}/v1/events", json={"events": [*events, event(type="purchase", price=-1)]})
    assert answer.status_code == 207
    assert [each.get("accepted") for each in answer.json()["results"]] == [True] * 300 + [None]
    assert httpx.delete(f"{address}/v1/users/a%2Fb").status_code == 202
    client = Client(shop_settings)
    got = list(client.consume("clicks"))
    for user in ("u0", "u1", "u2"):
        assert [value["event_id"] for key, value in got if key == user] == [
            each["event_id"] for each in events if each["user_id"] == user
        ], "in the order of the request"
    assert [key for key, _ in client.consume("forget")] == ["a/b"]


def test_the_commands_of_the_readme_do_what_it_says(shop_settings: Settings, address: str) -> None:
    with redis.Redis.from_url(shop_settings.redis.url.get_secret_value()) as cache:
        cache.set(f"{shop_settings.key_prefix}*", json.dumps({"schema": 2, "user_id": "*", "items": [1, 2]}))
    lines = [line for block in blocks("streams/README.md") for line in block.text.splitlines()]
    answers = {}
    for path in ("recommendations", "events", "users", "openapi.json"):
        (line,) = [one for one in lines if one.startswith("curl ") and f"/{path}" in one and "domain" not in one]
        command = [*shlex.split(line.replace("http://127.0.0.1:8080", address)), "-sf"]
        answers[path] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert answers["recommendations"]["user_id"] == "*"
    assert answers["events"] == {"results": [{"accepted": True}]}
    assert answers["users"] == {"accepted": True}
    assert answers["openapi.json"]["openapi"] == "3.1.0"


def test_reads_that_come_together_each_get_their_own_list(shop_settings: Settings, address: str) -> None:
    with redis.Redis.from_url(shop_settings.redis.url.get_secret_value()) as cache:
        for number in range(50):
            cache.set(f"{shop_settings.key_prefix}u{number}", json.dumps({"schema": 2, "user_id": f"u{number}"}))

    async def read() -> list[httpx.Response]:
        async with httpx.AsyncClient(limits=httpx.Limits(max_connections=10)) as client:
            reads = [client.get(f"{address}/v1/recommendations/u{number % 60}") for number in range(200)]
            return list(await asyncio.gather(*reads))

    answers = asyncio.run(read())
    assert [each.status_code for each in answers] == [200 if number % 60 < 50 else 404 for number in range(200)]
    assert all(each.json()["user_id"] == f"u{n % 60}" for n, each in enumerate(answers) if each.status_code == 200)


def connect(address: str) -> socket.socket:
    parts = urlsplit(address)
    connection = socket.create_connection((parts.hostname, parts.port))
    connection.settimeout(5)
    return connection


def all_of(connection: socket.socket) -> bytes:
    """Read until the server closes the connection."""
    received = b""
    while part := connection.recv(65_536):
        received += part
    return received


HEAD = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"


@pytest.mark.parametrize("sent", [b"", HEAD, POST, POST + b"{", HEAD + b"\r\n" + HEAD, b"\r\n"])
def test_a_client_that_does_not_send_a_whole_request_in_time_is_disconnected(address: str, sent: bytes) -> None:
    with connect(address) as connection:
        connection.sendall(sent)
        started_s = time.monotonic()
        answer = all_of(connection)
        assert CLIENT_TIMEOUT_S * 0.5 < time.monotonic() - started_s < CLIENT_TIMEOUT_S * 6
    assert b"408 Request Timeout" in answer
    assert json.loads(answer.rpartition(b"\r\n\r\n")[2])["error"]["code"] == "timeout"


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"\x16\x03\x01\x02\x00", "malformed"),
        (b"GET / HTTP/1.1\r\nbad header\r\n\r\n", "malformed"),
        (b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n", "malformed"),
        (HEAD + b"X: " + b"a" * 200_000, "head_too_large"),
        (b"GET /" + b"a" * 200_000, "head_too_large"),
    ],
)
def test_what_is_no_request_is_refused(address: str, sent: bytes, code: str) -> None:
    with connect(address) as connection:
        connection.sendall(sent)
        answer = all_of(connection)
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == code


def test_a_request_under_way_is_answered_when_the_server_ends(kafka: str, redis_url: str) -> None:
    with ExitStack() as stack:
        url = stack.enter_context(serving(made(kafka, redis_url, client_timeout_s=10)))
        with connect(url) as connection, connect(url) as idle:
            connection.sendall(POST + b"{")
            until(lambda: httpx.get(f"{url}/livez").is_success)
            ending = threading.Thread(target=stack.close)
            ending.start()
            assert all_of(idle) == b"", "a connection without a request is closed"
            connection.sendall(b" " * 98 + b"}")
            assert b'"invalid_body"' in all_of(connection)
            ending.join()


def test_a_body_that_is_too_large_is_refused_while_it_comes(address: str) -> None:
    json_type = {"Content-Type": "application/json"}
    with httpx.Client() as client:
        for body in (b" " * (20 << 20), (b" " * (1 << 20) for _ in range(20))):  # with and without a Content-Length
            answer = client.post(f"{address}/v1/events", content=body, headers=json_type)
            assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
            assert client.get(f"{address}/livez").is_success, "the connection goes on"


def test_there_are_only_so_many_connections(address: str) -> None:
    held = [connect(address) for _ in range(30)]
    try:
        time.sleep(0.1)
        refused = [each for each in held if b"overloaded" in each.recv(1_000)]
        assert 10 <= len(refused) <= 12
    finally:
        for each in held:
            each.close()
    assert until(lambda: httpx.get(f"{address}/livez").is_success)


def test_an_upgrade_that_we_do_not_know_is_ignored(address: str) -> None:
    """Java's HTTP client asks for HTTP/2 with each first request, and keeps the connection."""
    asked = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQAoAAAAAIAAAAA"}
    with httpx.Client() as client:
        for headers in (asked, {}, asked):
            answer = client.post(f"{address}/v1/events", json={"events": [event()]}, headers=headers)
            assert answer.json() == {"results": [{"accepted": True}]}
            assert client.get(f"{address}/livez", headers=headers).text == "ok\n"

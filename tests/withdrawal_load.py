"""How long it takes until an item has left 1% of many lists, and all of them, and what that does to new lists.

    KAFKA_HOME=... python -m tests.withdrawal_load --lists 100000 --workers 2

Starts a Kafka, a Redis and workers of its own. The lists are written to the topic as a worker would have. Kafka runs
without the optimising compiler, which would take a third of the time of a broker that has just started, and next to
none of one that has run for a day.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from streams.settings import KafkaSettings, MetricsSettings, RedisSettings, Settings, TablesSettings
from streams.testing.apache_kafka import ApacheKafka
from streams.testing.embedded import EmbeddedRedis, free_port
from streams.testing.worker_process import WorkerProcess, worker
from tests.client import Client, now_ms, until

LIST_SIZE = 20
IN_ALL, IN_SOME = ("item-1", "item-3"), ("item-2", "item-4")
"""The first of each is withdrawn while nobody clicks, the second while some do."""
CATALOGUE = 1_000
CLICKS_PER_S = 5
POLL_S = 0.5


def list_of(number: int) -> dict[str, Any]:
    """Make a list of the size that a worker's lists have: about 3 KB."""
    shown = [*IN_ALL, *(IN_SOME if number % 100 == 0 else ())]
    shown += [f"item-{10 + (number * 7 + index * 13) % (CATALOGUE - 10)}" for index in range(LIST_SIZE - len(shown))]
    reason = {"text": "Because you viewed Trail running jacket of Nordvik", "evidence": ["item-5"]}
    items = [
        {"item_id": item_id, "rank": rank, "score": 0.5, "sources": ["co-visited", "nearest"], "reason": reason}
        for rank, item_id in enumerate(shown, 1)
    ]
    user_id = f"user-{number}"
    made = {"as_of": now_ms(), "generated_at": now_ms(), "state_version": 1, "model": "m@1", "degraded": None}
    names = {"schema": 2, "list_id": f"list-{number}", "user_id": user_id, "trigger": None, "placement": None}
    return {**names, **made, "items": items}


class Workers:
    """Workers that share the lists, with sums over their metrics."""

    def __init__(self, running: Sequence[WorkerProcess]) -> None:
        self.running = running

    def total(self, name: str) -> float:
        """Sum a metric. Each worker is asked for it alone: to render all of them takes a worker 10 ms."""
        texts = [one.get(f"/metrics?name[]={name}")[1] for one in self.running]
        families = [family for text in texts for family in text_string_to_metric_families(text)]
        return sum(sample.value for family in families for sample in family.samples if sample.name == name)

    def wait(self, name: str, value: float) -> None:
        until(lambda: self.total(name) >= value, 600)

    def samples(self) -> list[Any]:
        return [sample for one in self.running for sample in one.samples()]


class Latency:
    """The time from clicks to their lists, by the worker's histogram, while `measured` is open."""

    def __init__(self, client: Client, running: Workers) -> None:
        self._client, self._running = client, running
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._click)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def during(self, work: Callable[[], Any]) -> str:
        before = self._buckets()
        work()
        after = self._buckets()
        counts = sorted((float(bound), after[bound] - before.get(bound, 0)) for bound in after)
        total = counts[-1][1]
        quantiles = [next(bound for bound, count in counts if count >= share * total) for share in (0.5, 0.99)]
        return f"{total:.0f} lists, half of them within {quantiles[0]:g} s, 99% within {quantiles[1]:g} s"

    def _click(self) -> None:
        number = 0
        while not self._stopped.wait(1 / CLICKS_PER_S):
            number += 1
            self._client.click(f"active-{number % 50}", f"item-{10 + number % 500}")

    def _buckets(self) -> dict[str, float]:
        name = "afterclick_event_to_list_seconds_bucket"
        samples = [s for s in self._running.samples() if s.name == name and s.labels["since"] == "event"]
        return {
            bound: sum(s.value for s in samples if s.labels["le"] == bound)
            for bound in {s.labels["le"] for s in samples}
        }


def withdraw(client: Client, running: Workers, item_id: str, expected: int) -> None:
    def done() -> float:
        return running.total("afterclick_withdrawal_lists_total")

    def cpu_s() -> float:
        return running.total("process_cpu_seconds_total")

    began_s, began_cpu_s = time.monotonic(), cpu_s()
    time.sleep(POLL_S * 8)
    idle = (cpu_s() - began_cpu_s) / (time.monotonic() - began_s)
    before, began_s, began_cpu_s = done(), time.monotonic(), cpu_s()
    client.produce("items", item_id, None)
    client.flush()
    while (left := expected - (done() - before)) > 0:  # a poll costs some processor time
        time.sleep(POLL_S if left > expected / 10 else POLL_S / 10)
    took_s, lists = time.monotonic() - began_s, done() - before
    busy_s = cpu_s() - began_cpu_s - idle * took_s
    print(
        f"{item_id}: {lists:,.0f} lists in {took_s:.1f} s, {lists / took_s:,.0f} a second, "
        f"{1e3 * busy_s / lists:.2f} ms of processor time each",
        flush=True,
    )


def check(client: Client, newest: dict[str, Any], item_id: str, lists: int) -> None:
    """The newest lists of the topic, and all of Redis, are without the item."""
    on_topic = sum(item_id in json.dumps(list_["items"]).split('"') for list_ in newest.values())
    keys = [f"{client.settings.key_prefix}user-{number}" for number in range(lists)]
    stored: Any = [
        value for begin in range(0, lists, 1_000) for value in client.redis.mget(keys[begin : begin + 1_000])
    ]
    in_redis = sum(f'"{item_id}"'.encode() in value for value in stored if value)
    print(f"{item_id}: still in {on_topic} lists on the topic, in {in_redis} of {sum(map(bool, stored))} in Redis")


def measure(settings: Settings, lists: int, workers: int) -> None:
    client = Client(settings)
    client.items([f"item-{number}" for number in range(CATALOGUE)])
    for number in range(lists):
        client.produce("recommendations", f"user-{number}", list_of(number))
        if number % 10_000 == 0:
            client.flush()
    client.flush()
    with ExitStack() as stack:
        running = Workers([stack.enter_context(worker(_beside(settings), "all")) for _ in range(workers)])
        for one in running.running:
            one.wait_ready(600)
        began_s = time.monotonic()
        running.wait("afterclick_published_lists", lists)
        print(f"index of {lists:,} lists: {time.monotonic() - began_s:.1f} s after {workers} workers were ready")
        index_bytes = running.total("afterclick_published_lists_bytes")
        print(f"memory: {index_bytes / 1e6:.1f} MB, {index_bytes / lists:.0f} bytes a list", flush=True)
        until(lambda: running.total("afterclick_cache_pending_lists") == 0, 600)
        in_some = len(range(0, lists, 100))
        withdraw(client, running, IN_SOME[0], in_some)
        withdraw(client, running, IN_ALL[0], lists)
        latency = Latency(client, running)
        try:
            time.sleep(3)
            print("without a withdrawal:", latency.during(lambda: time.sleep(15)), flush=True)
            print("meanwhile:", latency.during(lambda: withdraw(client, running, IN_SOME[1], in_some)), flush=True)
            print("meanwhile:", latency.during(lambda: withdraw(client, running, IN_ALL[1], lists)), flush=True)
        finally:
            latency.stop()
        newest = client.newest()
        for item_id in (*IN_SOME, *IN_ALL):
            check(client, newest, item_id, lists)


def _beside(settings: Settings) -> Settings:
    return settings.model_copy(update={"metrics": settings.metrics.model_copy(update={"port": free_port()})})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lists", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=1)
    chosen = parser.parse_args()
    os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")
    installed = shutil.which("redis-server")
    with (
        ApacheKafka(Path(os.environ["KAFKA_HOME"])) as kafka,
        EmbeddedRedis(Path(installed) if installed else None) as redis,
        tempfile.TemporaryDirectory() as folder,
    ):
        settings = Settings(
            topic_prefix="load.",
            kafka=KafkaSettings(bootstrap_servers=kafka.bootstrap_servers),
            redis=RedisSettings(url=SecretStr(redis.url)),
            tables=TablesSettings(data_dir=Path(folder) / "data"),
            metrics=MetricsSettings(port=free_port()),
        )
        measure(settings, chosen.lists, chosen.workers)


if __name__ == "__main__":
    main()

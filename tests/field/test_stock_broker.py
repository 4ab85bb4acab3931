"""A Kafka as it comes, which creates topics on demand: the first minutes of a new user, in the wrong order too."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from pydantic import SecretStr

from streams.settings import KafkaSettings, MetricsSettings, RankerSettings, RedisSettings, Settings, TablesSettings
from streams.testing.apache_kafka import ApacheKafka
from streams.testing.embedded import free_port
from streams.testing.worker_process import WorkerProcess, environment, worker
from tests.client import now_ms, until
from tests.documents import ROOT, blocks

PARTITIONS = 4
READER = """
import sys
from streams.client import Client
with Client(kafka=sys.argv[1], topic_prefix="late.") as early:
    print(next(each.user_id for each in early.lists(from_beginning=True) if each.user_id == "u1" and each.items))
"""


@pytest.fixture(scope="module")
def stock(kafka_home: Path) -> Iterator[str]:
    with ApacheKafka(kafka_home, "auto.create.topics.enable=true\n") as kafka:
        yield kafka.bootstrap_servers


@pytest.fixture
def settings(stock: str, redis_url: str, tmp_path: Path) -> Settings:
    return Settings(
        kafka=KafkaSettings(bootstrap_servers=stock, partitions=PARTITIONS),
        redis=RedisSettings(url=SecretStr(redis_url)),
        tables=TablesSettings(data_dir=tmp_path / "data"),
        metrics=MetricsSettings(port=free_port()),
        ranker=RankerSettings(model="none"),
    )


def send(settings: Settings, topic: str, key: str, message: dict[str, Any]) -> None:
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers, "message.timeout.ms": 60_000})
    producer.produce(settings.topic(topic), key=key, value=json.dumps(message))
    assert producer.flush(60) == 0


def test_the_node_snippet_gives_a_list(settings: Settings, stock: str, tmp_path: Path) -> None:
    """The Python one runs in `tests/integration/test_documents.py`."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("needs node and npm")
    (tmp_path / "package.json").write_text("{}")
    install = ["npm", "install", "--no-audit", "--no-fund", "--silent", "kafkajs@2.2.4"]
    installed = subprocess.run(install, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    if installed.returncode:
        pytest.skip(f"needs kafkajs from the npm registry: {installed.stderr or installed.stdout}")
    (block,) = (block for block in blocks("streams/README.md") if block.language == "javascript")
    (tmp_path / "shop.mjs").write_text(block.text.replace("localhost:9092", stock))
    with worker(settings) as running, (tmp_path / "output").open("wb") as file:
        running.wait_ready()
        process = subprocess.Popen(
            ["node", "shop.mjs"], cwd=tmp_path, stdout=file, stderr=file, stdin=subprocess.DEVNULL
        )
        try:
            until(lambda: "u1 [ 'i" in (tmp_path / "output").read_text(), 60)
        finally:
            process.kill()
            process.wait()


def test_who_wrote_and_read_before_the_first_worker_gets_lists(settings: Settings) -> None:
    late = settings.model_copy(
        update={"topic_prefix": "late.", "kafka": settings.kafka.model_copy(update={"create_topics": False})}
    )
    for number in range(5):
        send(late, "items", f"i{number}", {"item_id": f"i{number}", "title": f"Trail running shoe {number}"})
    click = {"event_id": "e1", "user_id": "u1", "item_id": "i1", "timestamp": now_ms()}
    send(late, "clicks", "u1", click)
    brokers, recommendations = late.kafka.bootstrap_servers, late.topic("recommendations")
    command = [sys.executable, "-c", READER, brokers]  # in a process of its own: a worker's parts create no topic
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as early:
        try:
            admin = AdminClient({"bootstrap.servers": brokers})
            until(lambda: recommendations in admin.list_topics(timeout=10).topics or early.poll() is not None, 60)
            assert early.poll() is None
            mend_by_the_named_command(late)
            with worker(late) as running, redis.Redis.from_url(late.redis.url.get_secret_value()) as cache:
                running.wait_ready()
                assert early.communicate(timeout=60)[0] == "u1\n"
                stored = until(lambda: cache.get("afterclick:list:late.:u1"))  # after Kafka
                assert json.loads(stored)["items"]
                assert "late.clicks has one partition" in running.log.read_text()
        finally:
            early.kill()


def mend_by_the_named_command(late: Settings) -> None:
    """Start a worker, read why it does not start, and run the command that it names."""
    ended = WorkerProcess(late)
    assert ended.process.wait(90) == 2
    refusal = ended.log.read_text()
    assert "Traceback" not in refusal
    assert "late.items: got cleanup.policy=delete, expected compact" in refusal
    assert "late.recommendations: got 1 partitions, expected 4" in refusal
    (command,) = {part.split("`")[0] for part in refusal.split("run `")[1:]}
    mended = subprocess.run(
        [sys.executable, "-m", "streams.cli", *command.split()[1:]],
        env=environment(late) | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert mended.returncode == 0, mended.stdout + mended.stderr

"""Large files and runs that are stopped: bounded memory, Ctrl-C, a topic that is deleted, Kafka that goes away."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from streams.commands import sending
from streams.commands.sending import Sender, SendPlan
from streams.datasets.file_messages import topic_files
from streams.kafka import client
from streams.kafka.client import KafkaUnavailable
from streams.kafka.topics import TopicError
from streams.settings import Settings
from streams.testing.apache_kafka import ApacheKafka
from streams.testing.worker_process import environment

AT_MS = 1_770_000_000_000
EVENTS = 20_000
MEASURE = """
import resource, sys
from pathlib import Path
from streams.datasets.file_messages import topic_files
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
small, large = (topic_files({"clicks": Path(name)}) for name in sys.argv[1:])
number = sum(1 for _ in small.messages())
before = peak()
number = sum(1 for _ in large.messages())
print(number, peak() - before)
"""


def click(number: int) -> dict[str, Any]:
    return {
        "event_id": f"e{number}",
        "user_id": f"u{number % 500}",
        "item_id": f"i{number % 900}",
        "timestamp": AT_MS + number * 50,
        "text": "x" * 200,
    }


def lines(number: int) -> bytes:
    return b"".join(json.dumps(click(each)).encode() + b"\n" for each in range(number))


FORMS: dict[str, Callable[[bytes], bytes]] = {
    "array": lambda content: b"[" + content.rstrip().replace(b"\n", b",") + b"]",
    "CSV": lambda content: (
        b"event_id,user_id,item_id,timestamp,text\n"
        + b"".join(",".join(map(str, json.loads(line).values())).encode() + b"\n" for line in content.splitlines())
    ),
    "gzip": lambda content: gzip.compress(content, 1),
}


@pytest.mark.parametrize("form", FORMS)
def test_memory_does_not_grow_with_the_file(tmp_path: Path, form: str) -> None:
    for name, number in (("small", 20_000), ("large", 100_000)):
        (tmp_path / name).write_bytes(FORMS[form](lines(number)))
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "small"), str(tmp_path / "large")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    number, grown_kib = map(int, done.stdout.split())
    assert number == 100_000
    assert grown_kib < 4_096  # the large file has 30 MB


def start(settings: Settings, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "streams.cli", "replay", "files", *arguments, "--json"],
        env=environment(settings) | {"PATH": os.environ["PATH"]},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def stored(settings: Settings) -> int:
    consumer = Consumer({"bootstrap.servers": settings.kafka.bootstrap_servers, "group.id": "reader"})
    topic = settings.topic("clicks")
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    offsets = [consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=10)[1] for number in partitions]
    consumer.close()
    return sum(offsets)


def wait_for_messages(settings: Settings, number: int = 50) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with suppress(KafkaException):  # a new topic may have no leader yet
            if stored(settings) >= number:
                return
        time.sleep(0.2)
    raise AssertionError(f"expected {number} messages within 60 s")


@pytest.fixture
def clicks(tmp_path: Path) -> str:
    path = tmp_path / "clicks.jsonl"
    path.write_bytes(lines(EVENTS))
    return str(path)


def test_ctrl_c_says_what_was_sent_and_skip_goes_on_there(settings: Settings, clicks: str) -> None:
    with start(settings, "--clicks", clicks, "--speed", "20") as run:
        wait_for_messages(settings)
        run.send_signal(signal.SIGINT)
        output, errors = run.communicate(timeout=120)
    report = json.loads(output)
    (line,) = errors.splitlines()
    assert run.returncode == 130
    assert report["sent"]["clicks"] == report["done"] == stored(settings)
    assert line.startswith(f"afterclick: stopped by Ctrl-C; Kafka has {report['done']:,} messages of this run; ")
    with start(settings, "--clicks", clicks, "--skip", str(report["done"])) as again:
        assert json.loads(again.communicate(timeout=120)[0])["sent"]["clicks"] == EVENTS - report["done"]
    assert stored(settings) == EVENTS


async def stopped_by(break_kafka: Callable[[], object], settings: Settings, path: str) -> None:
    """Break Kafka while a sender is at work; what ends the sender is raised."""
    busy = asyncio.Event()
    sender = Sender(topic_files({"clicks": Path(path)}), settings, SendPlan(speed=20), lambda *_: busy.set())
    run = asyncio.create_task(sender.run())
    await busy.wait()
    await asyncio.to_thread(break_kafka)
    await run


def test_a_topic_that_is_deleted_and_a_kafka_that_goes_away_are_told_apart(
    kafka_home: Path, settings: Settings, clicks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "GIVE_UP_MS", 3_000)
    monkeypatch.setattr(client, "CONNECT_TIMEOUT_S", 3.0)
    with ExitStack() as stack:
        server = stack.enter_context(ApacheKafka(kafka_home))
        kafka = settings.kafka.model_copy(update={"bootstrap_servers": server.bootstrap_servers})
        settings = settings.model_copy(update={"kafka": kafka})
        topic = settings.topic("clicks")
        admin = AdminClient({"bootstrap.servers": server.bootstrap_servers})
        with pytest.raises(TopicError, match=f"topic {topic}: got none any more, expected it until all is sent"):
            asyncio.run(stopped_by(lambda: admin.delete_topics([topic])[topic].result(10), settings, clicks))
        with pytest.raises(KafkaUnavailable, match=server.bootstrap_servers):
            asyncio.run(stopped_by(stack.close, settings, clicks))

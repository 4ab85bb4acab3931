"""The commands of the README files for producers, consumers and operators, run in their order.

They run against a real Kafka and a real Redis of their own, because they use topic names without a prefix. The lines
are taken from the documents. Only the addresses and the user's files are replaced. `tests/unit/test_documents.py` says
what is parsed instead of run, and what runs elsewhere.
"""

from __future__ import annotations

import ast
import csv
import gzip
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr

from streams.settings import KafkaSettings, MetricsSettings, RedisSettings, Settings, TablesSettings
from streams.testing.apache_kafka import ApacheKafka
from streams.testing.embedded import EmbeddedRedis, free_port
from streams.testing.worker_process import environment, worker
from tests.documents import ROOT, blocks, text_of

STOCK = "auto.create.topics.enable=true\n"
"""As Kafka comes: a topic is created when somebody first writes or reads it."""
TIMEOUT_S = 240.0  # for a busy machine
RETAIL = (
    ("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country"),
    ("536365", "85123A", "WHITE HANGING HEART T-LIGHT HOLDER", "6", "12/1/2010 08:26", "2.55", "17850", "France"),
    ("536365", "71053", "WHITE METAL LANTERN", "6", "12/1/2010 08:26", "3.39", "17850", "France"),
)


@pytest.fixture(scope="module")
def own_kafka(kafka_home: Path) -> Iterator[str]:
    with ApacheKafka(kafka_home, STOCK) as server:
        yield server.bootstrap_servers


@pytest.fixture(scope="module")
def own_redis() -> Iterator[str]:
    with EmbeddedRedis() as server:
        yield server.url


@pytest.fixture
def own_settings(own_kafka: str, own_redis: str, tmp_path: Path) -> Settings:
    """The defaults, at the addresses of the two servers."""
    return Settings(
        kafka=KafkaSettings(bootstrap_servers=own_kafka),
        redis=RedisSettings(url=SecretStr(own_redis)),
        tables=TablesSettings(data_dir=tmp_path / "data"),
        metrics=MetricsSettings(port=free_port()),
    )


class Shell:
    """Runs lines of the documents in a folder with an `afterclick` on its path."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder = folder
        self._settings = settings
        binary = folder / "bin" / "afterclick"
        binary.parent.mkdir()
        binary.write_text(f'#!/bin/sh\nexec {sys.executable} -m streams.cli "$@"\n', encoding="utf-8")
        binary.chmod(0o755)
        self._environment = environment(settings) | {
            "PATH": f"{binary.parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        }

    def line(self, document: str, start: str) -> str:
        """Run the one line of a document's `sh` blocks that begins so, and return its output; it must end with 0."""
        lines = {line for block in blocks(document) if block.language == "sh" for line in block.text.splitlines()}
        (line,) = (line for line in lines if line.startswith(start))
        return self.run(["bash", "-c", line])

    def python(self, document: str, part: str) -> str:
        """Run a Python block of a document."""
        (block,) = (block for block in blocks(document) if block.language == "python" and part in block.text)
        return self.run([sys.executable, "-c", block.text])

    def run(self, command: list[str]) -> str:
        kafka = self._settings.kafka.bootstrap_servers
        command = [part.replace("localhost:9092", kafka) for part in command]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout


def write_inputs(folder: Path) -> None:
    """The messages of README's table as files, and a tiny Online Retail."""
    examples = dict(re.findall(r"^\| `([\w-]+)` \|[^|]*\| `(\{.*?\})`", text_of("README.md"), re.MULTILINE))
    for topic in ("items", "clicks"):
        (folder / f"{topic}.jsonl").write_text(examples[topic] + "\n", encoding="utf-8")
    with gzip.open(folder / "online_retail.csv.gz", "wt", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(RETAIL)


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, f"expected {what} within {TIMEOUT_S:g} s"
        time.sleep(0.1)


def test_a_team_reads_the_readme_from_top_to_bottom(own_settings: Settings, tmp_path: Path) -> None:
    pytest.importorskip("confluent_kafka")
    shell = Shell(tmp_path, own_settings)
    write_inputs(tmp_path)
    assert "fails" not in shell.line("README.md", "afterclick doctor")
    with (
        worker(own_settings) as running,
        redis.Redis.from_url(own_settings.redis.url.get_secret_value()) as cache,
    ):
        running.wait_ready()
        listed = ast.literal_eval(shell.python("README.md", "streams.client"))
        assert {item_id for item_id, _ in listed} <= {f"i{number}" for number in range(5)}
        assert listed
        shell.line("README.md", "afterclick replay files")
        shell.line("README.md", "afterclick replay online-retail")
        wait_for(lambda: bool(cache.exists("afterclick:list:u1")), "a list of u1")
        assert "u1: " in shell.line("README.md", "afterclick recommend u1")
        checks = json.loads(shell.line("deploy/README.md", "afterclick doctor --json"))
        assert all(check["ok"] for check in checks)
        shell.run([sys.executable, "-c", BROKEN_CLICK])
        running.wait("afterclick_dead_letters_total", 1)
        wait_for(lambda: "clicks/" in shell.line("README.md", "afterclick dead-letters list"), "a dead letter")
        assert shell.line("streams/README.md", "afterclick dead-letters list --limit")
        assert "clicks" in shell.line("streams/README.md", "afterclick dead-letters list --topic")
        assert shell.line("streams/README.md", "afterclick dead-letters retry --dry-run").startswith("would send 1")
        another_reason = shell.line("streams/README.md", "afterclick dead-letters retry --topic")
        assert another_reason.startswith("sent 0, cannot send 0, left 1 for a later call")
        assert shell.line("README.md", "afterclick dead-letters retry").startswith("sent 1")
        shell.line("deploy/README.md", "afterclick forget u1")
        wait_for(lambda: not cache.exists("afterclick:list:u1"), "u1 forgotten")


BROKEN_CLICK = """
from confluent_kafka import Producer
producer = Producer({"bootstrap.servers": "localhost:9092"})
producer.produce("clicks", key="u2", value="{}")
producer.flush()
"""


def test_the_commands_that_need_no_server(own_settings: Settings, tmp_path: Path) -> None:
    shell = Shell(tmp_path, own_settings)
    assert "environment" in shell.line("README.md", "afterclick settings --set")
    shell.line("deploy/README.md", "afterclick settings --env")
    assert (tmp_path / "afterclick.env").read_text(encoding="utf-8").startswith("# ")
    shell.line("deploy/README.md", "afterclick settings --toml")
    assert "[kafka]" in (tmp_path / "afterclick.toml").read_text(encoding="utf-8")
    assert "environment" in shell.line("deploy/README.md", "afterclick settings --set")
    assert '"RankRequest"' in shell.line("streams/README.md", "afterclick schema rank-requests")

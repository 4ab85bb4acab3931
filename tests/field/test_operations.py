"""What those who run a worker do to it: services of its name, a folder used twice, a token, a Kafka that goes away."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from streams.settings import KafkaSettings, MetricsSettings, RankerSettings, RedisSettings, Settings, TablesSettings
from streams.testing.embedded import free_port
from streams.testing.worker_process import WorkerProcess, environment
from tests.client import Client, until, version
from tests.faults.cluster import Kafka as Brokers

TOKEN = "a-token-of-some-length"
AWAY_S = 6.0
LOG_A_REBALANCE = ("streams.worker.held_partitions", "streams.worker.binding")
"""What logs a line where an outage lasts for longer than the session."""
SERVICES = {
    "AFTERCLICK_PORT": "tcp://10.0.0.1:9464",
    "AFTERCLICK_SERVICE_HOST": "10.0.0.1",
    "AFTERCLICK_SERVICE_PORT_METRICS": "9464",
    "AFTERCLICK_PORT_9464_TCP_ADDR": "10.0.0.1",
    "AFTERCLICK_KAFKA_PORT_9092_TCP": "tcp://10.0.0.2:9092",
    "AFTERCLICK_METRICS_PORT": "tcp://10.0.0.3:9464",
}


@pytest.fixture(scope="module")
def brokers(kafka_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    made = Brokers(kafka_home, tmp_path_factory.mktemp("brokers"), 1)
    made.start()
    yield made
    made.kill()


@pytest.fixture(scope="module")
def ours(brokers: Brokers, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(
        kafka=KafkaSettings(bootstrap_servers=brokers.bootstrap_servers, partitions=2),
        redis=RedisSettings(url=SecretStr(redis_url), key_prefix="operations:list:"),
        tables=TablesSettings(store="rocksdb", data_dir=tmp_path_factory.mktemp("worker") / "data"),
        metrics=MetricsSettings(port=free_port(), token=SecretStr(TOKEN)),
        ranker=RankerSettings(model="none"),
    )


@pytest.fixture(scope="module")
def client(ours: Settings) -> Client:
    made = Client(ours)
    made.items()
    return made


@pytest.fixture(scope="module")
def running(ours: Settings, client: Client) -> Iterator[WorkerProcess]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("streams.testing.worker_process.environment", lambda of: environment(of) | SERVICES)
        started = WorkerProcess(ours)
    until(lambda: started.get("/readyz")[0] == 200, 90)
    yield started
    assert started.stop() == 0


def metrics(settings: Settings) -> dict[str, float]:
    """What a scrape with the token shows; by name and labels."""
    url = f"http://127.0.0.1:{settings.metrics.port}/metrics"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {TOKEN}"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    return {f"{s.name}{sorted(s.labels.values())}": s.value for family in families for s in family.samples}


def test_it_starts_among_services_of_its_name_and_a_kubelet_needs_no_token(running: WorkerProcess) -> None:
    assert running.get("/livez") == (200, "ok\n")
    assert running.get("/metrics")[0] == 401


def test_counters_are_at_zero_before_anything_came(running: WorkerProcess, ours: Settings) -> None:
    shown = metrics(ours)
    for name in (
        "afterclick_events_total['purchases', 'rejected']",
        "afterclick_dead_letters_total['clicks', 'malformed']",
        "afterclick_cache_writes_total['failed']",
        "afterclick_lists_degraded_total['model-error', 'none']",
        "afterclick_messages_cut_total['dead-letters']",
    ):
        assert shown[name] == 0


def test_a_second_worker_with_rocksdb_in_the_folder_is_told(running: WorkerProcess, ours: Settings) -> None:
    beside = ours.model_copy(update={"metrics": MetricsSettings(port=free_port())})
    started = time.monotonic()
    second = subprocess.run(
        [sys.executable, "-m", "streams.cli", "worker", "--role", "state"],
        env=environment(beside),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert second.returncode == 2
    assert second.stderr.splitlines()[-1] == (
        f"afterclick: AFTERCLICK_TABLES__DATA_DIR: got {ours.tables.data_dir}, which a running worker uses (process "
        f"{running.process.pid}), expected a folder of its own for each worker with RocksDB; set another one, or end "
        "that worker"
    )
    assert "Traceback" not in second.stderr
    assert time.monotonic() - started < 30


def test_an_outage_of_kafka_is_a_line_and_its_end_another(
    running: WorkerProcess, client: Client, brokers: Brokers
) -> None:
    client.click("ann", "item-1")
    client.flush()
    until(lambda: version(client, "ann", 1))
    before = len(running.log.read_text().splitlines())
    brokers.kill()
    time.sleep(AWAY_S)
    during = running.log.read_text().splitlines()[before:]
    assert sum("streams.kafka.outage: Kafka is away since" in line for line in during) == 1
    assert not [line for line in during if "aiokafka" in line.split(":")[0]]
    brokers.start()
    client.click("ann", "item-2")
    client.flush()
    until(lambda: version(client, "ann", 2), 60)
    until(lambda: "streams.kafka.outage: Kafka is back after" in running.log.read_text(), 60)
    lines = running.log.read_text().splitlines()[before:]
    assert sum("streams.kafka.outage" in line for line in lines) == 2
    others = [line for line in lines if not any(logger in line for logger in LOG_A_REBALANCE)]
    assert len(others) == 2, others
    assert len(lines) <= 6, lines
    assert not [line for line in lines if " aiokafka" in line]
    assert running.get("/readyz")[0] == 200


@pytest.mark.parametrize("command", ["replay files --clicks /dev/null", "forget ann", "dead-letters list"])
def test_commands_end_with_one_line_where_no_kafka_is(ours: Settings, command: str) -> None:
    away = ours.kafka.model_copy(update={"bootstrap_servers": f"127.0.0.1:{free_port()}"})
    ended = subprocess.run(
        [sys.executable, "-m", "streams.cli", *command.split()],
        env=environment(ours.model_copy(update={"kafka": away})) | SERVICES,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    (line,) = ended.stderr.splitlines()
    assert ended.returncode == 2
    assert line.startswith("afterclick: Kafka at 127.0.0.1:")

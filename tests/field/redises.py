"""Redis servers as deployments have them: with options, a cluster, a master with sentinels, and one that refuses."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from streams.testing.embedded import free_port

HOST = "127.0.0.1"
PATIENT_MS, IMPATIENT_MS = 15_000, 1_000
"""How long a node may be silent before the others replace it. A busy machine must not look like a death."""


class RedisServer:
    """A redis-server with these options at a fixed port; a context. Keeps nothing on disk."""

    def __init__(self, folder: Path, *options: str, port: int | None = None, sentinel: bool = False) -> None:
        executable = shutil.which("redis-server")
        if executable is None:
            pytest.skip("no Redis: needs redis-server on PATH (Debian: redis-server)")
        self.port = port or free_port()
        self.folder = folder / str(self.port)
        self.folder.mkdir(exist_ok=True)
        common = ["--port", str(self.port), "--bind", HOST, "--dir", str(self.folder), "--save", ""]
        if sentinel:
            configuration = self.folder / "sentinel.conf"
            configuration.touch()
            self._command = [executable, str(configuration), "--sentinel", *common[:6], *options]
        else:
            self._command = [executable, *common, *options]
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    @property
    def client(self) -> Any:
        return redis.Redis(host=HOST, port=self.port)

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            until(self._answers)
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def _answers(self) -> bool:
        try:
            with self.client as client:
                client.ping()
        except (redis.AuthenticationError, redis.ResponseError):
            return True
        except redis.RedisError:
            return False
        return True


def _port_with_bus() -> int:
    """A free port; the nodes talk to each other 10,000 above it."""
    return next(port for port in iter(free_port, None) if port < 55_536)


class Cluster:
    """Masters with a third of the slots each, and a replica for each."""

    def __init__(self, folder: Path, masters: int = 3) -> None:
        options = (
            "--cluster-enabled",
            "yes",
            "--cluster-node-timeout",
            str(PATIENT_MS),
            "--cluster-replica-validity-factor",
            "0",
        )
        self.masters = [RedisServer(folder, *options, port=_port_with_bus()) for _ in range(masters)]
        self.replicas = [RedisServer(folder, *options, port=_port_with_bus()) for _ in range(masters)]

    def form(self) -> None:
        """Meet, share the slots, and wait until all agree."""
        first = self.masters[0]
        share = 16_384 // len(self.masters)
        for number, master in enumerate(self.masters):
            end = 16_383 if master is self.masters[-1] else (number + 1) * share - 1
            with master.client as client:
                client.execute_command("CLUSTER ADDSLOTSRANGE", number * share, end)
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
        for server in (*self.masters[1:], *self.replicas):
            with server.client as client:
                client.execute_command("CLUSTER MEET", HOST, first.port)
        until(lambda: all(len(self.nodes(server)) == len(self.masters) * 2 for server in self.all))
        for master, replica in zip(self.masters, self.replicas, strict=True):
            with master.client as of_master, replica.client as client:
                client.execute_command("CLUSTER REPLICATE", of_master.execute_command("CLUSTER MYID"))
        until(lambda: all("cluster_state:ok" in self.info(server) for server in self.all))
        until(lambda: all(server.client.info("replication")["connected_slaves"] == 1 for server in self.masters))

    @property
    def all(self) -> list[RedisServer]:
        return [*self.masters, *self.replicas]

    @property
    def client(self) -> Any:
        return redis.RedisCluster(host=HOST, port=self.all[-1].port)

    def nodes(self, server: RedisServer) -> list[str]:
        with server.client as client:
            answer = client.execute_command("CLUSTER NODES")
        text = answer.decode() if isinstance(answer, bytes) else str(answer)
        return list(answer) if isinstance(answer, dict) else text.strip().splitlines()

    def info(self, server: RedisServer) -> str:
        with server.client as client:
            answer = client.execute_command("CLUSTER INFO")
        if isinstance(answer, dict):
            return "\n".join(f"{name}:{value}" for name, value in answer.items())
        return str(answer.decode())

    def replace_soon(self) -> None:
        """Have a master that dies replaced within seconds."""
        for server in self.all:
            server.client.config_set("cluster-node-timeout", IMPATIENT_MS)

    def move(self, slot: int, source: RedisServer, target: RedisServer) -> Iterator[None]:
        """Move a slot, key by key; yields while it is half moved, so that a caller may do something then."""
        with source.client as old, target.client as new:
            source_id, target_id = (client.execute_command("CLUSTER MYID").decode() for client in (old, new))
            new.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", source_id)
            old.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", target_id)
            while keys := old.execute_command("CLUSTER GETKEYSINSLOT", slot, 1):
                yield
                old.execute_command("MIGRATE", HOST, target.port, "", 0, 5000, "KEYS", *keys)
            yield
            for client in (new, old):
                client.execute_command("CLUSTER SETSLOT", slot, "NODE", target_id)


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    made = Cluster(folder)
    with ExitStack() as stack:
        for server in made.all:
            stack.enter_context(server)
        made.form()
        yield made


@contextmanager
def sentinels(folder: Path, name: str = "lists") -> Iterator[tuple[list[RedisServer], list[RedisServer]]]:
    """A master and its replica, and three sentinels."""
    with ExitStack() as stack:
        master = stack.enter_context(RedisServer(folder))
        replica = stack.enter_context(RedisServer(folder, "--replicaof", f"{HOST} {master.port}"))
        watching = [stack.enter_context(RedisServer(folder, sentinel=True)) for _ in range(3)]
        for sentinel in watching:
            with sentinel.client as client:
                client.execute_command("SENTINEL MONITOR", name, HOST, master.port, 2)
                for option, value in (("down-after-milliseconds", 500), ("failover-timeout", 3000)):
                    client.execute_command("SENTINEL SET", name, option, value)
        until(lambda: master.client.info("replication")["connected_slaves"] == 1)
        until(lambda: all(_is_ready(sentinel, name) for sentinel in watching))
        yield [master, replica], watching


def _is_ready(sentinel: RedisServer, name: str) -> bool:
    with sentinel.client as client:
        state = client.sentinel_master(name)
    return bool(state["num-other-sentinels"] == 2 and state["num-slaves"] == 1)


class RefusingServer:
    """A server that answers every command with one error; `{args}` in it are the command's, as servers repeat them."""

    def __init__(self, error: str) -> None:
        self.error = error
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="refusing", daemon=True)

    def __enter__(self) -> RefusingServer:
        self._thread.start()
        serving = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._serve, HOST, 0), self._loop)
        self._server = serving.result(10)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0.05)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                args = []
                for _ in range(int(line[1:])):
                    size = int((await reader.readline())[1:])
                    args.append((await reader.readexactly(size + 2))[:-2].decode())
                text = self.error.replace("{args}", " ".join(f"`{arg}`" for arg in args))
                writer.write(f"-{text.splitlines()[0]}\r\n".encode())
                await writer.drain()
        except (OSError, ValueError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


def until(condition: Any, timeout_s: float = 20) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (outcome := condition()):
        assert time.monotonic() < deadline, f"the condition does not hold after {timeout_s:g} s"
        time.sleep(0.05)
    return outcome

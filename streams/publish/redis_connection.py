"""One Redis, whatever it is: a server, a master that sentinels know, or a cluster.

Each command has one key, so a batch may go to a cluster's masters at the same time. A batch gives one answer a command,
an error among the answers: a key that is refused, or a master that is away, keeps nothing from the others. Where the
server has changed (a replica by now, another node's slot, a closed connection), all connections are dropped and what
failed is asked for once more. Knows no list and no mark.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from redis.asyncio.client import Redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import Connection, ConnectionPool, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import MovedError, RedisClusterException, ResponseError, TimeoutError

from streams.publish.redis_refusal import ERRORS, LASTING, STALE, FileUnreadable, IsSentinel, reason_of
from streams.settings.redis_address import Address

Command = tuple[Any, ...]
"""As redis-py takes it: `("GET", key)`, `("EVAL", script, 1, key, …)`; the first key is the only one."""
_PROBE_S = 2.0
_KEYS_PER_MASTER = 30
"""Looked at for one of each master; where the prefix holds a hash tag all of them lie at one."""


class _FirstArgument:
    """Where a command's key is: spares the cluster client COMMAND, a right and 200 KB for each look at the topology."""

    async def initialize(self, node: object = None) -> None:
        pass

    async def get_keys(self, *command: Any) -> tuple[Any, ...]:
        return command[1:2]


class RedisConnection:
    """Connects when first asked.

    Parameters
    ----------
    timeout_s : of one command, and of connecting.
    """

    def __init__(self, address: Address, timeout_s: float) -> None:
        self.address = address
        self.changes = 0
        """Times that another server may have come in the place of ours: what it was sent last, it may not have."""
        self._masters = frozenset[str]()
        self._timeout_s = timeout_s
        self._client: Any = None
        self._is_cluster = len(address.hosts) > 1 and not address.master
        self._nodes = address.hosts  # of a cluster, as far as we know them
        self._sentinel: Any = None
        self._one_at_a_time = asyncio.Lock()

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        """The answer of each command, or its error: an instance of `redis_refusal.ERRORS`. Raises none of them."""
        async with self._one_at_a_time:
            answers = await self._attempt(commands)
            if stale := [place for place, answer in enumerate(answers) if _stale(answer)]:
                self.changes += any(not isinstance(answers[place], TimeoutError) for place in stale)
                await self._reconnect(any(isinstance(answer, MovedError) for answer in answers))
                again = await self._attempt([commands[place] for place in stale])
                for place, answer in zip(stale, again, strict=True):
                    answers[place] = answer
            return answers

    async def one(self, *command: Any) -> Any:
        """The answer of one command.

        Raises
        ------
        redis_refusal.ERRORS
        """
        (answer,) = await self.run([command])
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def a_key_of_each_master(self, name: str) -> list[str]:
        """Keys that begin with the name, one in each master that can have any; without a cluster one.

        Raises
        ------
        redis_refusal.ERRORS
        """
        async with self._one_at_a_time:
            client = await self._connected()
            if not isinstance(client, RedisCluster):
                return [name]
            keys = [f"{name}{number}" for number in range(_KEYS_PER_MASTER * len(client.get_primaries()))]
            return list({_node(client, key): key for key in keys}.values())

    async def advice(self) -> str:
        """What to write where a server does not answer because one of us speaks TLS and the other does not."""
        tls = self.address.tls
        for host, port in self.address.hosts:
            if await _speaks(host, port, tls=not tls):
                return "redis:// (the server has no TLS there)" if tls else "rediss:// (the server has TLS there)"
        return ""

    async def close(self) -> None:
        await self._drop()
        if self._sentinel is not None:
            await self._sentinel.aclose()

    async def _attempt(self, commands: Sequence[Command]) -> list[Any]:
        try:
            client = await self._connected()
            groups = _groups(client, commands)
            outcomes = await asyncio.gather(*(self._send(client, [commands[at] for at in group]) for group in groups))
        except ERRORS as error:
            return [error] * len(commands)
        answers: list[Any] = [None] * len(commands)
        for group, outcome in zip(groups, outcomes, strict=True):
            for at, answer in zip(group, outcome, strict=True):
                answers[at] = answer
        return answers

    async def _send(self, client: Any, commands: Sequence[Command]) -> list[Any]:
        """Commands for one server."""
        try:
            async with client.pipeline(transaction=False) as pipe:
                for command in commands:
                    pipe.execute_command(*command)
                answers: list[Any] = await pipe.execute(raise_on_error=False)
                return answers
        except ERRORS as error:
            return [error] * len(commands)
        except (LookupError, AttributeError) as error:
            return [_no_node(error)] * len(commands)

    async def _connected(self) -> Any:
        if self._client is None and not self._is_cluster:
            client = self._single()
            try:
                self._is_cluster = bool(self.address.hosts) and not self.address.master and await _is_cluster(client)
            except ERRORS:
                await client.aclose()
                raise
            self._client = client
        if self._is_cluster:
            await self._see_topology()
        return self._client

    async def _see_topology(self) -> None:
        """Know who has which slot: from the nodes that we know, or the URL's."""
        if not isinstance(self._client, RedisCluster):
            await self._drop()
            nodes = [ClusterNode(host, port) for host, port in self._nodes]
            common, address = self._common(), self.address
            self._client = RedisCluster(startup_nodes=nodes, db=address.db, ssl=address.tls, **common)
            self._client.commands_parser = _FirstArgument()
        try:
            await self._client.initialize()
        except RedisClusterException as error:
            self._client = None
            if "not enabled" in str(error) and len(self.address.hosts) == 1:  # a server of its own by now
                self._is_cluster, self._nodes = False, self.address.hosts
            raise
        except (LookupError, AttributeError) as error:
            raise _no_node(error) from error
        known = [(str(node.host), int(node.port)) for node in self._client.get_nodes()]
        self._nodes = tuple(dict.fromkeys((*self.address.hosts, *known)))
        masters = frozenset(node.name for node in self._client.get_primaries())
        self.changes += masters != self._masters
        self._masters = masters

    async def _reconnect(self, moved: bool) -> None:
        self._is_cluster |= moved and not self.address.master and bool(self.address.hosts)
        await self._drop()

    async def _drop(self) -> None:
        """Close all connections; the next command opens new ones."""
        with suppress(*ERRORS):
            if self._client is not None:
                await self._client.aclose()
            if isinstance(self._client, RedisCluster):  # which closes nothing while it is to see the topology
                await self._client.nodes_manager.aclose()
                await self._client.nodes_manager.aclose("startup_nodes")

    def _single(self) -> Any:
        address, common = self.address, self._common()
        if address.master:
            ours = {
                name: value for name, value in common.items() if name not in ("username", "password", "client_name")
            }
            tls: dict[str, Any] = {"ssl": True} if address.tls else {}
            make: Any = Sentinel  # which has no type hints
            self._sentinel = make(list(address.hosts), sentinel_kwargs={**ours, **tls, **address.sentinel_login})
            return self._sentinel.master_for(address.master, db=address.db, **tls, **common)
        if address.path:
            pool = ConnectionPool(UnixDomainSocketConnection, path=address.path, db=address.db, **common)
        else:
            (host, port), *_ = address.hosts
            kind = SSLConnection if address.tls else Connection
            pool = ConnectionPool(kind, host=host, port=port, db=address.db, **common)
        return Redis.from_pool(pool)

    def _common(self) -> dict[str, Any]:
        """Of every connection. RESP 2: the greeting of RESP 3 needs a right, and its refusal repeats the password."""
        for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"):
            if path := self.address.options.get(name):
                _readable(name, path)
        return {
            "socket_timeout": self._timeout_s,
            "socket_connect_timeout": self._timeout_s,
            "retry": Retry(NoBackoff(), 0),  # `run` asks again
            "protocol": 2,
            "driver_info": None,
            **self.address.options,
        }


def _stale(answer: object) -> bool:
    return isinstance(answer, ERRORS) and reason_of(answer) in STALE


def _groups(client: Any, commands: Sequence[Command]) -> list[list[int]]:
    """The places of the commands that go to one server each."""
    if not isinstance(client, RedisCluster):
        return [list(range(len(commands)))]
    groups: dict[object, list[int]] = {}
    for place, command in enumerate(commands):
        groups.setdefault(_node(client, command[3 if command[0] == "EVAL" else 1]), []).append(place)
    return list(groups.values())


def _node(client: RedisCluster, key: str) -> object:
    try:
        return client.get_node_from_key(key)
    except (LookupError, AttributeError) as error:
        raise _no_node(error) from error


def _no_node(error: Exception) -> RedisClusterException:
    """What redis-py means where it stumbles over a slot or a node that it does not know."""
    return RedisClusterException(f"no node is known for a slot ({type(error).__name__})")


async def _is_cluster(client: Any) -> bool:
    """Ask in two ways, for an ACL or a managed server may refuse one. If it refuses both, the first MOVED tells."""
    try:
        mode = _mode(await client.execute_command("HELLO"))
        if mode == "sentinel":
            raise IsSentinel("a sentinel")
        return mode == "cluster"
    except ResponseError as error:
        if reason_of(error) in LASTING - {"permission", "command"}:
            raise
    try:
        await client.execute_command("CLUSTER SLOTS")
    except ResponseError:
        return False
    return True


def _mode(hello: Any) -> str:
    """What kind of server says HELLO: standalone, cluster or sentinel."""
    pairs = hello if isinstance(hello, dict) else dict(zip(hello[::2], hello[1::2], strict=True))
    mode = pairs.get(b"mode", pairs.get("mode", b""))
    return mode.decode() if isinstance(mode, bytes) else str(mode)


def _readable(name: str, path: str) -> None:
    try:
        Path(path).open("rb").close()
    except OSError as error:
        raise FileUnreadable(f"{error.strerror} of {name}={path}") from None


async def _speaks(host: str, port: int, *, tls: bool) -> bool:
    """Whether a server answers there with TLS, or without; no secret is sent."""
    context = None
    if tls:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        reader, writer = await asyncio.wait_for(asyncio.open_connection(host, port, ssl=context), _PROBE_S)
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")  # it wants our certificate, or another version
    except (OSError, asyncio.TimeoutError):
        return False
    try:
        if tls:
            return True
        writer.write(b"PING\r\n")
        answer = await asyncio.wait_for(reader.read(1), _PROBE_S)
        return answer in (b"+", b"-")
    except (OSError, asyncio.TimeoutError):
        return False
    finally:
        writer.close()
        with suppress(OSError, asyncio.TimeoutError):
            await asyncio.wait_for(writer.wait_closed(), _PROBE_S)

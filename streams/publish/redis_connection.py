"""A connection to Redis, be it one server, a master that sentinels know, or a cluster.

Each command has one key, so a batch can go to several masters of a cluster at once. A batch returns one answer per
command, which may be an error: a key that is refused, or a master that is away, does not affect the other commands.
Where the server has changed (it is a replica now, a slot moved, the connection was closed), all connections are dropped
and the failed commands are sent once more. Knows neither lists nor offsets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from redis.asyncio.client import Redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import ConnectionPool
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import MovedError, RedisClusterException, TimeoutError

from streams.publish import redis_redirects
from streams.publish.redis_packing import PackingConnection, PackingSocketConnection, PackingSSLConnection
from streams.publish.redis_probe import is_cluster
from streams.publish.redis_refusal import ERRORS, STALE, FileUnreadable, reason_of
from streams.publish.redis_scripts import MOST_TOGETHER, Command, KeyScript, apart, together
from streams.settings.redis_address import Address

_KEYS_PER_MASTER = 30
"""Keys tried for each master until one lies at it; with a hash tag in the prefix all of them lie at one master."""


class _FirstArgument:
    """Says that a command's key is its first argument.

    It replaces the cluster client's parser, which sends COMMAND whenever it reads the topology: a right that we would
    need otherwise, and 200 KB.
    """

    async def initialize(self, node: object = None) -> None:
        pass

    async def get_keys(self, *command: Any) -> tuple[Any, ...]:
        return command[1:2]


class RedisConnection:
    """Connects at the first command.

    Parameters
    ----------
    address : Address
        Where Redis is.
    timeout_s : float
        For connecting, and for each command.

    Attributes
    ----------
    server_changes : int
        How often another server may have taken the place of ours. It may lack what the old one received last.
    """

    def __init__(self, address: Address, timeout_s: float) -> None:
        self.address = address
        self.server_changes = 0
        self._masters = frozenset[str]()
        self._timeout_s = timeout_s
        self._client: Any = None
        self._is_cluster = len(address.hosts) > 1 and not address.master
        self._nodes = address.hosts  # of a cluster: the known ones
        self._sentinel: Any = None
        self._one_at_a_time = asyncio.Lock()

    async def run(self, commands: Sequence[Command | KeyScript]) -> list[Any]:
        """Send commands.

        Returns
        -------
        list
            The answer of each command, or its error: an instance of `redis_refusal.ERRORS`, none of which is raised.
        """
        async with self._one_at_a_time:
            answers = await self._attempt(commands)
            if stale := [index for index, answer in enumerate(answers) if _stale(answer)]:
                self.server_changes += any(not isinstance(answers[index], TimeoutError) for index in stale)
                await self._reconnect(any(isinstance(answer, MovedError) for answer in answers))
                repeated = await self._attempt([commands[index] for index in stale])
                for index, answer in zip(stale, repeated, strict=True):
                    answers[index] = answer
            return answers

    async def run_one(self, *command: Any) -> Any:
        """Send one command, and return its answer.

        Raises
        ------
        redis_refusal.ERRORS
        """
        (answer,) = await self.run([command])
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def a_key_of_each_master(self, prefix: str) -> list[str]:
        """Make keys that begin with the prefix: one for each master that can have any; without a cluster one.

        Raises
        ------
        redis_refusal.ERRORS
        """
        async with self._one_at_a_time:
            client = await self._connected()
            if not isinstance(client, RedisCluster):
                return [prefix]
            keys = [f"{prefix}{number}" for number in range(_KEYS_PER_MASTER * len(client.get_primaries()))]
            return list({_node(client, key): key for key in keys}.values())

    async def close(self) -> None:
        """Close all connections."""
        await self._drop()
        if self._sentinel is not None:
            await self._sentinel.aclose()

    async def _attempt(self, commands: Sequence[Command | KeyScript]) -> list[Any]:
        try:
            client = await self._connected()
            groups = _groups(client, commands)
            outcomes = await asyncio.gather(
                *(self._send(client, [commands[index] for index in group]) for group in groups)
            )
        except ERRORS as error:
            return [error] * len(commands)
        answers: list[Any] = [None] * len(commands)
        for group, outcome in zip(groups, outcomes, strict=True):
            for index, answer in zip(group, outcome, strict=True):
                answers[index] = answer
        return answers

    async def _send(self, client: Any, calls: Sequence[Command | KeyScript]) -> list[Any]:
        """Send commands to one server. Its keys may lie in several slots, so a cluster takes each call by itself."""
        in_cluster = isinstance(client, RedisCluster)
        commands, numbers = [], []
        for command, number in together(calls, 1 if in_cluster else MOST_TOGETHER):
            commands.append(command)
            numbers.append(number)
        try:
            if in_cluster:
                return list(apart(numbers, await redis_redirects.send(client, commands, self._server)))
            async with client.pipeline(transaction=False) as pipe:
                for command in commands:
                    pipe.execute_command(*command)
                return list(apart(numbers, await pipe.execute(raise_on_error=False)))
        except ERRORS as error:
            return [error] * len(calls)
        except (LookupError, AttributeError) as error:
            return [_no_node(error)] * len(calls)

    async def _connected(self) -> Any:
        if self._client is None and not self._is_cluster:
            client = self._single()
            try:
                self._is_cluster = bool(self.address.hosts) and not self.address.master and await is_cluster(client)
            except ERRORS:
                await client.aclose()
                raise
            self._client = client
        if self._is_cluster:
            await self._read_topology()
        return self._client

    async def _read_topology(self) -> None:
        """Find out which master has which slot, from the known nodes or those of the URL."""
        if not isinstance(self._client, RedisCluster):
            await self._drop()
            nodes = [ClusterNode(host, port) for host, port in self._nodes]
            options, address = self._options(), self.address
            self._client = RedisCluster(startup_nodes=nodes, db=address.db, ssl=address.tls, **options)
            self._client.commands_parser = _FirstArgument()
        try:
            await self._client.initialize()
        except RedisClusterException as error:
            self._client = None
            if "not enabled" in str(error) and len(self.address.hosts) == 1:  # now it is a single server
                self._is_cluster, self._nodes = False, self.address.hosts
            raise
        except (LookupError, AttributeError) as error:
            raise _no_node(error) from error
        nodes_now = [(str(node.host), int(node.port)) for node in self._client.get_nodes()]
        self._nodes = tuple(dict.fromkeys((*self.address.hosts, *nodes_now)))
        masters = frozenset(node.name for node in self._client.get_primaries())
        self.server_changes += masters != self._masters
        self._masters = masters

    async def _reconnect(self, moved: bool) -> None:
        self._is_cluster |= moved and not self.address.master and bool(self.address.hosts)
        await self._drop()

    async def _drop(self) -> None:
        """Close all connections; the next command opens new ones."""
        with suppress(*ERRORS):
            if self._client is not None:
                await self._client.aclose()
            if isinstance(self._client, RedisCluster):  # `aclose` closes nothing before the topology has been read
                await self._client.nodes_manager.aclose()
                await self._client.nodes_manager.aclose("startup_nodes")

    def _single(self) -> Any:
        """A client of one server, or of the master that sentinels name."""
        address, options = self.address, self._options()
        if address.master:
            login = ("username", "password", "client_name")
            of_sentinels = {name: value for name, value in options.items() if name not in login}
            tls: dict[str, Any] = {"ssl": True} if address.tls else {}
            make: Any = Sentinel  # it has no type hints
            self._sentinel = make(
                list(address.hosts), sentinel_kwargs={**of_sentinels, **tls, **address.sentinel_login}
            )
            return self._sentinel.master_for(address.master, db=address.db, **tls, **options)
        if address.path:
            pool = ConnectionPool(PackingSocketConnection, path=address.path, db=address.db, **options)
            return Redis.from_pool(pool)
        return self._server(*address.hosts[0])

    def _server(self, host: str, port: int) -> Redis:
        kind = PackingSSLConnection if self.address.tls else PackingConnection
        return Redis.from_pool(ConnectionPool(kind, host=host, port=port, db=self.address.db, **self._options()))

    def _options(self) -> dict[str, Any]:
        """Options of every connection. RESP 2: the greeting of RESP 3 needs a right and repeats the password."""
        for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"):
            if path := self.address.options.get(name):
                _check_readable(name, path)
        return {
            "socket_timeout": self._timeout_s,
            "socket_connect_timeout": self._timeout_s,
            "retry": Retry(NoBackoff(), 0),  # `run` repeats what failed
            "protocol": 2,
            "driver_info": None,
            **self.address.options,
        }


def _stale(answer: object) -> bool:
    return isinstance(answer, ERRORS) and reason_of(answer) in STALE


def _groups(client: Any, commands: Sequence[Command | KeyScript]) -> list[list[int]]:
    """The indices of the commands that go to one server each."""
    if not isinstance(client, RedisCluster):
        return [list(range(len(commands)))]
    groups: dict[object, list[int]] = {}
    for index, command in enumerate(commands):
        groups.setdefault(_node(client, command[3 if command[0] == "EVAL" else 1]), []).append(index)
    return list(groups.values())


def _node(client: RedisCluster, key: str) -> object:
    try:
        return client.get_node_from_key(key)
    except (LookupError, AttributeError) as error:
        raise _no_node(error) from error


def _no_node(error: Exception) -> RedisClusterException:
    """The error that redis-py means where it fails on a slot or a node that it does not know."""
    return RedisClusterException(f"no node is known for a slot ({type(error).__name__})")


def _check_readable(name: str, path: str) -> None:
    try:
        Path(path).open("rb").close()
    except OSError as error:
        raise FileUnreadable(f"{error.strerror} of {name}={path}") from None

"""Commands to one master of a cluster, some of whose slots may be on their way to another one.

redis-py sends ASKING and the command as two commands of a connection pool, so they may travel on two connections: the
server then has not been asked, and each sends the client to the other until it gives up ("TTL exhausted"). It also does
not know a new master that has no slot yet. Here both travel on one connection, to the server that was named.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from redis.asyncio.client import Redis
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import AskError, MovedError, TryAgainError

from streams.publish.redis_refusal import ERRORS
from streams.publish.redis_scripts import Command


async def send(client: RedisCluster, commands: Sequence[Command], server: Callable[[str, int], Redis]) -> list[Any]:
    """Send commands of one key each, and follow where the master redirects them.

    Parameters
    ----------
    client : RedisCluster
    commands : sequence of Command
    server : callable
        Makes a client of the server at a host and a port, which is closed here.

    Returns
    -------
    list
        The answer of each command, or its error: an instance of `redis_refusal.ERRORS`.

    Raises
    ------
    redis_refusal.ERRORS
        Where no command was sent.
    """
    async with client.pipeline(transaction=False) as pipe:
        for command in commands:
            pipe.execute_command(*command)
        answers: list[Any] = await pipe.execute(raise_on_error=False, allow_redirections=False)
    asked: dict[tuple[str, int], list[int]] = {}
    for index, answer in enumerate(answers):
        if isinstance(answer, (MovedError, TryAgainError)):
            answers[index] = await _repeated(client, commands[index])
        elif isinstance(answer, AskError):
            asked.setdefault((answer.host, answer.port), []).append(index)
    for address, indices in asked.items():
        for index, answer in zip(indices, await _ask(server(*address), [commands[i] for i in indices]), strict=True):
            answers[index] = answer
    return answers


async def _repeated(client: RedisCluster, command: Command) -> Any:
    """The client learns from the error which master has the slot now."""
    try:
        return await client.execute_command(*command)
    except ERRORS as error:
        return error


async def _ask(server: Redis, commands: Sequence[Command]) -> list[Any]:
    """Send each command behind an ASKING of its own, all on one connection."""
    try:
        async with server, server.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command("ASKING")
                pipe.execute_command(*command)
            return (await pipe.execute(raise_on_error=False))[1::2]
    except ERRORS as error:
        return [error] * len(commands)

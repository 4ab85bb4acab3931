"""Read lists from Redis. Knows not what a list is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
from redis.asyncio import Redis, RedisCluster
from redis.exceptions import AuthenticationError, RedisClusterException, RedisError, ResponseError

from streams.client.backoff import ATTEMPTS, Backoff
from streams.client.errors import MissingArgument, ServiceRefused, ServiceUnavailable
from streams.contracts import COLD_START_USER
from streams.list_keys import list_key


class _Shown(msgspec.Struct):
    items: list[msgspec.Raw]


def is_empty(payload: bytes) -> bool:
    """Return whether this is a list, as JSON, that shows no item. The cold-start list serves its user better.

    >>> is_empty(b'{"list_id": "l", "items": []}')
    True
    """
    try:
        return not msgspec.json.decode(payload, type=_Shown).items
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False


class RedisLists:
    """Connects at the first read.

    Parameters
    ----------
    redis : str, redis.asyncio.Redis or redis.asyncio.RedisCluster
        A URL as redis-py reads it, or a client of redis-py. `close` closes it.
    prefix : str
        Of every key.
    placements : sequence of str
        All that are declared.
    timeout_s : float
        For each read, with all its attempts.

    Raises
    ------
    MissingArgument
        redis-py cannot read the URL.
    """

    def __init__(
        self, redis: str | Redis | RedisCluster, prefix: str, placements: Sequence[str], timeout_s: float
    ) -> None:
        self._prefix = prefix
        self._placements = placements
        self._timeout_s = timeout_s
        wait_s = timeout_s / ATTEMPTS
        try:
            self._client: Any = (
                Redis.from_url(redis, socket_timeout=wait_s, socket_connect_timeout=wait_s)
                if isinstance(redis, str)
                else redis
            )
        except ValueError as error:
            raise MissingArgument(
                f"redis: got a URL that redis-py refuses ({error}), expected redis://, rediss:// or unix://; for a "
                "cluster or sentinels give a client of redis.asyncio"
            ) from None

    async def read(self, user_id: str, placement: str | None, cold_start: bool) -> bytes | None:
        """Return a user's list, or None; the cold-start list for no list and an empty one, if the caller wants it.

        Raises
        ------
        MissingArgument
            The placement is not declared.
        ServiceUnavailable
            Redis did not answer within the time limit.
        ServiceRefused
            Redis refuses the login, or the key.
        """
        if placement is not None and placement not in self._placements:
            declared = ", ".join(self._placements) or "none is"
            raise MissingArgument(
                f"placement: got {placement!r}, expected one of `placements` ({declared}); give the client those of "
                "AFTERCLICK_RANKER__PLACEMENTS"
            )
        stored = await self._get(self._prefix + list_key(user_id, placement, self._placements))
        if cold_start and (stored is None or is_empty(stored)):
            return await self._get(self._prefix + COLD_START_USER) or stored
        return stored

    async def _get(self, key: str) -> bytes | None:
        backoff = Backoff(self._timeout_s)
        while True:
            try:
                stored: bytes | str | None = await asyncio.wait_for(self._client.get(key), backoff.left_s)
                return stored.encode() if isinstance(stored, str) else stored
            except (AuthenticationError, ResponseError) as error:
                raise ServiceRefused(
                    f"Redis: got {error}, expected the value of {key}; correct the login of `redis`, or for a cluster "
                    "give a redis.asyncio.RedisCluster"
                ) from error
            except (RedisError, RedisClusterException, OSError, asyncio.TimeoutError) as error:
                if not await backoff.wait():
                    raise ServiceUnavailable(
                        f"Redis: got {error!s} ({type(error).__name__}), expected an answer within "
                        f"{self._timeout_s:g} s; check that it runs, then `redis`"
                    ) from error

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

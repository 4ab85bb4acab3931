"""Step 6, publish: a list to its topic and to Redis, newest wins.

Kafka and Redis share no transaction, so a cache write is versioned instead: it replaces the stored list unless that
one is newer by `(as_of, state_version)`. An equal one is replaced, for a request that is delivered twice also writes
the topic twice. Redis being away never stops the stream: the topic has every list, and beside the lists Redis keeps
marks, up to which offset of the topic it has them; `refill` brings what is missing. Knows nothing of how a list is
made.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from redis import asyncio as aioredis
from redis.exceptions import RedisError

from encoders.errors import AfterclickError
from streams import metrics
from streams.contracts import Recommendations
from streams.settings import Redis

logger = logging.getLogger(__name__)

_NEWEST_WINS = """
local stored = redis.call('GET', KEYS[1])
if stored then
  local readable, old = pcall(cjson.decode, stored)
  if readable then
    local as_of, version = tonumber(ARGV[2]), tonumber(ARGV[3])
    if old.as_of > as_of or (old.as_of == as_of and old.state_version > version) then return 0 end
  end
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[4])
return 1
"""
_ADVANCE = """
local moved = {}
for place = 1, #ARGV, 3 do
  local stored = redis.call('HGET', KEYS[1], ARGV[place]) or ''
  if stored == ARGV[place + 1] then
    redis.call('HSET', KEYS[1], ARGV[place], ARGV[place + 2])
    moved[#moved + 1] = ARGV[place]
  end
end
return moved
"""


class CacheUnavailable(AfterclickError):
    """Redis did not answer; the message says what to check."""


@dataclass(frozen=True)
class Published:
    """What goes out for one user: the list's JSON, or None to erase; `age_s` since it was made counts to its TTL."""

    user_id: str
    payload: bytes | None
    as_of: int = 0
    state_version: int = 0
    age_s: int = 0

    @classmethod
    def of(cls, list_: Recommendations) -> Published:
        return cls(list_.user_id, msgspec.json.encode(list_), list_.as_of, list_.state_version)


class ListCache:
    """The lists in Redis."""

    def __init__(self, settings: Redis) -> None:
        seconds = settings.timeout_ms / 1000
        self._redis = aioredis.from_url(
            settings.url.get_secret_value(), socket_timeout=seconds, socket_connect_timeout=seconds
        )
        self._prefix = settings.key_prefix
        self._marks = settings.key_prefix  # the key of the user without a name, whom the contract forbids
        self._ttl_s = settings.ttl_s
        self._away = False

    async def write(self, published: Sequence[Published]) -> bool:
        """Write or erase; False, counted, if Redis cannot take it now."""
        try:
            await self._write(published)
        except (RedisError, OSError) as error:
            metrics.cache_writes.labels("failed").inc(len(published))
            if not self._away:
                logger.warning("Redis does not take lists (%s); they go to the topic, and here once it is back", error)
            self._away = True
            return False
        self._away = False
        return True

    async def marks(self) -> dict[int, int]:
        """Partition of the topic -> the offset up to which Redis has every list. An empty Redis has none.

        Raises
        ------
        RedisError, OSError
        """
        redis: Any = self._redis
        stored = await redis.hgetall(self._marks)
        return {int(partition): int(offset) for partition, offset in stored.items()}

    async def advance(self, moves: Mapping[int, tuple[int | None, int]]) -> set[int]:
        """Move marks from what they are (None: not there) to what they shall be; those that were not as told stay.

        Raises
        ------
        RedisError, OSError
        """
        if not moves:
            return set()
        flat = [("" if part is None else part) for p, (old, new) in moves.items() for part in (p, old, new)]
        redis: Any = self._redis
        return {int(partition) for partition in await redis.eval(_ADVANCE, 1, self._marks, *flat)}

    async def close(self) -> None:
        await self._redis.aclose()

    @classmethod
    async def read_once(cls, settings: Redis, user_id: str) -> bytes | None:
        """A user's list as stored, None if there is none.

        Raises
        ------
        CacheUnavailable
            Redis did not answer.
        """
        cache = cls(settings)
        try:
            stored = await cache._redis.get(cache._prefix + user_id)
        except (RedisError, OSError) as error:
            raise CacheUnavailable(
                f"Redis: {error}; expected an answer at AFTERCLICK_REDIS__URL; is it running, and is the URL right?"
            ) from error
        finally:
            await cache.close()
        return stored.encode() if isinstance(stored, str) else stored

    async def _write(self, published: Sequence[Published]) -> None:
        async with self._redis.pipeline(transaction=False) as pipe:
            for one in published:
                key = self._prefix + one.user_id
                if one.payload is None:
                    pipe.delete(key)
                else:
                    pipe.eval(
                        _NEWEST_WINS, 1, key, one.payload, one.as_of, one.state_version, max(1, self._ttl_s - one.age_s)
                    )
            for one, outcome in zip(published, await pipe.execute(), strict=True):
                written = "erased" if one.payload is None else "written" if outcome else "older"
                metrics.cache_writes.labels(written).inc()

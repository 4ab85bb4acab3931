"""Step 6, publish: a list to its topic and to Redis, newest wins.

Kafka and Redis share no transaction, so a cache write is versioned instead: it replaces the stored list unless that
one is newer by `(as_of, state_version)`. An equal one is replaced, for a request that is delivered twice also writes
the topic twice. Redis being away never stops the stream: the topic has every list, and beside the lists Redis keeps
marks, up to which offset of the topic it has them; `refill` brings what is missing. Knows nothing of how a list is
made.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from redis import asyncio as aioredis
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from encoders.errors import AfterclickError
from streams import metrics
from streams.contracts import LIST_SCHEMA, Recommendations
from streams.settings import PREFIX, Redis, SettingsError

logger = logging.getLogger(__name__)

_NEWEST_WINS = """
local stored = redis.call('GET', KEYS[1])
if stored then
  local readable, old = pcall(cjson.decode, stored)
  if readable and type(old) == 'table' and type(old.as_of) == 'number' and type(old.state_version) == 'number' then
    local as_of, version = tonumber(ARGV[2]), tonumber(ARGV[3])
    if old.as_of > as_of or (old.as_of == as_of and old.state_version > version) then return 0 end
  end
end
redis.call('SET', KEYS[1], ARGV[1], ARGV[4], ARGV[5])
return 1
"""
_MAY_ALL = "redis.call('DEL', KEYS[1]) return redis.call('GET', KEYS[1])"
"""Run on the key of the user without a name, which no list has."""
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


class ListUnreadable(AfterclickError):
    """What is stored is not a list that this program knows."""


class _Schema(msgspec.Struct):
    schema: int = 1


@dataclass(frozen=True)
class Published:
    """What goes out for one user.

    Attributes
    ----------
    payload : the list's JSON, or None to erase.
    expires_s : when Redis shall drop it, Unix time by Redis' clock; None: the TTL from now on.
    """

    user_id: str
    payload: bytes | None
    as_of: int = 0
    state_version: int = 0
    expires_s: int | None = None

    @classmethod
    def of(cls, list_: Recommendations) -> Published:
        return cls(list_.user_id, msgspec.json.encode(list_), list_.as_of, list_.state_version)


class ListCache:
    """The lists in Redis.

    Raises
    ------
    SettingsError
        The address cannot be read.
    """

    def __init__(self, settings: Redis) -> None:
        seconds = settings.timeout_ms / 1000
        try:
            self._redis = aioredis.from_url(
                settings.url.get_secret_value(), socket_timeout=seconds, socket_connect_timeout=seconds
            )
        except ValueError:  # its text may hold a part of the password
            raise SettingsError(
                f"{PREFIX}REDIS__URL: got an address that cannot be read, expected redis://user:password@host:port/0; "
                "correct it, and write special letters of the password as %XX"
            ) from None
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

    async def check(self) -> None:
        """See whether Redis lets us do our work; changes nothing.

        Raises
        ------
        SettingsError
            It refuses us, or we it: that does not mend itself, so a worker does not start.
        CacheUnavailable
            It did not answer.
        """
        try:
            await self._redis.eval(_MAY_ALL, 1, self._prefix)
        except (RedisError, OSError) as error:
            if refusal := _refusal(error):
                raise SettingsError(f"Redis: {refusal}") from error
            raise _unavailable(error) from error

    async def close(self) -> None:
        await self._redis.aclose()

    @classmethod
    async def read_once(cls, settings: Redis, user_id: str) -> bytes | None:
        """A user's list as stored, None if there is none.

        Raises
        ------
        CacheUnavailable
            Redis did not answer.
        ListUnreadable
            A newer worker wrote it, or nobody of us.
        """
        cache = cls(settings)
        try:
            stored = await cache._redis.get(cache._prefix + user_id)
        except (RedisError, OSError) as error:
            raise _unavailable(error) from error
        finally:
            await cache.close()
        if stored is None:
            return None
        try:
            schema = msgspec.json.decode(stored, type=_Schema).schema
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ListUnreadable(f"Redis: got {error} under the user's key, expected a list; delete the key") from error
        if schema > LIST_SCHEMA:
            raise ListUnreadable(
                f"Redis: got a list of schema {schema}, expected at most {LIST_SCHEMA}; a newer worker wrote it: "
                "upgrade this command"
            )
        return stored.encode() if isinstance(stored, str) else stored

    async def _write(self, published: Sequence[Published]) -> None:
        async with self._redis.pipeline(transaction=False) as pipe:
            for one in published:
                key = self._prefix + one.user_id
                if one.payload is None:
                    pipe.delete(key)
                else:
                    expiry = ("EX", self._ttl_s) if one.expires_s is None else ("EXAT", one.expires_s)
                    pipe.eval(_NEWEST_WINS, 1, key, one.payload, one.as_of, one.state_version, *expiry)
            for one, outcome in zip(published, await pipe.execute(), strict=True):
                written = "erased" if one.payload is None else "written" if outcome else "older"
                metrics.cache_writes.labels(written).inc()


def _unavailable(error: Exception) -> CacheUnavailable:
    why = _refusal(error) or (
        f"{error}; expected an answer at {PREFIX}REDIS__URL; is it running, and is the URL right? (rediss:// for TLS)"
    )
    return CacheUnavailable(f"Redis: {why}")


def _refusal(error: Exception) -> str:
    """Say why Redis refuses us, or we it; nothing if it is only away. The URL is not shown, for it holds a password."""
    cause = error.__cause__ or error.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return (
            f"got a certificate that is not to be trusted ({cause.verify_message}), expected a valid one for this "
            f"address; renew it, or name whom to trust in {PREFIX}REDIS__URL: rediss://…?ssl_ca_certs=/path/ca.pem"
        )
    if isinstance(cause, ssl.SSLError):
        return f"got no TLS ({cause.reason}), expected it at a rediss:// address; correct {PREFIX}REDIS__URL"
    if isinstance(error, NoPermissionError):
        return f"got no permission ({error}), expected GET, SET, DEL and EVAL on our keys; correct the user's ACL"
    if isinstance(error, AuthenticationError):
        return (
            f"got a refusal of the login ({error}), expected user and password to be right; correct {PREFIX}REDIS__URL"
        )
    return ""

"""Step 6, publish: a list to its topic and to Redis, newest wins.

Kafka and Redis share no transaction, so a cache write is versioned instead: it replaces the stored list unless that
one is newer by `(as_of, state_version)`. An equal one is replaced, for a request that is delivered twice also writes
the topic twice. Redis being away never stops the stream: the topic has every list, and beside the lists Redis keeps
marks, up to which offset of the topic it has them; `refill` brings what is missing. Knows nothing of how a list is
made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import msgspec

from encoders.errors import AfterclickError
from streams import metrics
from streams.contracts import LIST_SCHEMA, Recommendations
from streams.publish.cache_check import check, unusable
from streams.publish.cache_errors import Trouble
from streams.publish.checkpoint_offsets import Marks
from streams.publish.redis_connection import Command, RedisConnection
from streams.publish.redis_refusal import ERRORS, OWN, explain
from streams.settings import Settings

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


class ListUnreadable(AfterclickError):
    """What is stored is not a list that this program knows."""


class Taken(Enum):
    """What became of a list: Redis has it (or a newer one), will be asked again, or refuses this key alone."""

    YES = "yes"
    LATER = "later"
    NEVER = "never"


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
    """The lists in Redis, and the marks beside them. Whatever Redis refuses is told once and counted."""

    def __init__(self, settings: Settings) -> None:
        self._redis = RedisConnection(settings.redis.address, settings.redis.timeout_ms / 1000)
        self._prefix = settings.key_prefix
        self.marks = Marks(self._redis, settings.key_prefix)  # of the user without a name, whom the contract forbids
        self._ttl_s = settings.redis.ttl_s
        self._writing = Trouble("does not take lists", "they go to the topic, and here once it does")

    async def write(self, published: Sequence[Published]) -> list[Taken]:
        """Write or erase each; raises nothing that is Redis' doing.

        A key that holds something else than a list, or that alone is refused, is passed by, so that it does not hold
        the marks up: the user's next list tries again.
        """
        if not published:
            return []
        if self.marks.foreign:
            self._writing.note(self.marks.foreign)
            metrics.cache_writes.labels("failed").inc(len(published))
            return [Taken.LATER] * len(published)
        answers = await self._redis.run([self._command(one) for one in published])
        some = any(not isinstance(answer, ERRORS) for answer in answers)
        taken = []
        for one, answer in zip(published, answers, strict=True):
            if isinstance(answer, ERRORS):
                refusal = explain(answer, self._redis.address)
                alone = refusal.reason == "wrong-type" or (some and refusal.reason in OWN)
                self._writing.note(refusal)
                metrics.cache_writes.labels("failed").inc()
                taken.append(Taken.NEVER if alone else Taken.LATER)
            else:
                metrics.cache_writes.labels("erased" if one.payload is None else "written" if answer else "older").inc()
                taken.append(Taken.YES)
        return taken

    def whole(self) -> None:
        """Redis has all that it should: whatever it refused is over."""
        self._writing.over()
        self.marks.all_kept()

    @property
    def changes(self) -> int:
        """Times that another server may have come in the place of ours, without our last lists."""
        return self._redis.changes

    async def check(self, owner: str | None = None) -> str:
        """See whether Redis lets us do all of our work; see `cache_check`."""
        return await check(self._redis, self._prefix, owner)

    async def close(self) -> None:
        await self._redis.close()

    @classmethod
    async def read_once(cls, settings: Settings, user_id: str) -> bytes | None:
        """A user's list as stored, None if there is none.

        Raises
        ------
        SettingsError, CacheUnavailable
            Redis refused us, or did not answer.
        ListUnreadable
            A newer worker wrote it, or nobody of us.
        """
        cache = cls(settings)
        try:
            stored = await cache._redis.one("GET", cache._prefix + user_id)
        except ERRORS as error:
            raise await unusable(cache._redis, error) from None
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
        return bytes(stored)

    def _command(self, one: Published) -> Command:
        key = self._prefix + one.user_id
        if one.payload is None:
            return ("DEL", key)
        expiry = ("EX", self._ttl_s) if one.expires_s is None else ("EXAT", one.expires_s)
        return ("EVAL", _NEWEST_WINS, 1, key, one.payload, one.as_of, one.state_version, *expiry)

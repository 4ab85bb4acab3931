"""Step 6, publish: lists in Redis, where the newest one wins.

Kafka and Redis share no transaction, so each write carries a version: it replaces the stored list unless that one is
newer by `(as_of, state_version)`. A list of the same version is replaced, for a request that is delivered twice also
writes two lists to the topic. A Redis that is away stops nothing: the topic has every list. Knows neither Kafka nor how
lists are made.
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
from streams.publish.cache_errors import CacheErrors
from streams.publish.checkpoint_offsets import CheckpointOffsets
from streams.publish.redis_connection import Command, RedisConnection
from streams.publish.redis_refusal import ERRORS, SINGLE_KEY, explain
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
    """The value stored for a user is no list that this version can read."""


class WriteOutcome(Enum):
    """What became of a write.

    `STORED`: Redis has the list, or a newer one. `RETRY`: Redis does not take lists now. `REFUSED`: Redis takes lists,
    but not under this key.
    """

    STORED = "stored"
    RETRY = "retry"
    REFUSED = "refused"


class _Schema(msgspec.Struct):
    schema: int = 1


@dataclass(frozen=True)
class OutgoingList:
    """One user's list on its way to the topic and to Redis.

    Attributes
    ----------
    user_id : str
        The user whom the list is for.
    payload : bytes, optional
        The list's JSON; None erases the list.
    as_of, state_version : int
        The list's version.
    expires_s : int, optional
        Unix time in seconds, by Redis' clock, at which Redis drops the list; None: after the TTL.
    """

    user_id: str
    payload: bytes | None
    as_of: int = 0
    state_version: int = 0
    expires_s: int | None = None

    @classmethod
    def of(cls, list_: Recommendations) -> OutgoingList:
        """A list that has just been made."""
        return cls(list_.user_id, msgspec.json.encode(list_), list_.as_of, list_.state_version)


class ListCache:
    """The lists in Redis, and the checkpoint offsets beside them. Whatever Redis refuses is logged once and counted.

    Attributes
    ----------
    offsets : CheckpointOffsets
        Stored under the bare key prefix: the key of the empty user id, which the contract forbids.
    """

    def __init__(self, settings: Settings) -> None:
        self._redis = RedisConnection(settings.redis.address, settings.redis.timeout_ms / 1000)
        self._prefix = settings.key_prefix
        self.offsets = CheckpointOffsets(self._redis, settings.key_prefix)
        self._ttl_s = settings.redis.ttl_s
        self._errors = CacheErrors("does not take lists", "they go to the topic, and to Redis once it does")

    async def write(self, lists: Sequence[OutgoingList]) -> list[WriteOutcome]:
        """Write or erase lists.

        Parameters
        ----------
        lists : sequence of OutgoingList
            At most one for each user.

        Returns
        -------
        list of WriteOutcome
            One for each list. No error of Redis is raised.
        """
        if not lists:
            return []
        if self.offsets.foreign:
            self._errors.note(self.offsets.foreign)
            metrics.cache_writes.labels("failed").inc(len(lists))
            return [WriteOutcome.RETRY] * len(lists)
        answers = await self._redis.run([self._command(list_) for list_ in lists])
        takes_lists = any(not isinstance(answer, ERRORS) for answer in answers)
        outcomes = []
        for list_, answer in zip(lists, answers, strict=True):
            if isinstance(answer, ERRORS):
                refusal = explain(answer, self._redis.address)
                this_key = refusal.reason == "wrong-type" or (takes_lists and refusal.reason in SINGLE_KEY)
                self._errors.note(refusal)
                metrics.cache_writes.labels("failed").inc()
                outcomes.append(WriteOutcome.REFUSED if this_key else WriteOutcome.RETRY)
            else:
                written = "written" if answer else "older"
                metrics.cache_writes.labels("erased" if list_.payload is None else written).inc()
                outcomes.append(WriteOutcome.STORED)
        return outcomes

    def resolved(self) -> None:
        """Redis has every list: log it if errors were logged."""
        self._errors.resolved()
        self.offsets.resolved()

    @property
    def server_changes(self) -> int:
        """How often another server may have taken the place of ours, perhaps without our latest lists."""
        return self._redis.server_changes

    async def check(self, owner: str | None = None) -> str:
        """Check whether Redis allows all of our work; see `cache_check`."""
        return await check(self._redis, self._prefix, owner)

    async def close(self) -> None:
        """Close all connections."""
        await self._redis.close()

    @classmethod
    async def read_once(cls, settings: Settings, user_id: str) -> bytes | None:
        """Connect, and read a user's list.

        Returns
        -------
        bytes, optional
            The list's JSON as stored; None if there is no list.

        Raises
        ------
        SettingsError, CacheUnavailable
            Redis refused, or did not answer.
        ListUnreadable
            A newer worker wrote the value, or it is no list.
        """
        cache = cls(settings)
        try:
            stored = await cache._redis.run_one("GET", cache._prefix + user_id)
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

    def _command(self, list_: OutgoingList) -> Command:
        key = self._prefix + list_.user_id
        if list_.payload is None:
            return ("DEL", key)
        expiry = ("EX", self._ttl_s) if list_.expires_s is None else ("EXAT", list_.expires_s)
        return ("EVAL", _NEWEST_WINS, 1, key, list_.payload, list_.as_of, list_.state_version, *expiry)

"""Step 6, publish: lists in Redis, where the newest one wins.

Kafka and Redis share no transaction, so each write carries a version: it replaces the stored list unless that one is
newer by `(as_of, state_version)`. A list of the same version is replaced, for a request that is delivered twice also
writes two lists to the topic. A Redis that is away stops nothing: the topic has every list. Knows neither Kafka nor how
lists are made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

import msgspec

from encoders.errors import AfterclickError
from streams import metrics
from streams.contracts import LIST_SCHEMA, Recommendations
from streams.kafka.outage import Outage
from streams.publish.cache_check import check, unusable
from streams.publish.cache_errors import CacheErrors
from streams.publish.checkpoint_offsets import CheckpointOffsets
from streams.publish.list_key import ListKeys
from streams.publish.redis_connection import RedisConnection
from streams.publish.redis_refusal import ERRORS, SINGLE_KEY, explain
from streams.publish.redis_scripts import Command, KeyScript
from streams.settings import Settings

_NEWEST_WINS = """
local payload, as_of, version = a, tonumber(b), tonumber(c)
local old_as_of, old_version
for _, last in ipairs({1023, -1}) do
  local stored = redis.pcall('GETRANGE', key, 0, last)
  if type(stored) == 'table' then return stored end
  old_as_of = tonumber(string.match(stored, '"as_of":%s*(%d+)%D'))
  old_version = tonumber(string.match(stored, '"state_version":%s*(%d+)%D'))
  if #stored <= last or (old_as_of and old_version) then break end
end
if old_as_of and old_version then
  if old_as_of > as_of or (old_as_of == as_of and old_version > version) then return 0 end
end
local answer = redis.pcall('SET', key, payload, d, e)
return answer.err and answer or 1
"""
"""Finds the fields without decoding the list, which would take Redis four times as long, and in its first part, for Lua
hashes all that it reads: a sixth of the script's time. No text in a list can look like a field: JSON escapes the quotes
in it."""


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


class OutgoingList(NamedTuple):
    """One list on its way to the topic and to Redis.

    Attributes
    ----------
    key : str
        See `list_key`.
    payload : bytes, optional
        The list's JSON; None erases the list.
    as_of, state_version : int
        The list's version.
    expires_s : int, optional
        Unix time in seconds, by Redis' clock, at which Redis drops the list; None: after the TTL.
    partition : int
        Its partition in the topic.
    """

    key: str
    payload: bytes | None
    as_of: int = 0
    state_version: int = 0
    expires_s: int | None = None
    partition: int = 0

    @classmethod
    def of(cls, list_: Recommendations, keys: ListKeys) -> OutgoingList:
        """A list that has just been made."""
        return cls(
            keys.of(list_.user_id, list_.placement),
            msgspec.json.encode(list_),
            list_.as_of,
            list_.state_version,
            partition=keys.partition(list_.user_id),
        )


def readable(stored: bytes) -> bytes:
    """Return a value that Redis has under a user's key.

    Raises
    ------
    ListUnreadable
        A newer worker wrote the value, or it is no list.
    """
    try:
        schema = msgspec.json.decode(stored, type=_Schema).schema
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ListUnreadable(f"Redis: got {error} under the user's key, expected a list; delete the key") from error
    if schema > LIST_SCHEMA:
        raise ListUnreadable(
            f"Redis: got a list of schema {schema}, expected at most {LIST_SCHEMA}; a newer worker wrote it: "
            "upgrade this program"
        )
    return stored


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
        outage = Outage("Redis", "lists go to the topic, and to Redis once it is back")
        self.offsets = CheckpointOffsets(self._redis, settings.key_prefix, outage)
        self._ttl_s = settings.redis.ttl_s
        self._errors = CacheErrors("does not take lists", "they go to the topic, and to Redis once it does", outage)

    async def write(self, lists: Sequence[OutgoingList]) -> list[WriteOutcome]:
        """Write or erase lists.

        Parameters
        ----------
        lists : sequence of OutgoingList
            At most one for each key.

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
        outcomes, counts = [], Counter[str]()
        for list_, answer in zip(lists, answers, strict=True):
            if isinstance(answer, ERRORS):
                refusal = explain(answer, self._redis.address)
                this_key = refusal.reason == "wrong-type" or (takes_lists and refusal.reason in SINGLE_KEY)
                self._errors.note(refusal)
                counts["failed"] += 1
                outcomes.append(WriteOutcome.REFUSED if this_key else WriteOutcome.RETRY)
            else:
                written = "written" if answer else "older"
                counts["erased" if list_.payload is None else written] += 1
                outcomes.append(WriteOutcome.STORED)
        for outcome, number in counts.items():
            metrics.cache_writes.labels(outcome).inc(number)
        return outcomes

    async def read(self, keys: Sequence[str]) -> list[bytes | None] | None:
        """Read lists as they are stored, whoever wrote them.

        Parameters
        ----------
        keys : sequence of str
            See `list_key`.

        Returns
        -------
        list of bytes or None, optional
            None for a list that is not there, or that Redis does not give; None in place of all if it gives none. No
            error of Redis is raised: whoever writes finds the same, and logs it.
        """
        answers = await self._redis.run([("GET", self._prefix + key) for key in keys])
        if all(isinstance(answer, ERRORS) for answer in answers):
            return None
        return [answer if isinstance(answer, bytes) else None for answer in answers]

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
    async def read_once(cls, settings: Settings, user_id: str, placement: str | None = None) -> bytes | None:
        """Connect, and read a user's list for a placement.

        Returns
        -------
        bytes, optional
            The list's JSON as stored; None if there is no list.

        Raises
        ------
        SettingsError, CacheUnavailable
            Redis refused, or did not answer. The placement is not declared.
        ListUnreadable
            A newer worker wrote the value, or it is no list.
        """
        key = settings.key_prefix + ListKeys(settings).of(user_id, placement)
        cache = cls(settings)
        try:
            stored = await cache._redis.run_one("GET", key)
        except ERRORS as error:
            raise await unusable(cache._redis, error) from None
        finally:
            await cache.close()
        return None if stored is None else readable(stored)

    def _command(self, list_: OutgoingList) -> Command | KeyScript:
        key = self._prefix + list_.key
        if list_.payload is None:
            return ("DEL", key)
        expiry = ("EX", self._ttl_s) if list_.expires_s is None else ("EXAT", list_.expires_s)
        return KeyScript(_NEWEST_WINS, key, (list_.payload, list_.as_of, list_.state_version, *expiry))

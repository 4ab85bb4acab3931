"""The marks beside the lists in Redis: up to which offset of each partition of the topic it has every list.

A hash: partition -> offset, and in `owner` whose offsets they are (Kafka's cluster and the topic), so that nobody
takes another's for its own. Marks without an owner, of an older version, become those of who asks first. Another
topic's are never taken over: two installations share the key prefix. The same topic's of another Kafka are, once that
owner's `beat` stands still: Kafka was made anew. Knows no list; `refill` says what the marks shall be.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from streams.publish.cache_errors import Trouble
from streams.publish.redis_connection import RedisConnection
from streams.publish.redis_refusal import ERRORS, CacheUnavailable, Refusal, explain
from streams.settings import PREFIX

_MARKS = """
local owner = redis.call('HGET', KEYS[1], 'owner')
if owner and owner ~= ARGV[1] then
  if owner ~= ARGV[2] then return {owner, redis.call('HGET', KEYS[1], 'beat') or ''} end
  redis.call('DEL', KEYS[1])
end
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'beat', ARGV[3])
return redis.call('HGETALL', KEYS[1])
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
GONE_S = 10.0
"""An owner whose beat stands still for so long is gone; a live one moves it every second."""


class Marks:
    """The hash under one key. Whatever Redis refuses of it is told once and counted."""

    def __init__(self, redis: RedisConnection, key: str) -> None:
        self.foreign: Refusal | None = None
        self._redis = redis
        self._key = key
        self._trouble = Trouble("does not keep our marks", "what it lacks is brought once it does")
        self._damaged: dict[int, bytes] = {}  # partition -> what stands there for a number
        self._beat: tuple[bytes, bytes, float] | None = None  # another owner, its beat, and since when that stands
        self._gone = ""

    async def read(self, owner: str) -> dict[int, int]:
        """Partition of the topic -> the offset up to which Redis has every list. An empty Redis has none.

        Raises
        ------
        CacheUnavailable
            Also where another owner's are, who lives.
        """
        beat = time.monotonic_ns()
        stored = await self._ask("EVAL", _MARKS, 1, self._key, owner, self._gone, beat)
        if len(stored) == 2:
            self.foreign = foreign(stored[0], owner, self._key)
            self._see_beat(stored[0], stored[1], owner)
            self._trouble.note(self.foreign)
            raise CacheUnavailable(f"Redis: {self.foreign.text}")
        self.foreign, self._gone = None, ""
        before = self._damaged
        marks, self._damaged = readable(stored)
        for partition, value in self._damaged.items():
            if before.get(partition) != value:
                self._trouble.note(damaged(partition, value))
        return marks

    async def advance(self, moves: Mapping[int, tuple[int | None, int]]) -> set[int]:
        """Move marks from what they are (None: not there, or damaged) to what they shall be; others stay.

        Raises
        ------
        CacheUnavailable
        """
        if not moves:
            return set()
        flat: list[Any] = []
        for partition, (old, new) in moves.items():
            flat += [partition, self._damaged.get(partition, "") if old is None else old, new]
        return {int(partition) for partition in await self._ask("EVAL", _ADVANCE, 1, self._key, *flat)}

    def all_kept(self) -> None:
        """The marks are where they should be."""
        self._trouble.over()

    async def _ask(self, *command: Any) -> Any:
        try:
            return await self._redis.one(*command)
        except ERRORS as error:
            refusal = explain(error, self._redis.address)
            self._trouble.note(refusal)
            raise CacheUnavailable(f"Redis: {refusal.text}") from None

    def _see_beat(self, other: bytes, beat: bytes, owner: str) -> None:
        """An owner of the same topic on another Kafka is gone once its beat stands still: Kafka was made anew."""
        if self._beat is None or self._beat[:2] != (other, beat):
            self._beat = other, beat, time.monotonic()
        elif time.monotonic() - self._beat[2] > GONE_S and same_topic(other, owner):
            self._gone = other.decode(errors="replace")


def readable(stored: Sequence[bytes]) -> tuple[dict[int, int], dict[int, bytes]]:
    """The marks, and those that are no numbers, from the hash's names and values in turn."""
    marks, damaged = dict[int, int](), dict[int, bytes]()
    for name, value in zip(stored[::2], stored[1::2], strict=True):
        if name.isdigit() and value.isdigit() and len(value) < 19:
            marks[int(name)] = int(value)
        elif name.isdigit():
            damaged[int(name)] = value
    return marks, damaged


def damaged(partition: int, value: bytes) -> Refusal:
    return Refusal(
        "damaged-mark",
        f"got {value[:40]!r} for the mark of partition {partition}, expected an offset; a worker reads the partition "
        "again and sets it",
    )


def same_topic(other: bytes, owner: str) -> bool:
    return other.rpartition(b" ")[2] == owner.rpartition(" ")[2].encode()


def foreign(other: bytes, owner: str, prefix: str) -> Refusal:
    return Refusal(
        "foreign-mark",
        f"got lists of another Afterclick under {prefix}* (Kafka and topic {other.decode(errors='replace')[:300]}), "
        f"expected ours ({owner}); set another {PREFIX}REDIS__KEY_PREFIX, or, if the other is gone, delete the key "
        f"{prefix}",
    )

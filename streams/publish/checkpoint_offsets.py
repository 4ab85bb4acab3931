"""The checkpoint offsets beside the lists in Redis: per partition, the offset before which Redis has every list.

They are a hash: partition of the lists' topic -> offset. Its field `owner` names Kafka's cluster and the topic that the
offsets belong to, so that no installation uses another's. Offsets without an owner, from an older version, go to the
first one that reads them. Offsets of another topic are never taken over: two installations share the key prefix.
Offsets of the same topic of another Kafka are taken over once the other owner's field `beat` stands still: Kafka was
created anew. Knows no list.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from streams.kafka.outage import Outage
from streams.publish.cache_errors import CacheErrors
from streams.publish.redis_connection import RedisConnection
from streams.publish.redis_refusal import ERRORS, CacheUnavailable, Refusal, explain
from streams.settings import PREFIX

_READ = """
local owner = redis.call('HGET', KEYS[1], 'owner')
if owner and owner ~= ARGV[1] then
  if owner ~= ARGV[2] then return {owner, redis.call('HGET', KEYS[1], 'beat') or ''} end
  redis.call('DEL', KEYS[1])
end
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'beat', ARGV[3])
return redis.call('HGETALL', KEYS[1])
"""
_MOVE = """
local moved = {}
for i = 1, #ARGV, 3 do
  local stored = redis.call('HGET', KEYS[1], ARGV[i]) or ''
  if stored == ARGV[i + 1] then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2])
    moved[#moved + 1] = ARGV[i]
  end
end
return moved
"""
GONE_S = 10.0
"""An owner whose beat stands still for this long is gone; a live one changes it every second."""


class CheckpointOffsets:
    """The hash under one key. Whatever Redis refuses of it is logged once and counted.

    Attributes
    ----------
    foreign : Refusal, optional
        Why the lists are not ours, if another installation owned the hash at the last reading.
    """

    def __init__(self, redis: RedisConnection, key: str, outage: Outage) -> None:
        self.foreign: Refusal | None = None
        self._redis = redis
        self._key = key
        self._errors = CacheErrors("does not keep checkpoint offsets", "missing lists follow once it does", outage)
        self._damaged: dict[int, bytes] = {}  # partition -> the value that is no offset
        self._beat: tuple[bytes, bytes, float] | None = None  # another owner, its beat, and since when that stands
        self._gone = ""  # an owner whose offsets we take over

    async def read(self, owner: str) -> dict[int, int]:
        """Read all offsets, and show by the beat that this owner is alive.

        Parameters
        ----------
        owner : str
            Kafka's cluster and the topic, see `streams.publish.backfill.owner_of`.

        Returns
        -------
        dict
            Partition -> offset; without the partitions that have none, or a damaged one.

        Raises
        ------
        CacheUnavailable
            Redis refused, or another owner is alive.
        """
        beat = time.monotonic_ns()
        stored = await self._ask("EVAL", _READ, 1, self._key, owner, self._gone, beat)
        if len(stored) == 2:
            self.foreign = foreign(stored[0], owner, self._key)
            self._note_beat(stored[0], stored[1], owner)
            self._errors.note(self.foreign)
            raise CacheUnavailable(f"Redis: {self.foreign.text}")
        self.foreign, self._gone = None, ""
        before = self._damaged
        offsets, self._damaged = readable(stored)
        for partition, value in self._damaged.items():
            if before.get(partition) != value:
                self._errors.note(damaged(partition, value))
        return offsets

    async def move(self, moves: Mapping[int, tuple[int | None, int]]) -> set[int]:
        """Replace offsets that are as expected.

        Parameters
        ----------
        moves : mapping
            Partition -> the expected offset (None: there is none, or a damaged one) and the new offset.

        Returns
        -------
        set of int
            The partitions whose offsets were replaced. The others had another offset and keep it.

        Raises
        ------
        CacheUnavailable
            Redis refused.
        """
        if not moves:
            return set()
        arguments: list[Any] = []
        for partition, (expected, new) in moves.items():
            arguments += [partition, self._damaged.get(partition, "") if expected is None else expected, new]
        return {int(partition) for partition in await self._ask("EVAL", _MOVE, 1, self._key, *arguments)}

    def resolved(self) -> None:
        """All offsets are where they should be: log it if errors were logged."""
        self._errors.resolved()

    async def _ask(self, *command: Any) -> Any:
        try:
            return await self._redis.run_one(*command)
        except ERRORS as error:
            refusal = explain(error, self._redis.address)
            self._errors.note(refusal)
            raise CacheUnavailable(f"Redis: {refusal.text}") from None

    def _note_beat(self, other: bytes, beat: bytes, owner: str) -> None:
        """Note that another owner of the same topic is gone once its beat stands still."""
        if self._beat is None or self._beat[:2] != (other, beat):
            self._beat = other, beat, time.monotonic()
        elif time.monotonic() - self._beat[2] > GONE_S and same_topic(other, owner):
            self._gone = other.decode(errors="replace")


def readable(stored: Sequence[bytes]) -> tuple[dict[int, int], dict[int, bytes]]:
    """Tell valid offsets from damaged ones.

    Parameters
    ----------
    stored : sequence of bytes
        The fields and values of the hash in turn.

    Returns
    -------
    tuple
        Partition -> offset, and partition -> the value that is no offset.
    """
    offsets, damaged = dict[int, int](), dict[int, bytes]()
    for name, value in zip(stored[::2], stored[1::2], strict=True):
        if name.isdigit() and value.isdigit() and len(value) < 19:
            offsets[int(name)] = int(value)
        elif name.isdigit():
            damaged[int(name)] = value
    return offsets, damaged


def damaged(partition: int, value: bytes) -> Refusal:
    """Something else than an offset is stored for a partition."""
    return Refusal(
        "damaged-offset",
        f"got {value[:40]!r} as the checkpoint offset of partition {partition}, expected a number; a worker reads the "
        "partition again and corrects it",
    )


def same_topic(other: bytes, owner: str) -> bool:
    """Whether two owners have the same topic, be it on different Kafkas."""
    return other.rpartition(b" ")[2] == owner.rpartition(" ")[2].encode()


def foreign(other: bytes, owner: str, prefix: str) -> Refusal:
    """Another owner's lists are stored under our prefix."""
    return Refusal(
        "foreign-owner",
        f"got lists of another Afterclick under {prefix}* (Kafka and topic {other.decode(errors='replace')[:300]}), "
        f"expected ours ({owner}); set another {PREFIX}REDIS__KEY_PREFIX, or, if the other is gone, delete the key "
        f"{prefix}",
    )

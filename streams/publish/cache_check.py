"""See whether Redis lets us do all of our work: each command, at each master of a cluster, before it is needed.

Changes nothing: it writes to a key that nobody uses, with an expiry, and removes it. Called at a worker's start and by
`doctor`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from redis.exceptions import ResponseError

from encoders.errors import AfterclickError
from streams.publish.checkpoint_offsets import GONE_S, damaged, foreign, readable, same_topic
from streams.publish.redis_connection import RedisConnection
from streams.publish.redis_refusal import ERRORS, URL, CacheUnavailable, Refusal, explain, no_right_to, reason_of
from streams.settings import SettingsError

_MAY_ALL = """
local refused = {}
for _, command in ipairs({
  {'GET', KEYS[1]}, {'HGET', KEYS[1], 'f'}, {'HGETALL', KEYS[1]},
  {'SET', KEYS[1], '', 'EX', 1}, {'DEL', KEYS[1]},
  {'SET', KEYS[1], '', 'EXAT', 4000000000}, {'DEL', KEYS[1]}, {'HSET', KEYS[1], 'f', ''}, {'DEL', KEYS[1]},
}) do
  local answer = redis.pcall(unpack(command))
  if type(answer) == 'table' and answer.err then
    refused[#refused + 1] = command[1] .. ' ' .. answer.err
    if command[1] == 'DEL' then break end
  end
end
return refused
"""
"""All that the work asks for, on a key that nobody uses and that is gone at the end. SET is the first write: a full
Redis refuses no later one of a script."""
_NOBODY = "-" * 300
"""Longer than any id: no user's key is this behind the prefix."""


async def check(redis: RedisConnection, prefix: str, owner: str | None) -> str:
    """Say what is there.

    Parameters
    ----------
    prefix : of the lists' keys, and the marks' key.
    owner : of our marks; None if it is not known.

    Raises
    ------
    SettingsError
        It refuses us, or we it, and that does not mend itself: a worker does not start.
    CacheUnavailable
        It did not answer, or cannot write now.
    """
    try:
        masters = await _try_all(redis, prefix)
        stored = await redis.one("HGETALL", prefix)
        if owner is not None and await _lives(redis, prefix, stored.get(b"owner"), owner):
            raise _error(foreign(stored[b"owner"], owner, prefix))
    except ERRORS as error:
        raise await unusable(redis, error) from None
    _, broken = readable([part for pair in stored.items() for part in pair])
    if broken:
        raise _error(damaged(*next(iter(broken.items()))))
    return "takes lists" + (f", as a cluster of {masters} masters" if masters > 1 else "")


async def unusable(redis: RedisConnection, error: Exception) -> AfterclickError:
    """The error to end with: a wrong setting, or a Redis that is away."""
    refusal = explain(error, redis.address)
    if refusal.reason in ("away", "tls") and (advice := await redis.advice()):
        return SettingsError(f"Redis: got no answer at {redis.address}, expected one; in {URL} write {advice}")
    return _error(refusal)


async def _try_all(redis: RedisConnection, prefix: str) -> int:
    """How many masters let us do all."""
    keys = await redis.a_key_of_each_master(prefix + _NOBODY)
    for answer in await redis.run([("EVAL", _MAY_ALL, 1, key) for key in keys]):
        if isinstance(answer, Exception):
            raise answer
        if answer:
            raise _error(_lacking([text.decode(errors="replace") for text in answer], redis, prefix))
    return len(keys)


def _lacking(refused: Sequence[str], redis: RedisConnection, prefix: str) -> Refusal:
    """What the check was refused: "COMMAND error" each."""
    errors = {name: ResponseError(error) for name, _, error in (text.partition(" ") for text in refused)}
    forbidden = [name for name, error in errors.items() if reason_of(error) == "permission"]
    if forbidden:
        return no_right_to(forbidden, prefix)
    name, error = next(iter(errors.items()))
    return explain(ResponseError(f"{name}: {error}"), redis.address)


async def _lives(redis: RedisConnection, key: str, other: bytes | None, owner: str) -> bool:
    """Whether the marks are another's, who is not gone."""
    if other is None or other == owner.encode():
        return False
    if not same_topic(other, owner):
        return True
    first = await redis.one("HGET", key, "beat")
    for _ in range(10):
        await asyncio.sleep(GONE_S / 10)
        if await redis.one("HGET", key, "beat") != first:
            return True
    return False


def _error(refusal: Refusal) -> AfterclickError:
    kind = SettingsError if refusal.lasting else CacheUnavailable
    return kind(f"Redis: {refusal.text}")

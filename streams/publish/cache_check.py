"""Checks whether Redis allows all of our work: each command, at each master of a cluster, before it is needed.

Changes nothing: it writes to a key that nobody uses, with an expiry, and removes it. Copies no list.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from redis.exceptions import ResponseError

from encoders.errors import AfterclickError
from streams.publish.checkpoint_offsets import GONE_S, damaged, foreign, readable, same_topic
from streams.publish.redis_connection import RedisConnection
from streams.publish.redis_probe import scheme_advice
from streams.publish.redis_refusal import ERRORS, URL, CacheUnavailable, Refusal, explain, no_right_to, reason_of
from streams.settings import SettingsError

_TRY_ALL = """
local refused = {}
for _, command in ipairs({
  {'GET', KEYS[1]}, {'MGET', KEYS[1]}, {'GETRANGE', KEYS[1], 0, 1}, {'HGET', KEYS[1], 'f'}, {'HGETALL', KEYS[1]},
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
"""All commands that the work needs, on a key that nobody uses and that is gone at the end. SET is the first write: a
full Redis refuses no later one of a script."""
_NOBODY = "-" * 400
"""Longer than any key of a list: none is the prefix and this."""


async def check(redis: RedisConnection, prefix: str, owner: str | None) -> str:
    """Check all of our work.

    Parameters
    ----------
    redis : RedisConnection
        Where the work is to be done.
    prefix : str
        The prefix of the lists' keys, which is the key of the checkpoint offsets, too.
    owner : str, optional
        The owner of our checkpoint offsets; None if it is not known.

    Returns
    -------
    str
        A few words about the server.

    Raises
    ------
    SettingsError
        Redis refuses us, or its certificate cannot be trusted, and waiting does not help: a worker does not start.
    CacheUnavailable
        Redis did not answer, or cannot write now.
    """
    try:
        masters = await _try_all(redis, prefix)
        stored = await redis.run_one("HGETALL", prefix)
        if owner is not None and await _is_foreign(redis, prefix, stored.get(b"owner"), owner):
            raise _error(foreign(stored[b"owner"], owner, prefix))
    except ERRORS as error:
        raise await unusable(redis, error) from None
    _, broken = readable([part for pair in stored.items() for part in pair])
    if broken:
        raise _error(damaged(*next(iter(broken.items()))))
    return "takes lists" + (f", as a cluster of {masters} masters" if masters > 1 else "")


async def unusable(redis: RedisConnection, error: Exception) -> AfterclickError:
    """The error to raise for an error of redis-py: `SettingsError` if a setting is wrong, else `CacheUnavailable`."""
    refusal = explain(error, redis.address)
    if refusal.reason in ("away", "tls") and (advice := await scheme_advice(redis.address)):
        return SettingsError(f"Redis: got no answer at {redis.address}, expected one; in {URL} write {advice}")
    return _error(refusal)


async def _try_all(redis: RedisConnection, prefix: str) -> int:
    """Try every command at every master. Returns the number of masters."""
    keys = await redis.a_key_of_each_master(prefix + _NOBODY)
    for answer in await redis.run([("EVAL", _TRY_ALL, 1, key) for key in keys]):
        if isinstance(answer, Exception):
            raise answer
        if answer:
            raise _error(_first_refusal([text.decode(errors="replace") for text in answer], redis, prefix))
    return len(keys)


def _first_refusal(refused: Sequence[str], redis: RedisConnection, prefix: str) -> Refusal:
    """All missing rights, or else the first error; `refused` has "COMMAND error" for each refused command."""
    errors = {name: ResponseError(error) for name, _, error in (text.partition(" ") for text in refused)}
    forbidden = [name for name, error in errors.items() if reason_of(error) == "permission"]
    if forbidden:
        return no_right_to(forbidden, prefix)
    name, error = next(iter(errors.items()))
    return explain(ResponseError(f"{name}: {error}"), redis.address)


async def _is_foreign(redis: RedisConnection, key: str, other: bytes | None, owner: str) -> bool:
    """Whether the checkpoint offsets are another owner's, and that owner is not gone."""
    if other is None or other == owner.encode():
        return False
    if not same_topic(other, owner):
        return True
    first = await redis.run_one("HGET", key, "beat")
    for _ in range(10):
        await asyncio.sleep(GONE_S / 10)
        if await redis.run_one("HGET", key, "beat") != first:
            return True
    return False


def _error(refusal: Refusal) -> AfterclickError:
    kind = SettingsError if refusal.lasting else CacheUnavailable
    return kind(f"Redis: {refusal.text}")

"""Read many lists from Redis at once: reads that come while one is under way go together, as one batch.

So there is one connection, however many readers there are, and the load on Redis falls as the number of readers grows.
Writes nothing.
"""

from __future__ import annotations

import asyncio
from typing import Any

from encoders.errors import AfterclickError
from streams.contracts import COLD_START_USER
from streams.kafka.outage import Outage
from streams.publish.cache_check import unusable
from streams.publish.cache_errors import CacheErrors
from streams.publish.list_cache import readable
from streams.publish.list_key import ListKeys
from streams.publish.redis_connection import RedisConnection
from streams.publish.redis_refusal import ERRORS, CacheUnavailable, explain
from streams.settings import Settings, SettingsError

BATCH = 128
"""The most lists in one batch; chosen by us: 128 lists of 20 KB are 2.5 MB."""

CONSEQUENCE = "readers are told to come back later"
"""What a Redis that cannot be read leads to, for the log."""


class ListReader:
    """Reads lists by the ids under which they are stored.

    Attributes
    ----------
    away : str
        Why Redis could not be read the last time, in one line without a secret; empty if it could.
    """

    def __init__(self, settings: Settings) -> None:
        self._redis = RedisConnection(settings.redis.address, settings.redis.timeout_ms / 1000)
        self._prefix = settings.key_prefix
        self._keys = ListKeys(settings)
        self._waiting: list[tuple[str, asyncio.Future[Any]]] = []
        self._reading: asyncio.Task[None] | None = None
        self._errors = CacheErrors("cannot be read", CONSEQUENCE, Outage("Redis", CONSEQUENCE))
        self.away = ""

    async def start(self) -> None:
        """Read once.

        Raises
        ------
        SettingsError
            Redis refuses us, and waiting does not help. That it is only away is no error.
        """
        try:
            await self._redis.run_one("GET", self._prefix + COLD_START_USER)
        except ERRORS as error:
            reason: AfterclickError = await unusable(self._redis, error)
            if isinstance(reason, SettingsError):
                raise reason from None
            self._note(error)

    async def read(self, user_id: str, placement: str | None = None) -> bytes | None:
        """Return a list as it is stored; None if there is none.

        Raises
        ------
        CacheUnavailable
            Redis did not answer, or refuses.
        ListUnreadable
            A newer worker wrote the value, or it is no list.
        SettingsError
            The placement is not declared.
        """
        key = self._prefix + self._keys.of(user_id, placement)
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((key, future))
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read_all())
        stored = await future
        if isinstance(stored, Exception):
            raise CacheUnavailable(f"Redis: {self.away}") from stored
        return None if stored is None else readable(stored)

    async def close(self) -> None:
        """Close the connection, once nobody waits."""
        if self._reading is not None:
            await self._reading
        await self._redis.close()

    async def _read_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
            try:
                answers = await self._redis.run([("GET", key) for key, _ in batch])
            except Exception as bug:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(bug)
                raise
            errors = [answer for answer in answers if isinstance(answer, ERRORS)]
            if errors:
                self._note(errors[0])
            else:
                self.away = ""
                self._errors.resolved()
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():  # its reader is gone
                    future.set_result(answer)

    def _note(self, error: Exception) -> None:
        refusal = explain(error, self._redis.address)
        self.away = refusal.text
        self._errors.note(refusal)

"""The wait at the start of a partition's ownership, until the requests that were already there have been read.

The previous owner may have published a list and died before it committed the request. If the new owner ranked the
user's older request first, the user's list would go back in time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

CATCH_UP_S = 5.0
"""Chosen by us: it takes a second to read as many requests as a worker holds. Offsets that retention deleted never
arrive."""


class CatchUp:
    """Which partitions still have requests from before our ownership."""

    def __init__(self) -> None:
        self._end: dict[Any, int] = {}  # partition -> the offset after the last request that was there
        self._complete = asyncio.Event()
        self._complete.set()

    @property
    def complete(self) -> bool:
        """Whether ranking may go on."""
        return self._complete.is_set()

    def begin(self, ends: Mapping[Any, int]) -> None:
        """Partitions were assigned: wait for the requests before these offsets."""
        self._end = dict(ends)
        if ends:
            self._complete.clear()

    def note(self, partition: Any, offset: int, *, is_full: bool) -> None:
        """A request was read.

        Parameters
        ----------
        partition, offset :
            Where it was.
        is_full : bool
            Whether the worker holds so many requests that it must not wait for more.
        """
        if offset + 1 >= self._end.get(partition, float("inf")):
            del self._end[partition]
        if is_full or not self._end:
            self._complete.set()

    async def wait(self) -> None:
        """Wait until the requests are read, at most `CATCH_UP_S`."""
        if not self._complete.is_set():
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._complete.wait(), CATCH_UP_S)
            self._complete.set()

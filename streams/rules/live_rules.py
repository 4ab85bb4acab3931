"""The rules of a running process: they follow their file, and the topic `items`.

When the file changes, its rules read the whole catalogue before they replace the rules before them. A file that cannot
be used changes nothing. Knows no list.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Set
from contextlib import suppress
from typing import Any

from ranker.rules.item_table import ItemTable
from ranker.rules.reading import RulesError, read
from ranker.rules.rule import RuleSet
from streams.kafka.compacted_reader import Follower, Records, items_of
from streams.kafka.record_reader import RecordReader
from streams.rules import rule_metrics
from streams.settings import Settings

logger = logging.getLogger(__name__)

CHECK_EVERY_S = 1.0
"""How often the file is read: a few kilobytes. A change counts once it is the same twice in a row."""

Changed = Callable[[ItemTable, Set[str], Set[str]], None]
"""Gets the table that applies now, the items that are excluded from all lists since the last call, and those that are
not any more."""


class LiveRules:
    """The rules that apply now.

    Parameters
    ----------
    settings : Settings
        Of the process. Without `rules` there is nothing to follow.

    Attributes
    ----------
    table : ItemTable
        The rules that apply, and the items as they see them.
    caught_up : asyncio.Event
        Set once the rules know every item that was there at the start.
    on_change : list of callable
        Are told what changes; at the first time with all items that are excluded.

    Raises
    ------
    RulesError
        The file cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._path = settings.rules
        self._content: bytes | None = self._path.read_bytes() if self._path and self._path.is_file() else b""
        self.table = ItemTable(read(self._path) if self._path else RuleSet())
        self.caught_up = asyncio.Event()
        self.on_change: list[Changed] = []
        self._reader = RecordReader(settings)
        self._is_running = False
        if self._path is None:
            self.caught_up.set()

    @property
    def is_on(self) -> bool:
        """Whether there are rules to follow."""
        return self._path is not None

    async def run(self) -> None:
        """Follow file and topic for ever. A second call does nothing: two tiers of a process share the rules.

        Raises
        ------
        streams.kafka.client.KafkaRefuses
        """
        if self._path is None or self._is_running:
            return
        self._is_running = True
        following: list[asyncio.Task[None]] = []
        table: ItemTable | None = self.table
        try:
            while True:
                if table is not None:
                    following.append(await self._filled(table))
                    self._serve(table)
                    for old in following[:-1]:
                        await _cancelled(old)
                    del following[:-1]
                done, _ = await asyncio.wait(following, timeout=CHECK_EVERY_S)
                for task in done:
                    task.result()
                table = await self._newer()
        finally:
            for task in following:
                await _cancelled(task)

    async def _filled(self, table: ItemTable) -> asyncio.Task[None]:
        """Let a table read the topic. Returns the task that keeps it up to date, once it has all items."""

        async def put(records: Records) -> None:
            await self._put(table, records)

        follower = Follower(self._settings.kafka, {self._settings.topic("items"): put})
        task = asyncio.create_task(follower.run())
        caught_up = asyncio.create_task(follower.caught_up.wait())
        try:
            await asyncio.wait((task, caught_up), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await _cancelled(task)
            raise
        finally:
            await _cancelled(caught_up)
        if task.done():
            task.result()
        return task

    async def _put(self, table: ItemTable, records: Records) -> None:
        received, _ = await items_of(records, self._reader)
        newly, released = set[str](), set[str]()
        for item_id, (item, _) in received.items():
            was_excluded = item_id in table.excluded
            if item is None:
                table.delete(item_id)
            else:
                table.put(item)
            if was_excluded != (item_id in table.excluded):
                (released if was_excluded else newly).add(item_id)
        if table is self.table and self.caught_up.is_set():
            rule_metrics.show(table)
            if newly or released:
                self._tell(newly, released)

    def _serve(self, table: ItemTable) -> None:
        before, self.table = self.table, table
        rule_metrics.begin(table, before)
        excluded_before = before.excluded if self.caught_up.is_set() else set[str]()
        self._tell(table.excluded - excluded_before, excluded_before - table.excluded)
        self.caught_up.set()
        logger.info("rules: %d apply, from %s", len(table.rules.rules), self._path)

    def _tell(self, newly: Set[str], released: Set[str]) -> None:
        for changed in self.on_change:
            changed(self.table, newly, released)

    async def _newer(self) -> ItemTable | None:
        """A table without items for the rules of a file that has changed; None if it has not, or cannot be used."""
        assert self._path is not None
        content = await asyncio.to_thread(self._read)
        if content == self._content:
            return None
        await asyncio.sleep(CHECK_EVERY_S)
        if content != await asyncio.to_thread(self._read):
            return None
        self._content = content
        try:
            rules = await asyncio.to_thread(read, self._path)
        except RulesError as error:
            logger.error("the rules changed and cannot be used; those before stay: %s", error)
            rule_metrics.changes.labels("refused").inc()
            rule_metrics.refused.set(1)
            return None
        rule_metrics.changes.labels("served").inc()
        rule_metrics.refused.set(0)
        return ItemTable(rules)

    def _read(self) -> bytes | None:
        assert self._path is not None
        try:
            return self._path.read_bytes()
        except OSError:
            return None


async def _cancelled(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait for its end."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task

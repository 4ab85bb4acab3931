"""The store under a Faust table, written in batches and only with records that the table's changelog has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import Any

import faust
from aiokafka.structs import ConsumerRecord, RecordMetadata


class TableStore:
    """Fault: a table can be written only while Faust iterates over a stream (faust-streaming issues 300, 497).

    Faust also sends one changelog message per write, and stores the value before Kafka has that message. Here the
    caller sends the changelog messages, and the store gets each record with its offset there, as in a restore.

    Parameters
    ----------
    table : faust.Table
    changelog : str
        The changelog's topic.
    """

    def __init__(self, table: faust.types.TableT[bytes, bytes], changelog: str) -> None:
        self._store: Any = table.data
        self._app = table.app
        self._changelog = changelog
        self._restored = 0

    def partitions(self) -> frozenset[int]:
        """Return the table's partitions that this worker holds now."""
        return frozenset(tp.partition for tp in self._app.consumer.assignment() if tp.topic == self._changelog)

    def take_restored(self) -> int:
        """Return how many records were restored since the last call."""
        count, self._restored = self._restored, 0
        return count

    def apply(self, changes: Sequence[tuple[bytes, bytes | None, RecordMetadata]]) -> None:
        """Write keys and values (None deletes), each with the metadata of its changelog record."""
        self._put((key, value, faust.types.TP(at.topic, at.partition), at.offset) for key, value, at in changes)

    def restore(self, partition: faust.types.TP, records: Sequence[ConsumerRecord]) -> None:
        """Write records that were read from the changelog."""
        self._restored += len(records)
        self._put((record.key, record.value, partition, record.offset) for record in records)

    def _put(self, changes: Iterable[tuple[bytes, bytes | None, faust.types.TP, int]]) -> None:
        events: list[Any] = [
            SimpleNamespace(
                key=key,
                value=value,
                message=SimpleNamespace(key=key, value=value, tp=tp, partition=tp.partition, offset=offset),
            )
            for key, value, tp, offset in changes
        ]
        if events:
            self._store.apply_changelog_batch(events, to_key=lambda key: key, to_value=lambda value: value)

"""Where flushed states go: the store of a Faust table. `worker` makes it, `state_worker` writes to it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import Any

import faust
from aiokafka.structs import ConsumerRecord, RecordMetadata


class TableStore:
    """A Faust table's store, written only with what its changelog has, at its offset there.

    Parameters
    ----------
    changelog : the topic.
    """

    def __init__(self, table: faust.types.TableT[bytes, bytes], changelog: str) -> None:
        self._store: Any = table.data
        self._app = table.app
        self._changelog = changelog

    def partitions(self) -> frozenset[int]:
        """Those of the table that this worker holds now."""
        return frozenset(tp.partition for tp in self._app.consumer.assignment() if tp.topic == self._changelog)

    def apply(self, changes: Sequence[tuple[bytes, bytes | None, RecordMetadata]]) -> None:
        self._put(
            (key, value, faust.types.TP(place.topic, place.partition), place.offset) for key, value, place in changes
        )

    def restore(self, partition: faust.types.TP, records: Sequence[ConsumerRecord]) -> None:
        """Take in what the changelog has."""
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

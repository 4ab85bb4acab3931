"""Where flushed states go: the store of a Faust table. `worker` makes it, `state_worker` writes to it."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import faust
from aiokafka.structs import RecordMetadata


class TableStore:
    """A Faust table's store, written only with what its changelog has acknowledged, at the offset that it got."""

    def __init__(self, table: faust.types.TableT[bytes, bytes]) -> None:
        self._store: Any = table.data

    def apply(self, changes: Sequence[tuple[bytes, bytes | None, RecordMetadata]]) -> None:
        events: list[Any] = [
            SimpleNamespace(
                key=key,
                value=value,
                message=SimpleNamespace(
                    key=key,
                    value=value,
                    tp=faust.types.TP(place.topic, place.partition),
                    partition=place.partition,
                    offset=place.offset,
                ),
            )
            for key, value, place in changes
        ]
        self._store.apply_changelog_batch(events, to_key=lambda key: key, to_value=lambda value: value)

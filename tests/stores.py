"""An in-memory store of users' states, for tests without Faust."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from aiokafka.structs import RecordMetadata

from streams.settings import Settings


class MemoryStore(dict[bytes, bytes]):
    """A `streams.state.changelog.Store`. It holds all partitions unless the test sets `held`."""

    held: Collection[int] = range(Settings().kafka.partitions)

    def partitions(self) -> Collection[int]:
        return self.held

    def apply(self, changes: Sequence[tuple[bytes, bytes | None, RecordMetadata]]) -> None:
        for key, value, _ in changes:
            if value is None:
                self.pop(key, None)
            else:
                self[key] = value

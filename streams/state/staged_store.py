"""Changes of users' values by key, until a flush has written them to the durable store.

A read looks into three layers: changes since the last flush, changes that are being flushed, and the store. Knows
neither what a key means nor Kafka.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

Changes = dict[str, dict[bytes, bytes | None]]
"""user id -> key -> value; None deletes."""


class StagedStore:
    """The three layers.

    Parameters
    ----------
    durable : mapping of bytes to bytes
        The store. The caller writes it after a flush.
    """

    def __init__(self, durable: Mapping[bytes, bytes]) -> None:
        self.durable = durable
        self._changes: Changes = {}
        self._flushing: Changes = {}

    def read(self, user_id: str, key: bytes) -> bytes | None:
        """Give the newest value of one of the user's keys; None if there is none."""
        for layer in (self._changes, self._flushing):
            values = layer.get(user_id, {})
            if key in values:
                return values[key]
        return self.durable.get(key)

    def change(self, user_id: str, key: bytes, value: bytes | None) -> None:
        """Set the value of one of the user's keys; None deletes it."""
        self._changes.setdefault(user_id, {})[key] = value

    def begin_flush(self, position: Callable[[bytes], int]) -> Changes:
        """Give the changes since the last flush, each user's in the order of `position`."""
        self._flushing = {
            user_id: {key: values[key] for key in sorted(values, key=position)}
            for user_id, values in self._changes.items()
        }
        self._changes = {}
        return self._flushing

    def end_flush(self) -> None:
        """Note that the store holds what `begin_flush` returned."""
        self._flushing = {}

    def discard(self) -> None:
        """Discard all changes that are not in the store."""
        self._changes, self._flushing = {}, {}

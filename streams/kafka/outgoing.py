"""One message to be, and how large Kafka lets it be. Knows neither what is in it nor how it gets out."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

BROKERS_LARGEST = 1_048_588
"""Kafka's default of `max.message.bytes`."""
OVERHEAD_BYTES = 512
"""What Kafka adds to key and value of one message: less than 100 bytes, and headers of ours."""


class Outgoing(NamedTuple):
    """One message to be. `topic` is the full name; without a `partition` the key's hash decides.

    `smaller` gives what to send instead where only so many bytes of key and value fit; without it nothing can be left
    out.
    """

    topic: str
    key: bytes | None
    value: bytes | None
    partition: int | None = None
    headers: dict[str, bytes] | None = None
    smaller: Callable[[int], Outgoing] | None = None

    @property
    def size(self) -> int:
        """Bytes of key and value."""
        return len(self.key or b"") + len(self.value or b"")

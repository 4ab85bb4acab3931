"""One message to send, and how large Kafka allows it to be. Knows neither its content nor how it is sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

BROKERS_LARGEST = 1_048_588
"""Kafka's default of `max.message.bytes`."""
OVERHEAD_BYTES = 512
"""An upper bound of what Kafka adds to key and value of a message: less than 100 bytes, and our headers."""


class Outgoing(NamedTuple):
    """One message to send.

    Attributes
    ----------
    topic : str
        The full name.
    partition : int or None
        None to let the key's hash decide.
    smaller : callable or None
        Takes the bytes of key and value that fit, and returns the message to send instead; None if nothing can be left
        out.
    written_ms : int or None
        The time of the record, in milliseconds since the epoch; None for the time when it is sent.
    """

    topic: str
    key: bytes | None
    value: bytes | None
    partition: int | None = None
    headers: dict[str, bytes] | None = None
    smaller: Callable[[int], Outgoing] | None = None
    written_ms: int | None = None

    @property
    def size(self) -> int:
        """The size of key and value, in bytes."""
        return len(self.key or b"") + len(self.value or b"")

"""What a replay consists of: the messages to send, and the count of the input's rows.

Knows neither files nor Kafka.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from encoders.errors import AfterclickError


class ReplayMessage(NamedTuple):
    """A message to be sent.

    Attributes
    ----------
    topic : str
        Without the prefix.
    key : bytes or None
    value : bytes
    time_ms : int or None
        The event's time, milliseconds since the epoch; None if it has no believable one.
    """

    topic: str
    key: bytes | None
    value: bytes
    time_ms: int | None


class InputError(AfterclickError):
    """The input is wrong; the message says which input, what it holds and what is expected."""


class Replay(Protocol):
    """Messages to send, and what became of the input's rows."""

    @property
    def sizes(self) -> dict[str, int]:
        """The number of messages by topic."""
        ...

    @property
    def counts(self) -> dict[str, int]:
        """The number of `rows`, and how many became messages of each topic or were left out for each reason."""
        ...

    def messages(self) -> Iterator[ReplayMessage]:
        """The messages, items first, then the events in the order of time."""
        ...

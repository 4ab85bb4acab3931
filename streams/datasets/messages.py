"""What a replay consists of: the messages to send, and an account of the input's rows.

Knows neither files nor Kafka.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from encoders.errors import AfterclickError


class ReplayMessage(NamedTuple):
    """A message to be sent.

    Attributes
    ----------
    topic : str
        Without the prefix.
    key : bytes
    value : bytes or None
        None deletes an item.
    time_ms : int or None
        The event's time, milliseconds since the epoch; None for an item without one.
    """

    topic: str
    key: bytes
    value: bytes | None
    time_ms: int | None


class InputError(AfterclickError):
    """The input is wrong; the message says which input, what it holds and what is expected."""


@dataclass
class Account:
    """What became of the rows of an input.

    Attributes
    ----------
    rows : int
        Rows read, each of which became messages, or is counted below once.
    left_out : Counter
        Rows by the reason that leaves them out.
    first : dict of str to str
        Reason -> where the first such row is and what is wrong with it. Reasons that a data set expects have none.
    others : int
        Rows that are for none of the topics.
    superseded_items : int
        Rows of an item of which a later row is sent, or an earlier one with the same content.
    first_other : str
        Where the first of them is, and why it is for none.
    """

    rows: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    others: int = 0
    first_other: str = ""
    superseded_items: int = 0

    def leave_out(self, reason: str, first: str) -> None:
        """Count a row; `first` says where it is and what is wrong with it."""
        self.left_out[reason] += 1
        self.first.setdefault(reason, first)

    def leave_to_others(self, first: str) -> None:
        """Count a row that is for none of the topics; `first` says where it is and why."""
        self.others += 1
        self.first_other = self.first_other or first


class Replay(Protocol):
    """Messages to send, and what became of the input's rows."""

    @property
    def topics(self) -> Sequence[str]:
        """The topics that messages may go to."""
        ...

    @property
    def account(self) -> Account:
        """What became of the rows that have been read so far."""
        ...

    def messages(self) -> Iterator[ReplayMessage]:
        """The messages, items first, then the events."""
        ...

    def progress(self, taken: int) -> tuple[int, int]:
        """How much is done after so many messages, and how much there is, in the same unit."""
        ...

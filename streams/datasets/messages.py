"""What a replay is made of: the messages to send and the account of the input's rows.

Knows neither files nor Kafka; the readers (`online_retail`, `jsonl`) make it, `replay` sends
it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from encoders.errors import AfterclickError

Message = tuple[str, bytes | None, bytes, int | None]
"""Topic (without the prefix), key, value, and the event's time in ms if it has a believable one."""

Progress = Callable[[int, int], None]
"""Called now and then with how much is done and how much there is, in the same unit."""


class InputError(AfterclickError):
    """The input is not what it should be; the message says which, what was found and what is expected."""


class Replay(Protocol):
    """Messages to send, items first, and what became of the input's rows.

    `sizes` is the number of messages by topic; `counts` holds `rows` and a partition of them, by topic or by
    the reason that leaves a row out.
    """

    @property
    def sizes(self) -> dict[str, int]: ...
    @property
    def counts(self) -> dict[str, int]: ...
    def messages(self) -> Iterator[Message]: ...

"""How far a partition of the topic `dead-letters` was retried, where a retry may leave letters out. Knows no Kafka.

The position is the first letter that was left out. Letters behind it that are done are kept as ranges of offsets. Kafka
stores both: the committed offset, and the text that goes with it.
"""

from __future__ import annotations

LARGEST_TEXT = 4_000
"""In bytes. Kafka takes 4,096 (`offset.metadata.max.bytes`)."""


class RetryPosition:
    """How far one partition was retried. Each letter is noted once, in the order of offsets.

    Parameters
    ----------
    offset : int
        All letters before it are done.
    text : str
        What `text` was when the offset was committed.

    Attributes
    ----------
    offset : int
        As the parameter, now.

    Examples
    --------
    >>> position = RetryPosition(3)
    >>> for offset in range(3, 10): position.note(offset, is_done=offset not in (5, 8))
    >>> position.offset, position.text
    (5, '6-7,9-9')
    >>> later = RetryPosition(5, '6-7,9-9')
    >>> [offset for offset in range(5, 11) if not later.was_done(offset)]
    [5, 8, 10]
    """

    def __init__(self, offset: int, text: str = "") -> None:
        self.offset = offset
        self._before = [_range(part) for part in text.split(",") if part]
        self._behind: list[tuple[int, int]] = []
        self._any_left = self._previous_left = False
        self._noted = offset - 1

    def was_done(self, offset: int) -> bool:
        """Whether an earlier call was done with the letter."""
        return offset < self.offset or any(first <= offset <= last for first, last in self._before)

    def note(self, offset: int, is_done: bool) -> None:
        """Note whether the letter at this offset is done now, or left out."""
        self._noted = offset
        if not is_done:
            self.offset = self.offset if self._any_left else offset
            self._any_left = self._previous_left = True
            return
        if not self._any_left:
            self.offset = offset + 1
        elif self._previous_left or not self._behind:
            self._behind.append((offset, offset))
        else:
            self._behind[-1] = (self._behind[-1][0], offset)
        self._previous_left = False

    @property
    def text(self) -> str:
        """The ranges behind the offset. A call that did not read all of them keeps those of before."""
        begin = self._noted + 1
        unread = [(max(first, begin), last) for first, last in self._before if last >= begin]
        return ",".join(f"{first}-{last}" for first, last in [*self._behind, *unread])


def _range(part: str) -> tuple[int, int]:
    first, _, last = part.partition("-")
    return int(first), int(last)

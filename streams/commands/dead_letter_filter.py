"""Which dead letters a command is about, and what they have in common. Knows no Kafka."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone

import msgspec

from streams.contracts import DeadLetter
from streams.datasets.messages import InputError

UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


class StoredDeadLetter(msgspec.Struct, frozen=True):
    """A dead letter, and where it is stored.

    Attributes
    ----------
    partition, offset : int
        Where the letter is in the topic `dead-letters`. Those of the rejected message are in `letter`.
    stored_at : int
        When it was written, in milliseconds since the epoch, UTC.
    letter : DeadLetter
        The rejected message and the reason.
    """

    partition: int
    offset: int
    stored_at: int
    letter: DeadLetter


@dataclass(frozen=True)
class LetterFilter:
    """Which letters are meant. What is None restricts nothing.

    Attributes
    ----------
    topic : str or None
        Of the rejected message.
    reason : str or None
        A part of the error, or of the cause; capitals count as small letters.
    since_ms : int or None
        Written at this time or later, in milliseconds since the epoch.
    """

    topic: str | None = None
    reason: str | None = None
    since_ms: int | None = None

    def fits(self, stored: StoredDeadLetter) -> bool:
        """Whether the letter is meant."""
        letter = stored.letter
        words = f"{letter.cause}\n{letter.error}".casefold()
        return (
            self.topic in (None, letter.topic)
            and (self.reason is None or self.reason.casefold() in words)
            and (self.since_ms is None or stored.stored_at >= self.since_ms)
        )


EVERY = LetterFilter()


@dataclass
class LetterGroup:
    """Letters of one topic and one cause.

    Attributes
    ----------
    topic, cause : str
    count, first_ms, last_ms : int
        How many there are, and when the first and the last one were written.
    reason : str
        The error of the last one.
    """

    topic: str
    cause: str
    count: int
    first_ms: int
    last_ms: int
    reason: str


class LetterGroups:
    """Letters, grouped by topic and cause. A letter without a cause is grouped by its error."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str], LetterGroup] = {}

    def add(self, letters: Iterable[StoredDeadLetter]) -> None:
        """Count letters."""
        for stored in letters:
            letter, at_ms = stored.letter, stored.stored_at
            key = letter.topic, letter.cause or letter.error
            if (group := self._groups.get(key)) is None:
                self._groups[key] = LetterGroup(*key, 1, at_ms, at_ms, letter.error)
                continue
            group.count += 1
            group.first_ms = min(group.first_ms, at_ms)
            if at_ms >= group.last_ms:
                group.last_ms, group.reason = at_ms, letter.error

    def all(self) -> list[LetterGroup]:
        """The groups, the largest first."""
        return sorted(self._groups.values(), key=lambda group: (-group.count, group.topic, group.cause))


def since_ms(text: str, now_ms: int) -> int:
    """Read `--since`: how long ago (`90s`, `30m`, `2h`, `7d`), or a day or a time, in UTC if it names no zone.

    Raises
    ------
    InputError
        The text is neither.

    Examples
    --------
    >>> since_ms("2h", 7_200_000), since_ms("1970-01-02", 0), since_ms("1970-01-01T01:00:00+01:00", 0)
    (0, 86400000, 0)
    """
    if ago := re.fullmatch(r"(\d{1,6})([smhd])", text.strip()):
        return now_ms - int(ago[1]) * UNITS_S[ago[2]] * 1000
    try:
        at = datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text.strip()))
    except ValueError:
        raise InputError(
            f"--since: got {text!r}, expected how long ago (30m, 2h, 7d) or a time (2026-11-01, 2026-11-01T08:00Z)"
        ) from None
    return round((at if at.tzinfo else at.replace(tzinfo=timezone.utc)).timestamp() * 1000)

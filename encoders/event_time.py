"""Event time: integer milliseconds since the epoch, and ages in words. Reads no clock: the caller gives the time."""

from __future__ import annotations

from datetime import datetime

_STEPS = (("year", 31_536_000_000), ("month", 2_592_000_000), ("day", 86_400_000))
_JUST_NOW_MS = 600_000


def milliseconds(timestamp: datetime | int) -> int:
    """Convert a message's time to integer milliseconds since the epoch.

    >>> from datetime import timezone
    >>> milliseconds(datetime(1970, 1, 1, 0, 0, 1, 500_000, tzinfo=timezone.utc))
    1500
    """
    return timestamp if isinstance(timestamp, int) else round(timestamp.timestamp() * 1000)


def ago(age_ms: int) -> str:
    """Return an age in words, in its largest unit, at least days.

    The steps are coarse, so that a history reads the same from one event to the next and a model's cached results stay
    valid. 10 minutes separate the current activity from what came before; chosen by us.

    >>> ago(599_999), ago(600_000), ago(86_399_999)
    ('just now', 'today', 'today')
    >>> ago(86_400_000), ago(2 * 86_400_000 + 5), ago(40 * 86_400_000), ago(800 * 86_400_000)
    ('1 day ago', '2 days ago', '1 month ago', '2 years ago')
    """
    for unit, length_ms in _STEPS:
        count = age_ms // length_ms
        if count >= 1:
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now" if age_ms < _JUST_NOW_MS else "today"

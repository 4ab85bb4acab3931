"""Event time: integer milliseconds since the epoch, and ages in words. Knows no wall clock: callers say what "now" is."""

from __future__ import annotations

from datetime import datetime

_STEPS = (("year", 31_536_000_000), ("month", 2_592_000_000), ("day", 86_400_000), ("hour", 3_600_000), ("minute", 60_000))


def milliseconds(timestamp: datetime | int) -> int:
    """Convert a message's time to integer milliseconds since the epoch.

    >>> from datetime import timezone
    >>> milliseconds(datetime(1970, 1, 1, 0, 0, 1, 500_000, tzinfo=timezone.utc))
    1500
    """
    return timestamp if isinstance(timestamp, int) else round(timestamp.timestamp() * 1000)


def ago(age_ms: int) -> str:
    """Say how long ago something was, in its largest unit.

    >>> ago(2 * 86_400_000 + 5), ago(3_600_000), ago(20_000)
    ('2 days ago', '1 hour ago', 'just now')
    """
    for unit, length_ms in _STEPS:
        count = age_ms // length_ms
        if count >= 1:
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"

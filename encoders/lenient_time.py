"""Times in other forms than RFC 3339 or integer milliseconds, each of which can mean one moment only.

Milliseconds as text or as a float; `2026-11-22 18:00:00 UTC` (BigQuery); an offset without colon or minutes; no
seconds; `[Europe/Berlin]` behind the offset (Java); and, with a zone from the caller, no offset at all. Seconds and
microseconds since the epoch are read as milliseconds: the caller decides whether such a number can be a time.
"""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta, timezone, tzinfo

_NUMBER = re.compile(r"[0-9]{1,19}(\.[0-9]{1,9})?")
_TEXT = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2})(:[0-9]{2})?(?:[.,]([0-9]{1,9}))? ?"
    r"(?:(Z|z|UTC|GMT)|([+-])([0-9]{2})(?::?([0-9]{2}))?)?(?:\[[\w/+-]+\])?"
)
_EXACT = 2.0**53


def lenient_time(value: object, zone: tzinfo | None = None) -> datetime | int | None:
    """Read a time in one of the forms above.

    Parameters
    ----------
    value : object
    zone : tzinfo, optional
        The zone of a time without one. A local time that a clock change skips is read with the offset before the
        change; of a local time that occurs twice, the first is meant (`fold=0`).

    Returns
    -------
    datetime or int or None
        A moment with an offset, or milliseconds since the epoch; None for any other value.

    >>> lenient_time("1795566875471"), lenient_time(1795566875471.5), lenient_time(1.795e12)
    (1795566875471, 1795566875472, 1795000000000)
    >>> lenient_time("2026-11-22 18:00:00.5 UTC").isoformat()
    '2026-11-22T18:00:00.500000+00:00'
    >>> lenient_time("2026-11-22T18:00:00") is None
    True
    """
    if isinstance(value, float):
        return _rounded(value)
    if not isinstance(value, str):
        return None
    text = value.strip()
    if _NUMBER.fullmatch(text):
        return int(text) if text.isdecimal() else _rounded(float(text))
    return _moment(text, zone)


def _rounded(value: float) -> int | None:
    return round(value) if math.isfinite(value) and abs(value) < _EXACT else None


def _moment(text: str, zone: tzinfo | None) -> datetime | None:
    parts = _TEXT.fullmatch(text)
    if parts is None:
        return None
    day, minute, second, fraction, utc, sign, hours, minutes = parts.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{minute}{second or ':00'}")
        offset: tzinfo | None = timezone.utc if utc else zone
        if sign:
            ahead = timedelta(hours=int(hours), minutes=int(minutes or 0))
            offset = timezone(ahead if sign == "+" else -ahead)
        if offset is None:
            return None
        micros = int((fraction or "0").ljust(6, "0")[:6])
        return moment.replace(microsecond=micros, tzinfo=offset).astimezone(timezone.utc)
    except (ValueError, OverflowError):
        return None

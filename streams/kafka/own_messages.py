"""Headers by which our workers recognise their own messages, in topics that other programs write to as well.

A worker need not check two things in such a message: that its user may be `*`, and that its time is bounded. The
headers are no proof, because who may write to a topic may write any header. They guard against mistakes, such as an
upstream recommender that passes on a user id of `*`. A program that must not make lists must not have the right to
write to `rank-requests` and `routed-events`; README, Security, says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ORIGIN = "origin"
"""In a routed event: the topic that it came from. In a rank request: that our state tier wrote it."""
WRITTEN = "written"
"""In a routed event: when its record in that topic was written, after the checks of `record_time` (milliseconds)."""
OUR_REQUEST = {ORIGIN: b"state-tier"}


def routed_headers(topic: str, written_ms: int) -> dict[str, bytes]:
    """Return the headers of an event that is sent on to its user's own partition."""
    return {ORIGIN: topic.encode(), WRITTEN: str(written_ms).encode()}


def origin(headers: Any) -> str:
    """Return the topic that a routed event came from; "" without that header."""
    return _of(headers).get(ORIGIN, b"").decode(errors="replace")


def written_ms(headers: Any) -> int | None:
    """Return when a routed event was first written (milliseconds); None without that header."""
    text = _of(headers).get(WRITTEN, b"")
    return int(text) if text.isdigit() and len(text) < 16 else None


def is_our_request(headers: Any) -> bool:
    """Return whether our state tier wrote a rank request."""
    return _of(headers).get(ORIGIN) == OUR_REQUEST[ORIGIN]


def _of(headers: Any) -> Mapping[str, bytes]:
    """Return Kafka's headers as a mapping. Faust and aiokafka give pairs, a mapping or None."""
    return {name: value for name, value in dict(headers or {}).items() if isinstance(value, bytes)}

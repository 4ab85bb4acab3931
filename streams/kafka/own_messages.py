"""Headers by which our workers know their own messages, in topics that others write to as well.

They say what a worker may take for granted: that a request's user may be `*`, that its time was bounded already. They
are no proof: whoever may write to a topic may write any header. They guard against mistakes, such as an upstream
recommender that hands on a user id of `*`. Who must not make lists, for one user or for everybody, must not have the
right to write to `rank-requests` and `routed-events`; README, Security, says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ORIGIN = "origin"
"""Of a routed event: the topic that it came from. Of a rank request: that our state tier wrote it."""
WRITTEN = "written"
"""Of a routed event: when its record in that topic was written, as far as that was believed (milliseconds)."""
OUR_REQUEST = {ORIGIN: b"state-tier"}


def routed_headers(topic: str, written_ms: int) -> dict[str, bytes]:
    """For an event that goes to its user's own partition."""
    return {ORIGIN: topic.encode(), WRITTEN: str(written_ms).encode()}


def origin(headers: Any) -> str:
    """The topic that a routed event came from; an empty text without that header."""
    return _of(headers).get(ORIGIN, b"").decode(errors="replace")


def written_ms(headers: Any) -> int | None:
    """When a routed event was written first; None without that header."""
    text = _of(headers).get(WRITTEN, b"")
    return int(text) if text.isdigit() and len(text) < 16 else None


def is_our_request(headers: Any) -> bool:
    """Whether our state tier wrote a rank request."""
    return _of(headers).get(ORIGIN) == OUR_REQUEST[ORIGIN]


def _of(headers: Any) -> Mapping[str, bytes]:
    """Kafka's headers as Faust and aiokafka give them: pairs, or a mapping, or None."""
    return {name: value for name, value in dict(headers or {}).items() if isinstance(value, bytes)}

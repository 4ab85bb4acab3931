"""Headers by which our workers recognise their own messages, in topics that other programs write to as well.

A worker need not check two things in such a message: that its user may be `*`, and that its time is bounded. The
headers are no proof, because who may write to a topic may write any header. They guard against mistakes, such as an
upstream recommender that passes on a user id of `*`. A program that must not make lists must not have the right to
write to `rank-requests` and `routed-events`; README, Security, says so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

ORIGIN = "origin"
"""In a routed event: the topic that it came from. In a rank request: that our state tier wrote it."""
WRITTEN = "written"
"""In a routed event: when its record in that topic was written, after the checks of `record_time` (milliseconds). In a
list that is published again: when it was first written."""
RETRIED = "retried"
"""In a record that `dead-letters retry` sent to a topic of the team: partition and offset of the rejected record."""
USER = "user"
"""In a routed event: the user whose state it changes, where that is another one than it names. They were merged."""
RETURNED = "returned"
"""In a routed event: the user that it was sent to does not know the user that it names."""
TOLD = "told"
"""In a routed request to forget a user: it comes from the user into whom this one was merged."""
OUR_REQUEST = {ORIGIN: b"state-tier"}
AGAIN = "again"
"""In a rank request of our state tier: the user has this state's list already, made without the model."""
LATER = "later"
"""In a rank request of our state tier: nobody waits for the list, because the user's events are old."""
TO_COMPLETE = "incomplete-request"
"""The origin of a routed event that is a rank request without features. It is no topic's name, so a state worker of an
older version rejects the event."""
TO_MAKE_ANEW = "request-anew"
"""The origin of a routed event that asks for a user's rank request once more. It is a rank request without candidates,
and no topic's name either."""

OF_MERGE = "of-merge"
"""The origin of a routed event by which workers merge a visitor into a user, see `streams.state.transfer`."""


def routed_headers(topic: str, written_ms: int, user_id: str | None = None) -> dict[str, bytes]:
    """Return the headers of an event that is sent on: to its user's own partition, or to another user's."""
    user = {} if user_id is None else {USER: user_id.encode()}
    return {ORIGIN: topic.encode(), WRITTEN: str(written_ms).encode(), **user}


def republished_headers(written_ms: int) -> dict[str, bytes]:
    """Return the headers of a list that is published again: it expires as if it were not."""
    return {WRITTEN: str(written_ms).encode()}


def origin(headers: Any) -> str:
    """Return the topic that a routed event came from; "" without that header."""
    return _of(headers).get(ORIGIN, b"").decode(errors="replace")


def addressed_to(headers: Any) -> str | None:
    """Return the user whose state a routed event changes; None without that header."""
    user_id = _of(headers).get(USER, b"").decode(errors="replace")
    return user_id or None


def is_returned(headers: Any) -> bool:
    """Return whether a routed event came back."""
    return RETURNED in _of(headers)


def is_told(headers: Any) -> bool:
    """Return whether a routed request to forget a user comes from the user into whom this one was merged."""
    return TOLD in _of(headers)


def written_ms(headers: Any) -> int | None:
    """Return when a routed event or a list was first written (milliseconds); None without that header."""
    text = _of(headers).get(WRITTEN, b"")
    return int(text) if text.isdigit() and len(text) < 16 else None


def retried_headers(partition: int, offset: int) -> dict[str, bytes]:
    """Return the headers of a rejected record that is sent again."""
    return {RETRIED: f"{partition}/{offset}".encode()}


def retried(headers: Any) -> tuple[int, int] | None:
    """Return partition and offset of the record that was rejected; None without that header."""
    match = re.fullmatch(rb"([0-9]{1,9})/([0-9]{1,18})", _of(headers).get(RETRIED, b""))
    return match and (int(match[1]), int(match[2]))


def is_our_request(headers: Any) -> bool:
    """Return whether our state tier wrote a rank request."""
    return _of(headers).get(ORIGIN) == OUR_REQUEST[ORIGIN]


def is_again(headers: Any) -> bool:
    """Return whether a rank request of our state tier is for a list that is to be ranked again."""
    return AGAIN in _of(headers)


def is_later(headers: Any) -> bool:
    """Return whether nobody waits for the list of a rank request of our state tier."""
    return LATER in _of(headers)


def _of(headers: Any) -> Mapping[str, bytes]:
    """Return Kafka's headers as a mapping. Faust and aiokafka give pairs, a mapping or None."""
    return {name: value for name, value in dict(headers or {}).items() if isinstance(value, bytes)}

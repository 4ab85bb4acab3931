"""Of step 2: an impression says what a user was shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from encoders.event_time import milliseconds
from encoders.events.shown_lists import ANSWER_MS, SeenList, newest, of_the_visit, read, seen_list, written
from encoders.interest import Decay
from encoders.signals.satisfaction import of_shown
from streams.contracts import Impression
from streams.state import signal_metrics
from streams.state.user_record import UserRecord
from streams.state.users import Users


def note_shown(
    users: Users, user_id: str, impressions: Sequence[Impression], decay: Decay
) -> list[Literal["accepted", "forgotten"]]:
    """Note what a user was shown, under the user's own id or that of a merged visitor; for each, what became of it."""
    until_ms = users.forgotten_until(user_id)
    outcomes: list[Literal["accepted", "forgotten"]] = []
    lists: list[SeenList] = []
    for one in impressions:
        time_ms = milliseconds(one.timestamp)
        outcomes.append("forgotten" if time_ms <= until_ms else "accepted")
        if time_ms > until_ms and one.items:
            lists.append(seen_list(one.user_id, one.event_id, one.items, time_ms))
    if lists:
        record = users.get(user_id)
        before = read(record.shown)
        after = newest([*before, *lists])
        for concluded in _concluded(before, after[-1]):
            signal_metrics.list_satisfaction.observe(of_shown(concluded, record.interest.history, decay))
        users.put(user_id, shown=written(after))
    return outcomes


def _concluded(before: Sequence[SeenList], last: SeenList) -> Iterator[SeenList]:
    """The lists that no event can answer any more, and that one could have answered until now."""
    answer_s = ANSWER_MS // 1000
    for one in before:
        if before[-1].second - answer_s <= one.second < last.second - answer_s:
            yield one


def shown_to(record: UserRecord, visit_ms: float) -> frozenset[int]:
    """Return the hashes of the items that the user was shown in the visit of the newest event."""
    return of_the_visit(read(record.shown), record.interest.as_of_ms, visit_ms) if visit_ms else frozenset()

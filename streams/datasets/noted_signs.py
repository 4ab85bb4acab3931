"""Notes lists that were shown and wishes of recorded messages as signs of a log. Knows no file format."""

from __future__ import annotations

import sys
from datetime import timezone

from encoders.event_time import milliseconds
from encoders.events.shown_lists import seen_list
from ranker.evaluation.impressions import ShownList
from ranker.evaluation.signs import SaidWish, Sign
from ranker.wishes.patterns import parse
from streams.contracts import Impression, Preference
from streams.datasets.file_messages import FileMessages


def note_shown(shown: Impression, lists: list[ShownList], signs: set[Sign]) -> None:
    """Note a list that was shown, for evaluation and as a state keeps it."""
    lists.append(_shown_list(shown))
    time_ms = milliseconds(shown.timestamp)
    signs.add(Sign(time_ms, shown.user_id, shown=seen_list(shown.user_id, shown.event_id, shown.items, time_ms)))


def note_wish(message: Preference, signs: set[Sign], files: FileMessages) -> None:
    """Note what a user wishes, or account for a wish that the patterns do not understand."""
    time_ms = milliseconds(message.timestamp)
    if message.text is not None and isinstance(answer := parse(message.text, time_ms, timezone.utc), str):
        files.account.leave_out("preferences: not understood", answer)
        return
    expires_ms = None if message.expires_at is None else milliseconds(message.expires_at)
    signs.add(Sign(time_ms, message.user_id, wish=SaidWish(message.event_id, message.text, expires_ms, message.revoke)))


def _shown_list(shown: Impression) -> ShownList:
    """A shown list; all that name the same item or user share its id."""
    items, propensities = tuple(map(sys.intern, shown.items)), shown.propensities or ()
    return ShownList(
        shown.list_id, sys.intern(shown.user_id), items, milliseconds(shown.timestamp), tuple(propensities)
    )

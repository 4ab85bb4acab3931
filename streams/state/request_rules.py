"""What the team's rules need of step 3: candidates that may be in the list, and the context that rules refer to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from math import ceil

from encoders.describe import context_words
from encoders.event_time import milliseconds
from encoders.events.shown_lists import HASH_MASK
from ranker.recall.candidates import RecalledCandidate
from ranker.recall.user_view import UserView
from ranker.rules.conditions import in_words, shortened
from ranker.rules.effects import MAX_MOVED
from ranker.rules.item_table import ItemTable
from streams.contracts import LANGUAGE_KEY, Click, Search
from streams.state.request_wishes import RequestWishes
from streams.state.shown_items import unseen_first
from streams.state.user_record import UserRecord

MOST, SPARE = 16, 1.2
"""The largest multiple of the wanted number that is recalled in its place, and by how much more than the share that is
left asks for; chosen by us."""


def recall_under(
    rules: ItemTable,
    shopper: UserView,
    shown: Collection[int],
    wishes: RequestWishes,
    find: Callable[[int], list[RecalledCandidate]],
    limit: int,
) -> list[RecalledCandidate]:
    """Recall more candidates in place of those that rules or wishes exclude, and of those that the user was shown.

    Parameters
    ----------
    rules : ItemTable
    shopper : UserView
        The user.
    shown : collection of int
        Hashes of items, see `encoders.events.shown_lists`.
    wishes : RequestWishes
        Of the user.
    find : callable
        Recalls up to so many candidates, best first.
    limit : int

    Returns
    -------
    list of RecalledCandidate
        At most `limit`, best first: those that were shown come last. The best of those that are excluded follow, so
        that the list can name them.
    """
    catalogue, unclicked = shopper.catalogue, shopper.unclicked
    applying = rules.applying(in_words(shopper.context), shopper.state.as_of_ms, rules.excluding)
    if not (applying.rules or shown or wishes.are_hard):
        return find(limit)

    def is_excluded(candidate: RecalledCandidate) -> bool:
        item = catalogue.at(candidate.row)
        if wishes.hide(item):
            return True
        times = unclicked.get(int(catalogue.keys[candidate.row]) & HASH_MASK, 0) if unclicked else 0
        return any(True for _ in rules.about(rules.facts(item.item_id, item.categories), applying, times))

    factor = 1
    while True:
        found = find(limit * factor)
        excluded = [one for one in found if (applying.rules or wishes.are_hard) and is_excluded(one)]
        rows = {one.row for one in excluded}
        unseen, seen = unseen_first([one for one in found if one.row not in rows], catalogue, shown)
        if len(unseen) >= limit or len(found) < limit * factor or factor == MOST:
            break
        factor = min(MOST, max(factor + 1, ceil(SPARE * factor * limit / max(1, len(unseen)))))
    return [*unseen, *seen][:limit] + excluded[:MAX_MOVED]


def context_of(
    rules: ItemTable, events: Sequence[Click | Search], outcomes: Sequence[str], record: UserRecord
) -> dict[str, str] | None:
    """Return the newest value of each key of a context that rules or reasons read; None if the events change none.

    A user's record keeps them: an event may lack a key, and a list may have to be made again without an event.
    """
    keys = {*rules.context_keys, LANGUAGE_KEY}
    changed, as_of_ms = dict[str, str](), record.interest.as_of_ms
    for event, outcome in zip(events, outcomes, strict=True):
        if outcome == "accepted" and event.context and (time_ms := milliseconds(event.timestamp)) >= as_of_ms:
            changed |= context_words(event.context)
            as_of_ms = time_ms
    kept = shortened({**record.context, **changed}, keys) if changed else {}
    return kept if kept.keys() & changed.keys() else None

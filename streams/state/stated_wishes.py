"""Of step 2: a user states a wish, or takes one back. It counts as an event, once, and says nothing about items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from encoders.event_time import milliseconds
from encoders.events.entries import Event, SearchQuery, query_key
from encoders.events.searches import searches_of
from encoders.interest import Decay, Vector, passed
from streams import metrics
from streams.contracts import Preference
from streams.state import wish_metrics
from streams.state.event_memory import seen_preference
from streams.state.kept_wishes import MAX_TEXT, KeptWish, UserWishes
from streams.state.users import Users
from streams.state.wish_reader import ReadWish


def note_wish(
    users: Users, user_id: str, message: Preference, read: ReadWish, vectors: Mapping[str, Vector], decay: Decay
) -> Literal["accepted", "duplicate", "forgotten"]:
    """Keep a wish of a user, or revoke one; once, as `StateTier.accept` does with events.

    Parameters
    ----------
    users : Users
    user_id : str
        The user: the one whom the message names, or the one into whom that one was merged.
    message : Preference
    read : ReadWish
        What was understood of it.
    vectors : mapping of str to (dim,) float32
        Of the texts in `read.sought`.
    decay : Decay
    """
    made_ms, memory = milliseconds(message.timestamp), users.memory(user_id)
    if made_ms <= users.forgotten_until(user_id):
        return "forgotten"
    interest, seen = users.get(user_id).interest, seen_preference(message.user_id, message.event_id, made_ms)
    if (novelty := memory.look_up(seen)) != "new":
        metrics.duplicates_presumed.inc(novelty == "too-old")
        users.accept(user_id, memory, interest, made_ms)
        return "duplicate"
    memory.add(seen)
    if message.revoke is not None:
        is_known = any(kept.wish_id == message.revoke for kept in users.wishes.of(user_id).kept)
        wish_metrics.revoked.labels("known" if is_known else "unknown").inc()
        users.wishes.add(user_id, UserWishes(revoked={message.revoke: made_ms}))
    else:
        wish_metrics.read.labels(read.parser, "understood" if read.wish else "not-understood").inc()
        events = [Event(query_key(words), made_ms, "search", query=SearchQuery(words)) for words in read.sought]
        sought = tuple(searches_of(events, [vectors[words] for words in read.sought]))
        text = (message.text or "")[:MAX_TEXT]
        kept = KeptWish(made_ms, seen.id, message.event_id, text, read.wish, read.answer, sought)
        users.wishes.add(user_id, UserWishes((kept,)))
    users.accept(user_id, memory, passed(interest, made_ms, decay), made_ms)
    return "accepted"

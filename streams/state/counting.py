"""Of step 2: count accepted events in co-visits and trends, each with the history that it came upon."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress

from encoders.events.entries import Entries, Event, entries_of, in_order, newest
from encoders.interest import Decay
from ranker.recall.counts import Counts
from ranker.recall.event_runs import EarlierEvents


def count(
    counts: Counts, decay: Decay, events: Sequence[Event], before: Sequence[EarlierEvents], history: Entries
) -> None:
    """Count the events: together if they are newer than the history and in order of time, else one by one.

    One by one, each event is counted with the history that it came upon. An event that is no sign of interest adds
    nothing, and no event is paired with it.
    """
    liked = decay.likes(history)
    history = history if liked.all() else history[liked]
    entries = entries_of(events)
    if not (liked := decay.likes(entries)).all():
        events = list(compress(events, liked))
        before, entries = list(compress(before, liked)), entries[liked]
    if in_order(history, entries):
        counts.observe(events, history["item"].tolist(), before)
        return
    for index, event in enumerate(events):
        counts.observe([event], history["item"].tolist(), before[index : index + 1])
        history = newest(history, entries[index : index + 1], decay.history)

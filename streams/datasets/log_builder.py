"""A log of events from users' messages, as a state keeps them: each once, and what is no case as a sign.

Knows no file and no catalogue.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Mapping

import msgspec
import numpy as np

from encoders.describe import context_words
from encoders.events.entries import Event
from encoders.events.types import DEFAULT_WEIGHTS
from encoders.interest import Decay
from encoders.text.sentiment import Sentiment
from ranker.evaluation.interactions import Columns, Interaction, Interactions
from ranker.evaluation.signs import Sign
from streams.contracts import Click, Purchase, Search
from streams.receive.user_events import USUAL, Dwell, event_of


class LogBuilder:
    """Takes messages one after the other, and gives the log that they make.

    Memory: about 60 bytes an event, and the ids of users, items and baskets, each once.

    Parameters
    ----------
    weights : mapping of str to float
        Of the types of events. An event that weighs nothing or less is a sign, as a search is, and no case.
    sentiment : callable, optional
        Judges the texts that users write about items.
    dwell : Dwell
        What the duration of a look says.

    Attributes
    ----------
    signs : set of Sign
        Of the users so far; others may be added.
    """

    def __init__(
        self,
        weights: Mapping[str, float] = DEFAULT_WEIGHTS,
        sentiment: Sentiment | None = None,
        dwell: Dwell = USUAL,
    ) -> None:
        self._decay, self._sentiment, self._dwell = Decay(weights=weights), sentiment, dwell
        self._columns, self._identities, self._returned = Columns(), array("Q"), array("Q")
        self._contexts: dict[tuple[str, int], dict[str, str]] = {}
        self.signs: set[Sign] = set()

    def take(self, topic: str, message: Click | Search) -> None:
        """Take a message of a topic."""
        happened = event_of(message, self._decay.weights, self._sentiment, self._dwell)
        if message.context:
            self._contexts[message.user_id, happened.time_ms] = context_words(message.context)
        if isinstance(message, Search) or self._decay.weight(happened) <= 0:
            self.signs.add(Sign(happened.time_ms, message.user_id, happened))
            if isinstance(message, Purchase) and message.takes_back is not None:
                taken_back = msgspec.structs.replace(message, event_id=message.takes_back)
                self._returned.append(_identity(topic, taken_back))
            return
        self._identities.append(_identity(topic, message))
        self._columns.append(*interaction(message, happened))

    def log(self) -> tuple[Interactions, Counter[str]]:
        """The log without events that came before, and without purchases that were returned.

        Returns it, and how many were left out, by their topic.
        """
        events = self._columns.interactions()
        events.contexts, events.signs = self._contexts, sorted(self.signs, key=lambda sign: sign.order)
        ids = np.array(self._identities, np.uint64)
        first = np.sort(np.unique(ids, return_index=True)[1])
        repeated = np.delete(events.is_purchase, first)
        kept = first[~np.isin(ids[first], np.array(self._returned, np.uint64))]
        left_out = {
            "clicks: repeated": int((~repeated).sum()),
            "purchases: repeated": int(repeated.sum()),
            "purchases: returned": len(first) - len(kept),
        }
        return events[kept], +Counter(left_out)


def interaction(event: Click, happened: Event) -> Interaction:
    """Return what a log keeps of a message, and of what it says about the user's interest."""
    return Interaction(
        user=event.user_id,
        item=event.item_id,
        time_ms=happened.time_ms,
        kind=happened.type,
        basket=event.session_id,
        list_id=event.list_id,
        strength=happened.strength,
    )


def _identity(topic: str, event: Click) -> int:
    """A hash: two of 10,000,000 events share it with probability 3e-6."""
    text = "\0".join((topic, event.user_id, event.event_id, event.item_id))
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")

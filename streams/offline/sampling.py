"""Which users and cases of a large log a training reads: some, drawn by a seed. Knows no step of the pipeline."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence

import numpy as np

from ranker.evaluation.interactions import Indices, Interactions
from ranker.evaluation.protocols import Case

EVENTS_PER_QUERY_GROUP = 50
"""Chosen by us: 20,000 query groups are drawn from the cases of users with 1,000,000 events."""
MOST_EVENTS = 10_000
"""Of a person, chosen by us: the busiest customer of Online Retail, a wholesaler, has 8,000 lines in a year."""


def of_some_users(log: Interactions, events: int, seed: int) -> Indices:
    """Indices of all events of some users, ascending: of all users if they have no more than so many events.

    Parameters
    ----------
    log : Interactions
    events : int
        Later events: each user's first event is not counted, for no query group is about it.
    seed : int
        With the user's id, it decides who is drawn: users with the lowest hashes are.

    Notes
    -----
    Nobody with more than `MOST_EVENTS` events is drawn: that is a machine.
    """
    counts = np.bincount(log.user, minlength=len(log.names.users))
    texts = (f"{seed} {user}" for user in log.names.users)
    hashes = b"".join(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest() for text in texts)
    later = np.where(counts <= MOST_EVENTS, np.maximum(counts - 1, 0), 0)
    order = np.argsort(np.frombuffer(hashes, "<u8"), kind="stable")
    drawn = np.zeros(len(counts), bool)
    drawn[order[: np.searchsorted(np.cumsum(later[order]), events) + 1]] = True
    return np.flatnonzero((drawn & (counts <= MOST_EVENTS))[log.user])


def drawn(cases: Sequence[Case], limit: int, seed: int) -> list[Case]:
    """Return at most `limit` of the cases, in their order."""
    indices = range(len(cases))
    if len(cases) > limit:
        indices = sorted(random.Random(seed).sample(indices, limit))  # type: ignore[assignment]
    return [cases[index] for index in indices]

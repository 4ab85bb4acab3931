"""The events of a user as a state keeps them: an event, many of them in an array, and the order that they have.

Knows no weights and no vectors.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from encoders.events.types import FULL, PURCHASE, TAKEN_BACK_CODE, code_of

Entries = npt.NDArray[Any]

ENTRY = np.dtype([("time_ms", "<i8"), ("item", "<u8"), ("type", "u1"), ("strength", "i1")])
"""An event in a state; see `Event`. `type` is the code of its type."""


class SearchQuery(NamedTuple):
    """What a user searched for.

    Attributes
    ----------
    text : str
    results : tuple of int
        The keys of the items that the search showed, best first.
    """

    text: str
    results: tuple[int, ...] = ()


@dataclass(frozen=True)
class Event:
    """One accepted event.

    Attributes
    ----------
    item : int
        See `item_key`. Of a search: the key of its text.
    time_ms : int
        Event time, milliseconds since the epoch.
    type : str
        See `encoders.events.types`.
    strength : int
        How much of the type's weight counts: all of it at `FULL`, its opposite at `-FULL`.
    query : SearchQuery, optional
        Of a search.
    dwell : float, optional
        How satisfied the user's look was by its duration, 0 to 1; see `encoders.events.types.satisfied`.
    rating : float, optional
        -1 for the worst, 1 for the best.
    is_bad_review : bool
        Whether the user wrote badly about the item.
    """

    item: int
    time_ms: int
    type: str
    strength: int = FULL
    query: SearchQuery | None = None
    dwell: float | None = None
    rating: float | None = None
    is_bad_review: bool = False


def item_key(item_id: str) -> int:
    """Return the 64-bit key of an item id, so that the size of a state does not depend on the length of ids.

    Two of a million items share a key with probability 3e-8.
    """
    return int.from_bytes(hashlib.blake2b(item_id.encode(), digest_size=8).digest(), "little")


def entries_of(events: Iterable[Event]) -> Entries:
    """Return the events as an array, (n,) `ENTRY`."""
    return np.array([(event.time_ms, event.item, code_of(event.type), event.strength) for event in events], ENTRY)


def are_purchases(entries: Entries) -> npt.NDArray[np.bool_]:
    """Return which entries are purchases, kept or returned, (n,) bool."""
    bought: npt.NDArray[np.bool_] = (entries["type"] == PURCHASE) | (entries["type"] == TAKEN_BACK_CODE)
    return bought


def in_order(entries: Entries, new: Entries) -> bool:
    """Return whether the new entries come after the others and are sorted themselves."""
    recent = [*entries[-1:].tolist(), *new.tolist()]
    return all(earlier <= later for earlier, later in itertools.pairwise(recent))


def newest(entries: Entries, new: Entries, limit: int) -> Entries:
    """Return the newest of both by their fields, sorted; `entries` must be sorted."""
    merged = np.concatenate([entries, new])
    if not in_order(entries, new):
        merged = np.sort(merged, order=ENTRY.names)
    return merged[-limit:]


def query_key(text: str) -> int:
    """Return the key of a search's text, which is no item's."""
    return item_key(f"\0search\0{text}")

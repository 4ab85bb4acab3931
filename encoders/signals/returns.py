"""What a return does to a user's interest state: it takes the effect of the purchase back.

Knows neither where purchases are remembered nor how a return names one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np

from encoders.events.entries import ENTRY, Entries, Event
from encoders.events.types import PURCHASE, TAKEN_BACK_CODE
from encoders.interest import Decay, Interest, Vector, add_to_sums


def take_back(state: Interest, purchase: Event, vector: Vector | None, decay: Decay) -> Interest:
    """Take the effect of a purchase back: as if it had been returned before it arrived.

    Its entries stay in the lists, as `TAKEN_BACK`, so that the lists hold the same events whenever the return arrives.

    Parameters
    ----------
    state : Interest
    purchase : Event
        A purchase that the state has accepted. Its time is exact to a second; an entry that is left tells the rest.
    vector : (dim,) float32, optional
        The item's text vector; None if the item is unknown.
    decay : Decay
    """
    entry = None
    marked: dict[str, Entries] = {}
    for name in ("history", "waiting", "bought"):
        entries = getattr(state, name)
        is_it = (entries["item"] == purchase.item) & (entries["time_ms"] // 1000 == purchase.time_ms // 1000)
        indices = np.flatnonzero(is_it & (entries["type"] == PURCHASE))
        if len(indices):
            entry = entries[indices[0]]
            marked[name] = entries.copy()
            marked[name]["type"][indices[0]] = TAKEN_BACK_CODE
            marked[name].sort(order=ENTRY.names)
    if entry is not None:
        purchase = replace(purchase, time_ms=int(entry["time_ms"]), strength=int(entry["strength"]))
    state = replace(state, **cast(dict[str, Any], marked))
    if vector is None or "waiting" in marked:
        return state
    return add_to_sums(state, replace(purchase, strength=-purchase.strength), vector, decay)

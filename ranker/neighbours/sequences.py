"""The events of users as sequences.

A sequence is split after each of its events p but the last. At a split the past is the row vector `s_p = sum over a <=
p of exp(-(p - a) / past) e(a)` and the future `t_p = sum over b > p of exp(-(b - p - 1) / future) e(b)`, where e(a) is
the unit vector of the item of event a (Choi et al., WWW 2021). W holds the weights of the splits. Knows no matrix.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

LEFT_OUT = -1
"""In place of an item that is not part of the fit. It keeps its position in the sequence."""
DAY_MS = 86_400_000.0


@dataclass(frozen=True)
class Sequences:
    """Events by user, each user's in the order of time.

    Attributes
    ----------
    item : (n,) int64
        0 to `items` - 1, or `LEFT_OUT`.
    position : (n,) int64
        Index of the event within its user's sequence.
    remaining : (n,) int64
        The number of events of the same user that follow.
    weight : (n,) float32
        Of the split after the event.
    is_new : (n,) bool
        Whether the event is the user's first about its item.
    items : int
        Number of items.
    """

    item: Ints
    position: Ints
    remaining: Ints
    weight: Floats
    is_new: npt.NDArray[np.bool_]
    items: int


def sequences(
    user: Ints, item: Ints, time_ms: Ints, items: int, half_life_days: float | None = None, distinct: bool = False
) -> Sequences:
    """Order events by user and time. An event about the same item as the user's previous one is left out.

    Parameters
    ----------
    user, item, time_ms : (n,) int64
        Events; those of the same user and time keep their order. An item may be `LEFT_OUT`.
    items : int
        Number of items.
    half_life_days : float, optional
        A split weighs half as much for each half-life before the newest event; without one all weigh 1.
    distinct : bool
        Keep only each user's newest event about each item.
    """
    newest_ms = time_ms.max(initial=0)
    order = np.lexsort((time_ms, user))
    if distinct:
        _, newest = np.unique((user[order] * (items + 1) + item[order] + 1)[::-1], return_index=True)
        order = order[np.sort(len(order) - 1 - newest)]
        order = order[item[order] != LEFT_OUT]
    else:
        repeats = (np.diff(user[order], prepend=-1) == 0) & (np.diff(item[order], prepend=-2) == 0)
        order = order[~repeats]
    user, item, time_ms = user[order], item[order], time_ms[order]
    first = np.flatnonzero(np.diff(user, prepend=-1))
    lengths = np.diff(np.append(first, len(user)))
    position = np.arange(len(user)) - np.repeat(first, lengths)
    weight = np.ones(len(user), np.float32)
    if half_life_days is not None and len(user):
        weight = np.exp2((time_ms - newest_ms) / (half_life_days * DAY_MS)).astype(np.float32)
    is_new = np.zeros(len(user), bool)
    is_new[np.unique(user * (items + 1) + item + 1, return_index=True)[1]] = True
    return Sequences(item, position, np.repeat(lengths, lengths) - 1 - position, weight, is_new, items)

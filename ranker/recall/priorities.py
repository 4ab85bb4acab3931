"""What a kind of catalogue prefers beside the model: fresh items, paid ones, those that a user comes back to.

`ranker.recall.pull` adds it to the pull of a candidate. Knows no model and no transport.
"""

from __future__ import annotations

from math import log
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from encoders.events.types import PURCHASE, SEARCH
from encoders.interest import Vector

if TYPE_CHECKING:
    from ranker.recall.user_view import UserView

Repeats = Literal["never", "unbought", "always", "favoured"]
"""Which items that a user knows may be recommended again."""
WIDER = 4
"""How many times as many items the sources propose where priorities choose among them; chosen by us: most of what is
near to a user's interests is old."""
MOST = 99.0
"""Largest pull, either way: it moves an item behind, or before, all others."""
_FORGETTING = 0.5
"""Exponent of the power law by which what was chosen once is forgotten (Anderson and Schooler 1991)."""
_JUST_NOW_MS = 60_000.0
"""Least age of an event there."""
_DECADE, _OCTAVE = log(10), log(2)


class Priorities(NamedTuple):
    """What counts beside the model.

    Attributes
    ----------
    freshness_half_life_ms : float
        An item that is older by this time has the rank of one twice as far behind; 0: age does not count.
    price_power : float
        The rank of an item is divided by its price to this power.
    repeats : Repeats
        `favoured`: what the user chose has a pull of 1 to 2, the most for what they chose often and lately.
    """

    freshness_half_life_ms: float = 0.0
    price_power: float = 0.0
    repeats: Repeats = "unbought"

    @property
    def reorder(self) -> bool:
        """Whether any item has a priority."""
        return bool(self.freshness_half_life_ms or self.price_power or self.repeats == "favoured")


USUAL = Priorities()


def priority(user: UserView, keys: npt.NDArray[np.uint64], time_ms: npt.NDArray[np.int64], log_price: Vector) -> Vector:
    """Return what is added to the pull of items, (n,) float32, -`MOST` to `MOST`; 0 where nothing counts.

    A pull of 1 divides the rank by 10. The age of an item is that at the user's newest event, or at that of the newest
    item, whichever is later. An item without a price has the price 1.
    """
    wanted, total = user.priorities, np.zeros(len(keys))
    if wanted.freshness_half_life_ms:
        newest = user.catalogue.time_ms[user.catalogue.newest(1)]
        age_ms = np.maximum(0, max([user.state.as_of_ms, *newest.tolist()]) - time_ms)
        total -= age_ms / wanted.freshness_half_life_ms * (_OCTAVE / _DECADE)
    if wanted.price_power:
        total += wanted.price_power * np.nan_to_num(log_price) / _DECADE
    if wanted.repeats == "favoured":
        known, strengths = favourites(user)
        share = dict(zip(known.tolist(), (strengths / strengths.max(initial=1e-9)).tolist(), strict=True))
        total += [1 + share[key] if key in share else 0 for key in keys.tolist()]
    return np.asarray(total.clip(-MOST, MOST), np.float32)


def favourites(user: UserView) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.float64]]:
    """Return the keys of the items that the user liked, and how strongly each is remembered, the strongest first.

    Each event counts its weight times its age to the power of minus `_FORGETTING`: often and lately is much.
    """
    liked = user.liked
    if not len(liked):
        return np.empty(0, np.uint64), np.empty(0)
    ages = np.maximum(_JUST_NOW_MS, user.state.as_of_ms - liked["time_ms"])
    weights = user.decay.entry_weights(liked) * ages**-_FORGETTING
    keys: npt.NDArray[np.uint64]
    keys, index = np.unique(liked["item"], return_inverse=True)
    strengths = np.asarray(np.bincount(index, weights, len(keys)), np.float64)
    order = np.argsort(-strengths, kind="stable")
    return keys[order], strengths[order]


def known_to(user: UserView, repeats: Repeats) -> list[int]:
    """Return the keys of the items that may not be recommended to the user again, or not yet."""
    history = user.state.history
    if repeats == "always":
        return []
    if repeats == "favoured":  # nobody wants to hear again what they have just heard
        since_ms = user.state.as_of_ms - user.decay.session_half_life_ms
        just_now: list[int] = history["item"][history["time_ms"] > since_ms].tolist()
        return just_now
    met = history["type"] != SEARCH if repeats == "never" else history["type"] == PURCHASE
    return [*user.state.kept_purchases["item"].tolist(), *history["item"][met].tolist()]

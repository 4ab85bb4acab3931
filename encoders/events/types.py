"""The types of events: what each weighs, its code in a state, and how strong one event of it is.

A weight is the strength of an event as a sign of interest, in clicks. A negative one means less of the same. Knows no
items and no vectors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from math import log2

import numpy as np
import numpy.typing as npt

DEFAULT_WEIGHTS: Mapping[str, float] = {
    "click": 1.0,
    "purchase": 3.0,
    "view": 1.0,
    "cart": 2.0,
    "like": 2.0,
    "dislike": -2.0,
    "rating": 2.0,
    "complete": 2.0,
    "skip": -0.5,
    "return": -3.0,
    "search": 2.0,
}
"""Chosen by us, but for the purchase: in the order of what an act costs the user. A return takes a purchase back."""
OWN_CODES = 64
"""The codes of a team's own types begin here; the types above have their rank in `DEFAULT_WEIGHTS`."""
TAKEN_BACK, TAKEN_BACK_CODE = "\0taken back", OWN_CODES - 1
"""A purchase that the user has returned. No event has this type: it is what a state makes of the purchase's entry."""
FULL = 64
"""The strength of an event that counts with the whole weight of its type. Stored as a signed byte."""
MAX_STRENGTH = 127
FULL_DWELL_S = 30.0
"""How long a look lasts that counts in full: the usual limit of a satisfied click (Fox et al. 2005)."""
LEAST_DWELL = 0.1
"""What a look of no time counts; chosen by us: the user has chosen the item all the same."""
MOST_DWELL = 1.5
"""What a long look counts; chosen by us: a page that was left open must not count more than what is bought."""


def code_of(type_: str) -> int:
    """Return the code of a type in a state. It depends on the name alone, so that settings may change.

    >>> code_of("purchase"), code_of("wishlist") >= OWN_CODES
    (1, True)
    """
    known = _CODES.get(type_)
    if known is not None:
        return known
    digest = hashlib.blake2b(type_.encode(), digest_size=8).digest()
    return OWN_CODES + int.from_bytes(digest, "little") % (256 - OWN_CODES)


_CODES = {name: code for code, name in enumerate(DEFAULT_WEIGHTS)} | {TAKEN_BACK: TAKEN_BACK_CODE}
PURCHASE, SEARCH, RETURN = _CODES["purchase"], _CODES["search"], _CODES["return"]


def weights_by_code(weights: Mapping[str, float]) -> npt.NDArray[np.float32]:
    """Return the weight of each code, (256,) float32; 0 for a code that no type has."""
    by_code = np.zeros(256, np.float32)
    for name, weight in weights.items():
        by_code[code_of(name)] = weight
    return by_code


def names_by_code(weights: Mapping[str, float]) -> dict[int, str]:
    """Return the types by their codes."""
    return {code_of(name): name for name in weights}


def same_code(weights: Mapping[str, float]) -> tuple[str, str] | None:
    """Return two types that would be stored alike, if there are any: one of them needs another name."""
    names: dict[int, str] = {}
    for name in weights:
        if (other := names.setdefault(code_of(name), name)) != name:
            return other, name
    return None


def of_share(share: float) -> int:
    """Return a share of the type's weight as a strength, -`MAX_STRENGTH` to `MAX_STRENGTH`."""
    return max(-MAX_STRENGTH, min(MAX_STRENGTH, round(share * FULL)))


def of_rating(rating: float, best: float) -> float:
    """Return the share of the weight that a rating of 1 to `best` has: 1 for the best, 0 for the middle, -1 for 1.

    >>> of_rating(5, 5), of_rating(3, 5), of_rating(1, 5)
    (1.0, 0.0, -1.0)
    """
    return (2 * rating - best - 1) / (best - 1)


def rating_of(share: float) -> str:
    """Return the rating of a share of the weight in words, on a scale of five.

    >>> rating_of(1), rating_of(-0.5)
    ('5 of 5', '2 of 5')
    """
    return f"{3 + 2 * share:.2g} of 5"


def satisfied(dwell_ms: int, full_s: float = FULL_DWELL_S) -> float:
    """Return how satisfied a look of this duration was, 0 to 1: the logarithm of the time, 1 from `full_s` on.

    >>> [round(satisfied(seconds * 1000), 2) for seconds in (0, 5, 30, 600)]
    [0.0, 0.52, 1.0, 1.0]
    """
    return min(1.0, log2(1 + dwell_ms / 1000) / log2(1 + full_s))


def of_dwell(dwell_ms: int, full_s: float = FULL_DWELL_S) -> float:
    """Return the share of the weight that a look of this duration has: the logarithm of the time, 1 at `full_s`.

    >>> [round(of_dwell(seconds * 1000), 2) for seconds in (0, 2, 30, 600)]
    [0.1, 0.32, 1.0, 1.5]
    """
    share = log2(1 + dwell_ms / 1000) / log2(1 + full_s)
    return max(LEAST_DWELL, min(MOST_DWELL, share))

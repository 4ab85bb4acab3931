"""Pairs of items with an evident order, on which every scorer that reads texts is checked at load.

The check detects weights that are not finite, a head that was never loaded, and a model that reads relevance the wrong
way round. It does not detect a model that ranks badly: a scorer must have an order that is not the reverse of the
evident one, because a model that was trained on a shop's log may prefer what complements an item to what is like it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from encoders.models.source import ModelUnsupported
from ranker.features import NAMES
from ranker.score import Scorer, ScoreRequest

PAIRS = (
    ("Viewed Trail running shoes (Running, 119.00 EUR) today", "Road running shoes. Running", "Garden hose. Garden"),
    ("Bought Espresso machine (Kitchen, 349.00 EUR) 2 days ago", "Coffee beans. Kitchen", "Bicycle pump. Cycling"),
    ("Viewed Tent for two (Camping, 189.00 EUR) just now", "Camping tent for four. Camping", "Lipstick, red. Beauty"),
    ("Viewed Acoustic guitar (Music, 240.00 EUR) 3 days ago", "Guitar strings. Music", "Dog food, 10 kg. Pets"),
    ("Bought Puppy dog collar (Pets, 14.00 EUR) today", "Dog lead. Pets", "Laptop computer, 16 GB. Electronics"),
    ("Viewed Laptop computer (Electronics, 899.00 EUR) today", "Computer mouse. Electronics", "Rose bush. Garden"),
    ("Bought Baby bottle (Baby, 9.00 EUR) 5 days ago", "Baby milk powder. Baby", "Cordless drill. Tools"),
    ("Viewed Cordless drill (Tools, 129.00 EUR) yesterday", "Set of drill bits. Tools", "Cotton baby blanket. Baby"),
)
"""A context, an item that fits it and an item that does not; chosen by us."""
REQUESTS = tuple(ScoreRequest(context, (fitting, other)) for context, fitting, other in PAIRS)
SAME = 1e-6
"""Scores whose difference is below this share of the largest score are the same."""

logger = logging.getLogger(__name__)


def check(scorer: Scorer, may_be_inverted: bool) -> None:
    """Check the scorer, and the base model of a fusion head.

    Parameters
    ----------
    scorer : Scorer
    may_be_inverted : bool
        Whether a wrong order is only logged, because known answers or training decide about the order.

    Raises
    ------
    ModelUnsupported
        The scores are not finite, are the same for all items, or order every pair the wrong way round, as a random head
        over MiniLM does once in 200.
    """
    base: Scorer | None = getattr(scorer, "base", scorer)
    if base is not None:
        margins = _margins(base, REQUESTS)
        if (margins < 0).all():
            _report_inverted(base, margins, may_be_inverted)
    if scorer.needs_features:
        features = np.random.default_rng(1).normal(size=(2, len(NAMES))).astype(np.float16)
        _margins(scorer, [replace(request, features=features) for request in REQUESTS])


def check_finite(name: str, dtype: str, scores: NDArray[np.float32]) -> None:
    """Make sure that a model's scores are numbers.

    Raises
    ------
    ModelUnsupported
    """
    if not np.isfinite(scores).all():
        raise ModelUnsupported(
            f"model: got from {name!r} in {dtype} scores that are not finite "
            f"({scores[~np.isfinite(scores)][0]}), expected numbers; copy its files again, try float32, or "
            "choose another model"
        )


def _margins(scorer: Scorer, requests: Sequence[ScoreRequest]) -> NDArray[np.float32]:
    """By how much each item that fits scores higher than the other."""
    scores = np.stack(scorer.score(requests))
    check_finite(scorer.name, scorer.placement.dtype, scores)
    if (np.ptp(scores, axis=1) <= SAME * max(1.0, float(np.abs(scores).max()))).all():
        raise ModelUnsupported(
            f"model: got from {scorer.name!r} the same score for an item that fits and for one that does not, whatever "
            "the context, expected scores that rank; copy its files again, or choose another model"
        )
    margins: NDArray[np.float32] = scores[:, 0] - scores[:, 1]
    return margins


def _report_inverted(scorer: Scorer, margins: NDArray[np.float32], may_be_inverted: bool) -> None:
    clearest = int(margins.argmin())
    context, fitting, other = PAIRS[clearest]
    what = (
        f"{scorer.name!r} ranks all of {len(PAIRS)} evident pairs the wrong way round: after {context!r} it scores "
        f"{other!r} higher than {fitting!r} by {-margins[clearest]:.3g}"
    )
    if may_be_inverted:
        logger.warning("%s; it is used, for it was trained to answer so", what)
        return
    raise ModelUnsupported(
        f"model: {what}; if its labels are the other way round, name the one that means relevance in afterclick.json "
        "(relevant); if its answers are, those (yes, no); else choose another model, or train it"
    )

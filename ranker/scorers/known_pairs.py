"""Pairs of items with an evident order, on which every scorer that reads texts is checked at load.

The check detects weights that are not finite, a head that was never loaded, a model that reads relevance the wrong way
round, and a model that answers at random, as one does whose prompt is not the one that it was trained with. The first
three are refused. The last is reported, because a model that was trained on a shop's log may prefer what complements an
item to what is like it. It does not detect a model that ranks badly in a shop.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from encoders.models.device import SERVER
from encoders.models.source import ModelUnsupported
from ranker.score import Scorer, ScoreRequest


class Couple(NamedTuple):
    """Two users and two items in one language: each item fits the user of the same position, and not the other."""

    contexts: tuple[str, str]
    items: tuple[str, str]


COUPLES = (
    Couple(
        ("Viewed Trail running shoes (Running, 119.00 EUR) today", "Bought Baby bottle (Baby, 9.00 EUR) 5 days ago"),
        ("Road running shoes. Running", "Baby milk powder. Baby"),
    ),
    Couple(
        ("Viewed Acoustic guitar (Music, 240.00 EUR) 3 days ago", "Bought Puppy dog collar (Pets, 14.00 EUR) today"),
        ("Guitar strings. Music", "Dog lead. Pets"),
    ),
    Couple(
        (
            "Viewed Zelt für zwei Personen (Camping, 189.00 EUR) today",
            "Bought Espressomaschine (Küche, 349.00 EUR) today",
        ),
        ("Familienzelt für vier Personen. Camping", "Kaffeebohnen für Espresso. Küche"),
    ),
    Couple(
        ("Viewed 儿童自行车 (自行车, 129.00 EUR) today", "Bought 红色口红 (美妆, 19.00 EUR) today"),
        ("山地自行车轮胎和头盔. 自行车", "哑光口红. 美妆"),
    ),
)
"""Two in English, one in German, one in Chinese; chosen by us. A model that answers without its user gets one of the
two questions of a couple right, whichever item it prefers: four in all, and six if it reads English only."""
REQUESTS = tuple(ScoreRequest(context, couple.items) for couple in COUPLES for context in couple.contexts)
FITTING = np.array([position for couple in COUPLES for position in range(len(couple.contexts))])
"""By request, the index of the candidate that fits."""
MIN_RIGHT = 6
"""Pairs in their evident order that a model needs; one that answers at random has as many once in seven."""
SAME = 1e-6
"""Scores whose difference is below this share of the largest score are the same."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sanity:
    """How a model ranks the known pairs.

    Attributes
    ----------
    model : str
        The model as it was named.
    right : int
        Pairs in their evident order.
    was_trained_here : bool
        Whether it gives the answers that it gave after its training, so that its prompt is the right one.
    is_on_server : bool
        Whether a server writes its prompt.
    """

    model: str
    right: int
    was_trained_here: bool = False
    is_on_server: bool = False

    @property
    def advice(self) -> str:
        """What to do about too few pairs; '' for enough."""
        if self.right >= MIN_RIGHT:
            return ""
        if self.was_trained_here:
            return (
                "it answers as after its training, so check by afterclick evaluate whether it ranks your shop better "
                "than the default; if not, train it again"
            )
        if self.is_on_server:
            return (
                "if it was trained to rank, give its server the template that it was trained with (vLLM and SGLang: "
                "--chat-template); otherwise serve another reranker, for your languages"
            )
        return (
            "if it was trained to rank, name the words that it was trained with: a decoder's or a classifier's prefix, "
            "middle and suffix (a decoder's yes and no too) in the afterclick.json beside its config.json, an "
            "embedding model's prompts in its config_sentence_transformers.json; otherwise train it with afterclick "
            "train --base, or choose another reranker, for your languages"
        )

    def __str__(self) -> str:
        return f"ranks {self.right} of {len(REQUESTS)} evident pairs right"


def check(scorer: Scorer, was_trained_here: bool = False, in_training: bool = False) -> Sanity | None:
    """Make sure that the scores of the scorer, and of the base model of a fusion head, are numbers that rank.

    Parameters
    ----------
    scorer : Scorer
    was_trained_here : bool
        Whether it gives its known answers (`known_answers`). Its order may be inverted, which is only logged.
    in_training : bool
        Whether it is to be trained. The same holds.

    Returns
    -------
    Sanity or None
        How the model ranks the pairs; None for a head that reads no text.

    Raises
    ------
    ModelUnsupported
        The scores are not finite, are the same for all items, or order every pair the wrong way round.
    """
    base: Scorer | None = getattr(scorer, "base", scorer)
    sanity = None
    if base is not None:
        margins = _margins(base, REQUESTS)
        sanity = Sanity(base.name, int((margins > 0).sum()), was_trained_here, base.placement.device == SERVER)
        if (margins < 0).all():
            _report_inverted(base, margins, was_trained_here or in_training)
    if scorer.feature_set is not None:
        columns = len(scorer.feature_set.names)
        features = np.random.default_rng(1).normal(size=(2, columns)).astype(np.float16)
        _margins(scorer, [replace(request, features=features) for request in REQUESTS])
    return sanity


def count_right(scorer: Scorer) -> int:
    """Return how many pairs a scorer ranks right, whatever its scores."""
    scores = np.stack(scorer.score(REQUESTS))
    rows = np.arange(len(scores))
    return int((scores[rows, FITTING] > scores[rows, 1 - FITTING]).sum())


def report(sanity: Sanity, is_required: bool) -> None:
    """Log a model that ranks too few pairs right, or refuse it if `is_required`.

    Raises
    ------
    ModelUnsupported
    """
    if sanity.right >= MIN_RIGHT:
        return
    what = f"got {sanity.model!r}, which {sanity}, expected {MIN_RIGHT} or more: its lists may be no better than random"
    if is_required:
        raise ModelUnsupported(f"model: {what}; {sanity.advice}; or set ranker.require_sane to false")
    logger.warning("model: %s; %s", what, sanity.advice)


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
    rows = np.arange(len(scores))
    margins: NDArray[np.float32] = scores[rows, FITTING] - scores[rows, 1 - FITTING]
    return margins


def _report_inverted(scorer: Scorer, margins: NDArray[np.float32], may_be_inverted: bool) -> None:
    clearest = int(margins.argmin())
    request, fitting = REQUESTS[clearest], int(FITTING[clearest])
    what = (
        f"{scorer.name!r} ranks all of {len(REQUESTS)} evident pairs the wrong way round: after {request.context!r} it "
        f"scores {request.candidates[1 - fitting]!r} higher than {request.candidates[fitting]!r} by "
        f"{-margins[clearest]:.3g}"
    )
    if may_be_inverted:
        logger.warning("%s; it is used, for it was trained to answer so", what)
        return
    raise ModelUnsupported(
        f"model: {what}; if its labels are the other way round, name the one that means relevance in afterclick.json "
        "(relevant); if its answers are, those (yes, no); else choose another model, or train it"
    )

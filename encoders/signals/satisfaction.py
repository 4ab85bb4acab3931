"""How satisfied a user is, and how satisfied a user was with a list that was shown: one formula for each.

Everything is a function of the interest state and of the newest lists that impressions showed. Knows no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2
from statistics import median

import numpy as np

from encoders.events.entries import Entries
from encoders.events.responses import Responses
from encoders.events.shown_lists import Acts, SeenList, choices, unclicked
from encoders.events.types import FULL, TAKEN_BACK_CODE
from encoders.events.visits import hours_between, visits_of
from encoders.interest import Decay, Interest

GAP_HALF_H = 7 * 24.0
"""The time between visits that counts half; chosen by us: a week."""
DEEP_VISIT = 10.0
"""The events of a visit that counts in full; chosen by us: as many as a page of a list has items."""
NEUTRAL = 0.5
"""What is said of a user of whom nothing is known, with the weight of one term; chosen by us."""
NO_ACTS = Acts([], [], [])
FEW = 1.0
"""Sums of decayed events below this are too few to tell anything; chosen by us: one event of now."""


@dataclass(frozen=True)
class Signals:
    """What a user's events say beyond the user's interests. None: nothing is known.

    Attributes
    ----------
    gap_h : float or None
        Median time between visits, in hours.
    depth : float or None
        Mean number of events of a visit.
    repeats : float or None
        Share of the kept purchases that are about an item bought before.
    dwell : float or None
        How satisfied the user's looks were, 0 to 1, see `encoders.events.types.satisfied`.
    skips : float or None
        Share of what was seen above a choice, and of the choices, that was passed over.
    returned : float or None
        Share of the purchases that the user gave back.
    rating : float or None
        Mean of the ratings, 0 for the worst to 1 for the best.
    bad_reviews : float
        Decayed number of bad reviews.
    ratings : float
        Decayed number of ratings.
    """

    gap_h: float | None = None
    depth: float | None = None
    repeats: float | None = None
    dwell: float | None = None
    skips: float | None = None
    returned: float | None = None
    rating: float | None = None
    bad_reviews: float = 0.0
    ratings: float = 0.0


def signals_of(interest: Interest, lists: Sequence[SeenList], decay: Decay) -> Signals:
    """Return a user's signals.

    Parameters
    ----------
    interest : Interest
    lists : sequence of SeenList
        The newest lists that the user was shown.
    decay : Decay
    """
    visits = visits_of(interest.slots)
    gaps = hours_between(visits)
    responses = Responses(*interest.responses.tolist())
    bought, kept = len(interest.bought), interest.kept_purchases["item"]
    acts = acts_of(interest.history, decay) if lists else NO_ACTS
    answers = [found for one in lists if (found := choices(one, acts)).chosen]
    chosen, skipped = sum(len(one.chosen) for one in answers), sum(one.skipped for one in answers)
    return Signals(
        gap_h=median(gaps) if gaps else None,
        depth=sum(visit.events for visit in visits) / len(visits) if visits else None,
        repeats=1 - len(np.unique(kept)) / len(kept) if len(kept) else None,
        dwell=responses.dwell / responses.looks if responses.looks >= FEW else None,
        skips=skipped / (chosen + skipped) if chosen else None,
        returned=1 - len(kept) / bought if bought else None,
        rating=responses.rating / responses.ratings if responses.ratings > 0 else None,
        bad_reviews=responses.bad_reviews,
        ratings=responses.ratings,
    )


def of_user(signals: Signals) -> float | None:
    """Return how satisfied a user is, 0 to 1; None if nothing is known.

    Notes
    -----
    The mean of the terms that are known, and of `NEUTRAL`, each with the weight 1 (chosen by us: no study tells what
    one is worth against another in every shop):

    - return, `2^(-gap_h / GAP_HALF_H)`: users who are satisfied come back sooner; absence time, Dupret and Lalmas,
      "Absence time and user engagement: evaluating ranking functions", WSDM 2013.
    - depth, `log2(1 + depth) / log2(1 + DEEP_VISIT)`, at most 1: Lalmas, O'Brien and Yom-Tov, "Measuring user
      engagement", Morgan & Claypool 2014.
    - dwell, the mean of `types.satisfied`: a look of 30 seconds is a satisfied one; Fox et al., "Evaluating
      implicit measures to improve web search", ACM TOIS 23(2), 2005.
    - choice, `1 - skips`: "click > skip above" of Joachims et al., SIGIR 2005.
    - opinion, the mean of the ratings, where a bad review counts as the worst rating. Reviews are judged by VADER
      (Hutto and Gilbert, ICWSM 2014).
    - kept, `1 - returned`: a purchase that was given back satisfied nobody. Chosen by us; Petersen and Kumar, "Are
      product returns a necessary evil?", Journal of Marketing 73(3), 2009, find that a few returns go with loyal users,
      which the share of a few returns hardly changes.
    - repeats, `(1 + repeats) / 2`: to buy again is a good sign, and not to is none; Anderson et al., "The dynamics of
      repeat consumption", WWW 2014. That repeats, quality of consumption and returns to the site foretell whether users
      stay: Wang et al., "Surrogate for long-term user experience in recommender systems", KDD 2022.

    >>> of_user(Signals()), of_user(Signals(dwell=1.0)), of_user(Signals(dwell=1.0, skips=1.0))
    (None, 0.75, 0.5)
    """
    opinions = signals.ratings + signals.bad_reviews
    terms = [
        None if signals.gap_h is None else 2.0 ** (-signals.gap_h / GAP_HALF_H),
        None if signals.depth is None else min(1.0, log2(1 + signals.depth) / log2(1 + DEEP_VISIT)),
        signals.dwell,
        None if signals.skips is None else 1 - signals.skips,
        (signals.rating or 0.0) * signals.ratings / opinions if opinions > 0 else None,
        None if signals.returned is None else 1 - signals.returned,
        None if signals.repeats is None else (1 + signals.repeats) / 2,
    ]
    known = [term for term in terms if term is not None]
    return (NEUTRAL + sum(known)) / (1 + len(known)) if known else None


def of_list(satisfied: Sequence[float]) -> float:
    """Return how satisfied a user was with a list, 0 to 1: expected reciprocal rank.

    `sum over ranks r of 1/r * s_r * product over i < r of (1 - s_i)`: the user reads from the top, and stops at an item
    with the probability that it satisfies: Chapelle et al., "Expected reciprocal rank for graded relevance", CIKM 2009.
    So a skipped item above, a short look and a purchase that was given back all cost.

    Parameters
    ----------
    satisfied : sequence of float
        For the item of each rank how much it satisfied the user, 0 to 1, see `of_event`; 0 if it was not chosen.

    >>> of_list([1.0, 0.0]), of_list([0.0, 1.0]), of_list([0.5, 0.5]), of_list([])
    (1.0, 0.5, 0.625, 0.0)
    """
    total, goes_on = 0.0, 1.0
    for rank, share in enumerate(satisfied, 1):
        total += goes_on * share / rank
        goes_on *= 1 - share
    return total


def of_event(weight: float, strength: int) -> float:
    """Return how much an item satisfied a user by one event about it, 0 to 1.

    The share of the type's weight that counts: of a look by its duration, of a rating by its stars, all of a purchase;
    nothing of an event that is a bad sign, and of a purchase that was given back.

    >>> of_event(1.0, FULL // 2), of_event(3.0, FULL), of_event(-2.0, FULL), of_event(0.0, FULL)
    (0.5, 1.0, 0.0, 0.0)
    """
    return min(1.0, strength / FULL) if weight > 0 and strength > 0 else 0.0


def of_shown(shown: SeenList, events: Entries, decay: Decay) -> float:
    """Return how satisfied a user was with a list that was shown, by the user's newest events; see `of_list`."""
    found = choices(shown, acts_of(events, decay)).chosen
    if not found:
        return 0.0
    return of_list(
        [_of_choice(events[found[rank] :], decay) if rank in found else 0.0 for rank in range(max(found) + 1)]
    )


def _of_choice(events: Entries, decay: Decay) -> float:
    """The most that an event says about the item of the first one; 0 if the item was given back."""
    about = events[events["item"] == events["item"][0]]
    if (about["type"] == TAKEN_BACK_CODE).any():
        return 0.0
    weights, strengths = decay.type_weights(about).tolist(), about["strength"].tolist()
    return max(map(of_event, weights, strengths))


def acts_of(events: Entries, decay: Decay) -> Acts:
    """Return events as lists. No search chooses an item, and no bad sign; a purchase that was given back does."""
    return Acts.of(events, (decay.likes(events) | (events["type"] == TAKEN_BACK_CODE)).tolist())


def unclicked_of(interest: Interest, lists: Sequence[SeenList]) -> dict[int, int]:
    """Return how often each item was shown since the user did anything with it; see `shown_lists.unclicked`."""
    events = interest.history
    return unclicked(lists, Acts.of(events, ()), interest.as_of_ms, interest.version <= len(events))

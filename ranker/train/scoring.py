"""Score query groups with any scorer, as far as the time allows. Knows no gradients."""

from __future__ import annotations

import time

import numpy as np

from ranker import processes
from ranker.progress import Progress
from ranker.score import Scorer
from ranker.train.query_groups import QueryGroups, ScoredGroups

SCORED_AT_ONCE = 16
SLOW_S = 2.0
"""A call of the scorer that takes longer is followed by one of half the groups, so that the deadline holds."""


def score(scorer: Scorer, groups: QueryGroups, deadline: float, progress: Progress) -> ScoredGroups:
    """Score the groups in their order. Each process scores its share; all get all scores.

    Parameters
    ----------
    scorer : Scorer
    groups : QueryGroups
    deadline : float
        Once `time.monotonic()`, in seconds, has passed it, the groups that are left are dropped.
    progress : Progress
        In groups.
    """
    scores = np.zeros(groups.candidates.shape, np.float32)
    begin, at_once = 0, 1
    while begin < len(groups) and not processes.is_over(deadline):
        started = time.monotonic()
        own = begin + at_once * processes.rank()
        indices = range(own, max(own, min(own + at_once, len(groups))))
        for index, row in zip(indices, scorer.score([groups.request(index) for index in indices]), strict=True):
            scores[index, : len(row)] = row
        begin = min(begin + at_once * processes.count(), len(groups))
        slow = processes.from_first(time.monotonic() - started > SLOW_S)
        at_once = max(1, at_once // 2) if slow else min(2 * at_once, SCORED_AT_ONCE)
        progress(begin, len(groups))
    processes.sum_array(scores)
    of_all = ScoredGroups(groups, scores)
    return of_all if begin == len(groups) else of_all[np.arange(begin)]

"""Score query groups with any scorer, as far as the time allows. Knows no gradients."""

from __future__ import annotations

import time

import numpy as np

from ranker.progress import Progress
from ranker.score import Scorer
from ranker.train.query_groups import QueryGroups, ScoredGroups

SCORED_AT_ONCE = 16


def score(scorer: Scorer, groups: QueryGroups, deadline: float, progress: Progress) -> ScoredGroups:
    """Score the groups in their order.

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
    for begin in range(0, len(groups), SCORED_AT_ONCE):
        if time.monotonic() > deadline:
            return ScoredGroups(groups, scores)[np.arange(begin)]
        indices = range(begin, min(begin + SCORED_AT_ONCE, len(groups)))
        for index, row in zip(indices, scorer.score([groups.request(index) for index in indices]), strict=True):
            scores[index, : len(row)] = row
        progress(indices[-1] + 1, len(groups))
    return ScoredGroups(groups, scores)

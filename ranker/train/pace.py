"""How long a scorer takes for a group, measured, and what of the time that is left goes to its tuning.

A pass of a packed MiniLM takes milliseconds and one of a decoder seconds, so fixed shares of the time would leave one
of the stages with nothing. Knows no gradients.
"""

from __future__ import annotations

import time

from ranker.score import Scorer
from ranker.train.query_groups import QueryGroups
from ranker.train.schedule import evenly_spaced
from ranker.train.scoring import score

MEASURED_GROUPS = 3
MARGIN = 1.2
"""Of the measured time: groups differ, and machines have other work."""
SCORING_SHARE = 0.4
"""Of the time that is left, at most, unless the fewest groups take more."""
FEWEST_GROUPS = 100
"""Twice the groups without which there is no head."""
MOST_SCORING = 0.8


def seconds_per_group(scorer: Scorer, groups: QueryGroups) -> float:
    """Return the seconds in which a scorer scores a group, on some of them; 0 without groups."""
    indices = evenly_spaced(len(groups), MEASURED_GROUPS)
    if not len(groups):
        return 0.0
    score(scorer, groups[indices[:1]], float("inf"), _unseen)  # the first pass pays for start-up
    started = time.monotonic()
    score(scorer, groups[indices], float("inf"), _unseen)
    return (time.monotonic() - started) / len(indices)


def tuning_end(now: float, end: float, groups: int, seconds: float) -> float:
    """Return when tuning must end, so that there is time to score after it.

    Parameters
    ----------
    now, end : float
        When tuning begins, and when scoring must end, on one clock, in seconds.
    groups : int
        To be scored.
    seconds : float
        For each of them.

    >>> tuning_end(0.0, 100.0, 1_000, 0.01)  # all of them are scored
    88.0
    >>> tuning_end(0.0, 100.0, 1_000, 0.2)
    60.0
    >>> tuning_end(0.0, 100.0, 1_000, 0.5)  # time for the fewest
    40.0
    """
    left = end - now
    whole, fewest = (MARGIN * seconds * count for count in (groups, min(groups, FEWEST_GROUPS)))
    return end - min(whole, max(SCORING_SHARE * left, min(fewest, MOST_SCORING * left)))


def _unseen(_done: int, _of: int) -> None:
    """No progress to show."""

"""Draw the test cases to train on from a log: at each moment of a user, what else they chose in that basket or session.

Knows neither candidates nor models.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby

from ranker.evaluation.interactions import Interaction
from ranker.evaluation.protocols import Case, basket_numbers
from ranker.recall.priorities import Repeats


def training_cases(log: Sequence[Interaction], repeats: Repeats, seed: int) -> list[Case]:
    """Make cases of the user's moments.

    A moment is all the user's events of one time: each click of a session is a moment, and so are all lines of an
    invoice together. Each moment but the user's first becomes a case before it, and one more case from one of its later
    lines on, drawn by the seed: users see a list before a visit, and within it. The targets are all items of the rest
    of the basket, not the next one alone, because a list stays visible for longer.

    Parameters
    ----------
    log : sequence of Interaction
        In the order of time.
    repeats : Repeats
        Which items that the user has met before are targets.
    seed : int
    """
    rng = random.Random(seed)
    numbers = basket_numbers(log).tolist()
    by_user: defaultdict[str, list[int]] = defaultdict(list)
    for index, event in enumerate(log):
        by_user[event.user].append(index)
    cases = []
    for user, indices in by_user.items():
        baskets: defaultdict[int, list[int]] = defaultdict(list)
        for index in indices:
            baskets[numbers[index]].append(index)
        left_out: set[str] = set()
        for time_ms, moment in groupby(indices, lambda index: log[index].time_ms):
            first, *later = moment
            starts = {first} if first != indices[0] else set()
            if later:
                starts.add(rng.choice(later))
            for index in (first, *later):
                if index in starts:
                    rest = {log[other].item for other in baskets[numbers[index]] if other >= index}
                    targets = rest - left_out
                    if targets:
                        cases.append(Case(user, index, time_ms, frozenset(targets)))
                if repeats == "never" or (repeats == "unbought" and log[index].kind == "purchase"):
                    left_out.add(log[index].item)
    return cases

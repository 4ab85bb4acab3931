"""Fit adapters of items' vectors for a training run: on the first part of the log, then on with each further part.

A part is learnt as often as raises recall on the cases of the next one. The last two parts are learnt as often as the
one before them, because what follows them validates, or is not there. So a run costs one fit.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from encoders.interest import Vector
from ranker.evaluation.interactions import Interactions
from ranker.evaluation.protocols import Case
from ranker.progress import StageProgress
from ranker.recall.adapted_space import AdaptedSpace
from ranker.spaces.adapter import MAX_HISTORY
from ranker.spaces.fit import AdapterFit, SpaceCase, SpaceEvents, recall
from ranker.train.fitted_source import MIN_CASES, FittedSource, cuts_of, learnt_from

MAX_EPOCHS = 8
"""Chosen by us, for time. The first one without a better recall ends the search."""
MAX_CASES = 1_500
"""Cases that judge an epoch: with them recall about .3 has a standard error of .01."""
DEPTH, LEAST_DEPTH, DEPTH_SHARE = 100, 10, 0.05
"""Items among which recall counts: this share of a small catalogue, of which 100 would be nearly all."""
JUDGED_PARTS = 2
FIRST_SHARE = 0.5
"""Of the time that is left, for each part that is judged."""


@dataclass(frozen=True)
class AdapterSettings:
    """How to fit an adapter.

    Attributes
    ----------
    purchase_weight : float
        Of a purchase, in clicks.
    deadline : float
        When all must be done, in seconds of `time.monotonic()`. What is not learnt by then is left out.
    seed : int
    """

    purchase_weight: float
    deadline: float
    seed: int


def fit_adapted_space(
    kind: type[AdaptedSpace],
    log: Interactions,
    cases: Sequence[Case],
    item_ids: Sequence[str],
    vectors: Vector,
    settings: AdapterSettings,
    stage: StageProgress,
) -> FittedSource | None:
    """Choose the number of epochs, and fit.

    Parameters
    ----------
    kind : type of AdaptedSpace
        Of the source to make.
    log : Interactions
        In order.
    cases : sequence of Case
        In order.
    item_ids : sequence of str
        Of the items of the catalogue that have a vector.
    vectors : (items, vector dim) float32
        Of these items, as a worker has them.
    settings : AdapterSettings
    stage : StageProgress

    Returns
    -------
    FittedSource or None
        None if there are too few cases to learn from.
    """
    numbered, cuts = _NumberedLog(log, item_ids), cuts_of(log)
    judged = [
        numbered.cases([case for case in cases if begin <= case.log_index < end])
        for begin, end in itertools.pairwise([*cuts, len(log)][: JUDGED_PARTS + 1])
    ]
    ends = [numbered.index(cut) for cut in (*cuts, len(log))]
    if min(map(len, judged)) < MIN_CASES or time.monotonic() > settings.deadline:
        return None
    fit = AdapterFit(vectors, settings.purchase_weight, settings.seed)
    progress, sources, epochs, recalls = stage(f"Adapting {kind.name} to the shop"), [], [], []
    for number, (begin, end) in enumerate(itertools.pairwise([0, *ends])):
        part = _Part(numbered.events[learnt_from(end) : end], max(0, begin - learnt_from(end)))
        if number < JUDGED_PARTS:
            until = time.monotonic() + FIRST_SHARE * (settings.deadline - time.monotonic())
            recalls.append(_learn(fit, part, judged[number], vectors, until))
            epochs.append(int(np.argmax(recalls[-1])))
        else:
            for _ in range(epochs[-1]):
                fit.epoch(part.events, part.begin, settings.deadline)
        sources.append(kind(fit.frozen()))
        progress(number + 1, len(ends))
    facts = {
        "epochs": epochs,
        "depth": depth_of(len(vectors)),
        "recall_alone": [[round(one, 6) for one in of_part] for of_part in recalls],
        "out_of_time": time.monotonic() > settings.deadline,
    }
    return FittedSource(cuts, list(sources[:-1]), sources[-1], facts)


class _Part(NamedTuple):
    """Events, and the index of the first one to learn; those before are history."""

    events: SpaceEvents
    begin: int


def _learn(fit: AdapterFit, part: _Part, judged: Sequence[SpaceCase], vectors: Vector, deadline: float) -> list[float]:
    """Learn a part until recall falls, and go back to the best state. Returns recall after 0, 1, ... epochs."""
    depth = depth_of(len(vectors))
    best, recalls = fit.state(), [recall(fit.frozen(), vectors, judged, depth)]
    while len(recalls) <= MAX_EPOCHS:
        is_whole = fit.epoch(part.events, part.begin, deadline)
        recalls.append(recall(fit.frozen(), vectors, judged, depth))
        if recalls[-1] == max(recalls):
            best = fit.state()
        if not is_whole or recalls[-1] < max(recalls):
            break
    fit.restore(best)
    return recalls


def depth_of(items: int) -> int:
    """Return at how many of the catalogue's items recall judges an epoch."""
    return int(min(DEPTH, max(LEAST_DEPTH, DEPTH_SHARE * items)))


class _NumberedLog:
    """A log by numbers of items, without the events about other items."""

    def __init__(self, log: Interactions, item_ids: Sequence[str]) -> None:
        self._number = {item_id: index for index, item_id in enumerate(item_ids)}
        number_of_code = np.array([self._number.get(item, -1) for item in log.names.items], np.int64)
        number = number_of_code[log.item]
        self._read = np.flatnonzero(number >= 0)
        self._all = SpaceEvents(log.user.astype(np.int64), number, log.is_purchase)
        self.events = self._all[self._read]
        self._log = log

    def index(self, log_index: int) -> int:
        """How many of `events` are before this index of the log."""
        return int(np.searchsorted(self._read, log_index))

    def cases(self, cases: Sequence[Case]) -> list[SpaceCase]:
        """Some of the cases with a history and a target that is not part of it."""
        by_user, begins = self._log.by_user
        found = []
        for case in cases[:: 1 + len(cases) // MAX_CASES]:
            user = self._log.user_codes[case.user]
            indices = by_user[begins[user] : begins[user + 1]]
            before = indices[: np.searchsorted(indices, case.log_index)]
            before = before[self._all.item[before] >= 0][: -1 - MAX_HISTORY : -1]
            history = self._all.item[before]
            targets = {self._number[target] for target in case.targets if target in self._number}
            if len(history) and (left := sorted(targets.difference(history.tolist()))):
                found.append(SpaceCase(history, self._all.is_purchase[before], left))
        return found

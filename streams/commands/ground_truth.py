"""What the lists of an evaluation are judged by: the cases of a split, in arrays."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from encoders.signals.satisfaction import of_event
from ranker.evaluation.baselines.compare import IndexedSplit
from ranker.evaluation.judge import GroundTruth
from ranker.evaluation.measures import COLD_EVENTS
from ranker.evaluation.protocols import Case


def ground_truth(
    indexed: IndexedSplit, vectors: npt.NDArray[np.float32], leaky: bool, type_weights: Mapping[str, float]
) -> GroundTruth:
    """Return the cases in arrays.

    Parameters
    ----------
    indexed : IndexedSplit
    vectors : (items, dim) float32
        Of the items' texts.
    leaky : bool
        Count all events of an item; else those up to each case.
    type_weights : mapping of str to float
        Of the types of events, which say how much an item satisfied.
    """
    split, ids = indexed.split, indexed.ids
    learnt = np.array([ids.items.get(item, -1) for item in split.log.names.items], np.intp)[split.learnt.item]
    total = np.bincount(learnt, minlength=len(vectors))
    counted, fed = total.copy() if leaky else np.zeros_like(total), 0
    cold_targets = []
    for case in split.cases:
        until = fed if leaky else split.learnable_before(case.log_index)
        np.add.at(counted, learnt[fed:until], 1)
        fed = until
        cold_targets.append(frozenset(item for item in indexed.targets(case) if counted[item] < COLD_EVENTS))
    counts = total.astype(np.float64) + 1
    weights = np.array([type_weights.get(type_, 0.0) for type_ in split.log.names.types])[split.log.type]
    return GroundTruth(
        users=np.array([ids.users[case.user] for case in split.cases], np.intp),
        targets=[indexed.targets(case) for case in split.cases],
        cold_targets=cold_targets,
        history_lengths=np.array([len(split.history_indices(case)) for case in split.cases], np.intp),
        shown=np.array([bool(case.shown_items) for case in split.cases]),
        information_bits=-np.log2(counts / counts.sum()),
        vectors=vectors,
        satisfied=[_satisfied(indexed, case, weights) for case in split.cases],
    )


def _satisfied(indexed: IndexedSplit, case: Case, weights: npt.NDArray[np.float64]) -> dict[int, float]:
    """How much each relevant item satisfied the user, by the user's events from the case on."""
    log, shares = indexed.split.log, dict[int, float]()
    order, begins = log.by_user
    user = log.user_codes[case.user]
    own = order[begins[user] : begins[user + 1]]
    for event in own[np.searchsorted(own, case.log_index) :].tolist():
        item = log.names.items[log.item[event]]
        if item in case.targets:
            number = indexed.ids.items[item]
            shares[number] = max(shares.get(number, 0.0), of_event(float(weights[event]), int(log.strength[event])))
    return shares

"""Learn what users choose in which context: for each value of a key, what its choices have more than all choices.

A classifier by centroids (Rocchio; Manning et al., "Introduction to information retrieval", 2008, chapter 14) of the
texts' vectors. Knows no source's features and no model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from encoders.interest import Vector
from ranker.evaluation.interactions import NONE, Codes, Interactions
from ranker.recall.user_signs import Choices
from ranker.train.fitted_source import learnt_from

MAX_VALUES = 64
"""Of a key, the most frequent ones; chosen by us: a key with more tells a user or a moment rather than a context."""
MIN_EVENTS = 20
"""Chosen by us: the mean of fewer texts is mostly chance."""


class ContextCodes(NamedTuple):
    """The values of a key, and which of them each event of a log has.

    Attributes
    ----------
    values : list of str
        At most `MAX_VALUES`.
    codes : (n,) int32
        Indices in `values`; `NONE` for an event with another value or with none.
    """

    values: list[str]
    codes: Codes


def codes_of(log: Interactions, key: str) -> ContextCodes:
    """Find the values of a key in the log."""
    found = Counter(context[key] for context in log.contexts.values() if key in context)
    code_of = {value: code for code, (value, _) in enumerate(found.most_common(MAX_VALUES))}
    users, nowhere = log.names.users, dict[str, str]()
    moments = zip(log.user.tolist(), log.time_ms.tolist(), strict=True)
    values = (log.contexts.get((users[user], time_ms), nowhere).get(key, "") for user, time_ms in moments)
    return ContextCodes(list(code_of), np.fromiter((code_of.get(value, NONE) for value in values), np.int32, len(log)))


def choices_before(end: int, log: Interactions, codes: Mapping[str, ContextCodes], vectors: Vector) -> Choices:
    """Return what is chosen in each context, by the events of the log before an index.

    Parameters
    ----------
    end : int
    log : Interactions
    codes : mapping of str to ContextCodes
        By key.
    vectors : (items, dim) float32
        The texts of the items, in the order of their codes in the log.
    """
    part = slice(learnt_from(end), end)
    choices: dict[str, dict[str, Vector]] = {}
    for key, (values, codes_of_events) in codes.items():
        items, of_events = log.item[part], codes_of_events[part]
        chosen = [np.bincount(items[of_events == code], minlength=len(vectors)) for code in range(len(values))]
        if not (count := sum(int(of_value.sum()) for of_value in chosen)):
            continue
        usual = np.sum(chosen, axis=0, dtype=np.float32) @ vectors / count
        choices[key] = {
            value: np.asarray(of_value.astype(np.float32) @ vectors / of_value.sum() - usual, np.float32)
            for value, of_value in zip(values, chosen, strict=True)
            if of_value.sum() >= MIN_EVENTS
        }
    return choices

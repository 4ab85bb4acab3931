"""The order of a log's events: by time, and within one time by chance. Knows no protocol and no file."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

import numpy as np

from ranker.evaluation.interactions import Codes, Indices, Interaction, Interactions


def ordered(events: Iterable[Interaction], seed: int, line_order: bool = False) -> Interactions:
    """Sort events by time; events of the same time in random order, or as they came if `line_order`.

    Lines of one invoice share a minute. In the order of the file, neighbours in the catalogue often follow each other,
    so that guessing the neighbour predicts 'the next line'; this says nothing about a recommender.
    """
    log = Interactions.of(events)
    order = np.arange(len(log))
    if not line_order:
        shuffled = _by_content(log).tolist()  # the result depends on the events alone, whatever order they came in
        random.Random(seed).shuffle(shuffled)
        order = np.array(shuffled, np.int64)
    return log[order[np.argsort(log.time_ms[order], kind="stable")]]


def _by_content(log: Interactions) -> Indices:
    """Indices that sort the events by user, item, time, kind, basket and list, each as its `repr` sorts."""
    names, digits = log.names, _digits(log.time_ms)
    return np.lexsort(
        (
            _ranks(range(-128, 128))[log.strength.astype(np.int64) + 128],
            _ranks(names.lists)[log.list_id],
            _ranks(names.baskets)[log.basket],
            _ranks(names.types)[log.type],
            digits,
            log.time_ms * 10 ** (18 - digits),
            _ranks(names.items)[log.item],
            _ranks(names.users)[log.user],
        )
    )


def _ranks(names: Sequence[object]) -> Codes:
    """The rank of the `repr` of each name; that of None is the last entry, which index `NONE` reads."""
    texts = [*map(repr, names), repr(None)]
    ranks = np.empty(len(texts), np.int32)
    ranks[sorted(range(len(texts)), key=texts.__getitem__)] = np.arange(len(texts), dtype=np.int32)
    return ranks


def _digits(numbers: Indices) -> Indices:
    """How many decimal digits each number has, 0 or more."""
    return np.searchsorted(10 ** np.arange(1, 19, dtype=np.int64), numbers, side="right") + 1

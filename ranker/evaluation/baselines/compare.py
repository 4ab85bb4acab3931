"""Tune the baselines on the validation part, then let them rank the cases of the test part.

Time passes as in production: before a case, a baseline has learnt from earlier events only, and is fitted again when
the log has grown by its `staleness`; the user's own events are always the newest. In a leaky split it learns all
learnable events first, other users' later events too, as in most papers.

Knows no transport.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ranker.evaluation.baselines.method import Budget, Corpus, Events, Method, Query, Scores, Setting
from ranker.evaluation.baselines.methods import METHODS
from ranker.evaluation.ids import IdIndex
from ranker.evaluation.judge import RECALL_K
from ranker.evaluation.measures import K, ndcg_of_lists
from ranker.evaluation.protocols import Case, RankedList, Split, basket_numbers
from ranker.progress import StageProgress

BLOCK = 128
"""Most cases scored at once: 128 rows of a score for 100,000 items are 51 MB."""
BLOCK_GROWTH = 0.01
VALIDATION_CASES = 500
"""Most cases of a trial: with them NDCG@10 about .08 has a standard error of .005. Chosen by us, for time."""
TUNING_SHARE = 0.5
"""Of the seconds of a baseline that trains for long; the rest is for the fit that is measured."""


class IndexedSplit:
    """A split with indices in place of ids: its log in columns, and its cases as the baselines take them.

    Parameters
    ----------
    split : Split
    ids : IdIndex
        Of all users and items of the split.
    """

    def __init__(self, split: Split, ids: IdIndex) -> None:
        self.split = split
        self.ids = ids
        self.learnable = split.learnable
        log = split.log
        self._log = Events(
            np.array([ids.users.get(user, -1) for user in log.names.users], np.int64)[log.user],
            np.array([ids.items.get(item, -1) for item in log.names.items], np.int64)[log.item],
            log.time_ms,
            basket_numbers(split.log),
        )

    def learnable_before(self, index: int) -> int:
        """How many events before an index of the log are learnable."""
        return self.split.learnable_before(index)

    def first(self, count: int) -> Events:
        """The first `count` learnable events."""
        return self._log[self.learnable[:count]]

    def query(self, case: Case) -> Query:
        return Query(
            self.ids.users[case.user],
            self._log[self.split.history_indices(case)],
            case.as_of_ms,
        )

    def targets(self, case: Case) -> frozenset[int]:
        return frozenset(self.ids.items[item] for item in case.targets)


@dataclass(frozen=True)
class Tuned:
    """The result of tuning a baseline.

    Attributes
    ----------
    setting : Setting
        The best one.
    ndcg : float or None
        Its NDCG@10 on the validation part; None if nothing was tried.
    trials : int
    seconds : float
    """

    setting: Setting
    ndcg: float | None
    trials: int
    seconds: float


@dataclass(frozen=True)
class Plan:
    """How to compare.

    Attributes
    ----------
    trials : int
        Settings tried for each baseline.
    seconds : float
        For tuning and fitting, of each baseline that trains for long.
    seed : int
    leaky : bool
        Whether the split is leaky: all learnable events are learnt before the first case.
    available : (items,) bool
        Other items are never recommended.
    """

    trials: int
    seconds: float
    seed: int
    leaky: bool
    available: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class BaselineResult:
    """A baseline's list for each case, the seconds for fitting and ranking, and its own account of the fit."""

    lists: list[RankedList]
    seconds: float
    account: str


def tune(
    names: Sequence[str], validation: IndexedSplit, corpus: Corpus, plan: Plan, stage: StageProgress
) -> dict[str, Tuned]:
    """Choose each baseline's setting by NDCG@10 on the validation part, with as many trials each; the default first.

    Each trial is fitted once and ranks the cases that follow; the earlier of equal trials wins.
    """
    index, cases = _validation_cases(validation.split, plan)
    events = validation.first(validation.learnable_before(index))
    ranking = CaseRanking(validation, cases, plan)
    can_try = len(events) > 0 and len(cases) > 0
    tuned: dict[str, Tuned] = {}
    fitted: dict[str, Method] = {}
    for number, name in enumerate(names):
        kind, started = METHODS[name], time.monotonic()
        settings = _trials(kind.grid, plan.trials, plan.seed) if can_try else _trials(kind.grid, 1, 0)
        best: tuple[float, Setting, Method | None] = (-1.0, settings[0], None)
        budget = Budget(plan.seed, plan.seconds * TUNING_SHARE / len(settings), max(len(events), 1))
        needed = len(settings) > 1 or any(name in METHODS[other].parts for other in names)
        for trial, setting in enumerate(settings if needed and can_try else []):
            stage(f"Tuning {name}, {trial + 1} of {len(settings)}")(number, len(names))
            method = kind(setting, corpus, budget, [fitted[part] for part in kind.parts])
            method.fit(events)
            ndcg = ranking.ndcg(method)
            if ndcg > best[0]:
                best = ndcg, setting, method
        if best[2] is not None:
            fitted[name] = best[2]
        seconds = time.monotonic() - started
        tuned[name] = Tuned(best[1], None if best[2] is None else best[0], len(settings), seconds)
    return tuned


def rank_all(
    tuned: Mapping[str, Tuned], test: IndexedSplit, corpus: Corpus, plan: Plan, stage: StageProgress
) -> dict[str, BaselineResult]:
    """Let each tuned baseline, a mixture after its parts, rank all cases in their order."""
    budget = Budget(plan.seed, plan.seconds * (1 - TUNING_SHARE), max(len(test.learnable), 1))
    methods: dict[str, Method] = {}
    for name, choice in tuned.items():
        kind = METHODS[name]
        methods[name] = kind(choice.setting, corpus, budget, [methods[part] for part in kind.parts])
    learnt = dict.fromkeys(methods, -1)
    lists: dict[str, list[RankedList]] = {name: [] for name in methods}
    seconds = dict.fromkeys(methods, 0.0)
    done = 0
    for block, count in _blocks(test, plan.leaky):
        ranking = CaseRanking(test, block, plan)
        for name, method in methods.items():
            stage(name)(done, len(test.split.cases))
            started = time.monotonic()
            if learnt[name] < 0 or count > learnt[name] * (1 + method.staleness):
                method.fit(test.first(count))
                learnt[name] = count
            lists[name].extend(ranking.lists(method))
            seconds[name] += time.monotonic() - started
        done += len(block)
    return {name: BaselineResult(lists[name], seconds[name], method.account()) for name, method in methods.items()}


class CaseRanking:
    """Some cases of a split, and the lists that a baseline's scores make of them."""

    def __init__(self, split: IndexedSplit, cases: Sequence[Case], plan: Plan) -> None:
        self._split = split
        self._cases = cases
        self._queries = [split.query(case) for case in cases]
        self._plan = plan
        self._shuffle = np.random.default_rng(plan.seed).permutation(len(plan.available))

    def lists(self, method: Method) -> Iterator[RankedList]:
        """The lists by a method's scores. Ties are in random order, the same for every method."""
        for begin in range(0, len(self._cases), BLOCK):
            end = begin + BLOCK
            scores = method.scores(self._queries[begin:end])
            for case, query, row in zip(self._cases[begin:end], self._queries[begin:end], scores, strict=True):
                yield self._list(case, query, row, method.corpus)

    def ndcg(self, method: Method) -> float:
        """Mean NDCG@10 of the lists by a method's scores."""
        ranked = [list_.ranked for list_ in self.lists(method)]
        return float(ndcg_of_lists(ranked, [self._split.targets(case) for case in self._cases], K).mean())

    def _list(self, case: Case, query: Query, scores: Scores, corpus: Corpus) -> RankedList:
        if case.shown_items:
            items = self._split.ids.items
            choice = np.array(list(dict.fromkeys(items[item] for item in case.shown_items)), np.int64)
        else:
            allowed = self._plan.available & (corpus.appeared_ms <= query.as_of_ms)
            allowed[query.history.item] = False
            choice = self._shuffle[allowed[self._shuffle]]
        order = choice[np.argsort(-scores[choice], kind="stable")].tolist()
        best = order if case.shown_items else order[:RECALL_K]
        return RankedList(best, best)


def _validation_cases(split: Split, plan: Plan) -> tuple[int, list[Case]]:
    """The index of the log up to which trials learn, and the cases that they rank after it."""
    cases = split.cases
    index = split.fit_until
    if index == len(split.log) and not plan.leaky and cases:
        index = cases[len(cases) // 2].log_index  # cases lie all along the log: take the later half, after one fit
        cases = [case for case in cases if case.log_index >= index]
    drawn = random.Random(plan.seed).sample(cases, min(VALIDATION_CASES, len(cases)))
    return index, sorted(drawn, key=lambda case: case.log_index)


def _trials(grid: Mapping[str, Sequence[Any]], count: int, seed: int) -> list[Setting]:
    """The defaults, then others drawn at random."""
    default, *others = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    random.Random(seed).shuffle(others)
    return [default, *others[: count - 1]]


def _blocks(test: IndexedSplit, leaky: bool) -> Iterator[tuple[list[Case], int]]:
    """Cases between which few events lie, and how many events may be learnt before the first of them."""
    block: list[Case] = []
    count = 0
    for case in test.split.cases:
        learnable = len(test.learnable) if leaky else test.learnable_before(case.log_index)
        if block and (len(block) == BLOCK or learnable > count * (1 + BLOCK_GROWTH)):
            yield block, count
            block = []
        if not block:
            count = learnable
        block.append(case)
    if block:
        yield block, count

"""Tune the traditional methods on the validation part, then ask them what the test part asks.

Time passes as in production: before a question, a method has learned from events before it and from no others, and is
fitted anew when the log has grown by its `staleness`; the user's own events are always the newest. With `peek`, it
learns all that may be learned first, other users' later events too, as most papers do.

Knows no transport; called by `afterclick evaluate`.
"""

from __future__ import annotations

import itertools
import random
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ranker.evaluation.baselines.method import Budget, Events, Method, Query, Scores, Setting, Shop
from ranker.evaluation.baselines.methods import METHODS
from ranker.evaluation.judge import RECALL_K, RankedList
from ranker.evaluation.measures import ndcg_at
from ranker.evaluation.protocols import Case, Split, basket_numbers

BLOCK = 128
"""Most questions scored at once: 128 rows of a score for 100,000 items are 51 MB."""
BLOCK_GROWTH = 0.01
VALIDATION_CASES = 500
"""Most questions of a trial: with them NDCG@10 about .08 has a standard error of .005. Chosen by us, for time."""
TUNING_SHARE = 0.5
"""Of the seconds of a method that trains for long; the rest is for the fit that is measured."""


@dataclass(frozen=True)
class Numbers:
    """Which number a user and an item have."""

    users: Mapping[str, int]
    items: Mapping[str, int]


class Asked:
    """A split in numbers: its log as columns, and its questions as the methods take them."""

    def __init__(self, split: Split, numbers: Numbers) -> None:
        self.split = split
        self.numbers = numbers
        self.learnable = np.array(split.learnable, np.int64)
        self._log = Events(
            np.array([numbers.users[event.user] for event in split.log], np.int64),
            np.array([numbers.items[event.item] for event in split.log], np.int64),
            np.array([event.time_ms for event in split.log], np.int64),
            np.array(basket_numbers(split.log), np.int64),
        )

    def learned_by(self, place: int) -> int:
        """How many events may be learned before a place of the log."""
        return bisect_left(self.split.learnable, place)

    def first(self, count: int) -> Events:
        """The first so many learnable events."""
        return self._log[self.learnable[:count]]

    def query(self, case: Case) -> Query:
        return Query(
            self.numbers.users[case.user],
            self._log[np.array(self.split.known_places(case), np.int64)],
            case.as_of_ms,
        )

    def targets(self, case: Case) -> frozenset[int]:
        return frozenset(self.numbers.items[item] for item in case.targets)


@dataclass(frozen=True)
class Tuned:
    """The chosen setting, its NDCG@10 on the validation part, and what was tried."""

    setting: Setting
    ndcg: float | None
    trials: int
    seconds: float


@dataclass(frozen=True)
class Plan:
    """How to compare.

    Attributes
    ----------
    trials : settings tried for each method.
    seconds : for tuning and fitting, of each method that trains for long.
    available : (items,) bool; others are recommended by nobody.
    """

    trials: int
    seconds: float
    seed: int
    peek: bool
    available: npt.NDArray[np.bool_]


Say = Callable[[str, int, int], None]
"""Called with what goes on, how much is done and how much there is."""


def tune(names: Sequence[str], validation: Asked, shop: Shop, plan: Plan, say: Say) -> dict[str, Tuned]:
    """Choose each method's setting by NDCG@10 on the validation part, by the same number of trials; the default first.

    Each trial is fitted once and asked what came after; ties go to the earlier trial.
    """
    place, cases = _validation_cases(validation.split, plan)
    events = validation.first(validation.learned_by(place))
    asking = Asking(validation, cases, plan)
    tuned: dict[str, Tuned] = {}
    fitted: dict[str, Method] = {}
    for number, name in enumerate(names):
        kind, started = METHODS[name], time.monotonic()
        settings = _trials(kind.grid, plan.trials, plan.seed) if len(events) and cases else _trials(kind.grid, 1, 0)
        best: tuple[float, Setting, Method | None] = (-1.0, settings[0], None)
        budget = Budget(plan.seed, plan.seconds * TUNING_SHARE / len(settings), max(len(events), 1))
        needed = len(settings) > 1 or any(name in METHODS[other].parts for other in names)
        for trial, setting in enumerate(settings if needed and len(events) and cases else []):
            say(f"Tuning {name}, {trial + 1} of {len(settings)}", number, len(names))
            method = kind(setting, shop, budget, [fitted[part] for part in kind.parts])
            method.fit(events)
            ndcg = asking.ndcg(method)
            if ndcg > best[0]:
                best = ndcg, setting, method
        if best[2] is not None:
            fitted[name] = best[2]
        seconds = time.monotonic() - started
        tuned[name] = Tuned(best[1], None if best[2] is None else best[0], len(settings), seconds)
    return tuned


def ask(
    names: Sequence[str], tuned: Mapping[str, Tuned], test: Asked, shop: Shop, plan: Plan, say: Say
) -> dict[str, tuple[list[RankedList], float, str]]:
    """Each method's answers to all questions, in their order; seconds that it took to fit and ask; its own account."""
    everything = len(test.learnable)
    budget = Budget(plan.seed, plan.seconds * (1 - TUNING_SHARE), max(everything, 1))
    methods: dict[str, Method] = {}
    for name in names:
        methods[name] = METHODS[name](tuned[name].setting, shop, budget, [methods[p] for p in METHODS[name].parts])
    learned = dict.fromkeys(names, -1)
    answers: dict[str, list[RankedList]] = {name: [] for name in names}
    seconds = dict.fromkeys(names, 0.0)
    cases, done = test.split.cases, 0
    for block, count in _blocks(test, plan.peek):
        asking = Asking(test, block, plan)
        for name, method in methods.items():
            say(name, done, len(cases))
            started = time.monotonic()
            if learned[name] < 0 or count > learned[name] * (1 + method.staleness):
                method.fit(test.first(count))
                learned[name] = count
            answers[name].extend(asking.answers(method))
            seconds[name] += time.monotonic() - started
        done += len(block)
    return {name: (answers[name], seconds[name], methods[name].account()) for name in names}


class Asking:
    """Some questions of a split, and the lists that scores make of them."""

    def __init__(self, asked: Asked, cases: Sequence[Case], plan: Plan) -> None:
        self._asked = asked
        self._cases = cases
        self._queries = [asked.query(case) for case in cases]
        self._plan = plan
        self._shuffle = np.random.default_rng(plan.seed).permutation(len(plan.available))

    def answers(self, method: Method) -> Iterator[RankedList]:
        """The lists by a method's scores; equal ones are in one random order, the same for every method."""
        for begin in range(0, len(self._cases), BLOCK):
            end = begin + BLOCK
            scores = method.scores(self._queries[begin:end])
            for case, query, row in zip(self._cases[begin:end], self._queries[begin:end], scores, strict=True):
                yield self._answer(case, query, row, method.shop)

    def ndcg(self, method: Method) -> float:
        targets = [self._asked.targets(case) for case in self._cases]
        each = zip(self.answers(method), targets, strict=True)
        return float(np.mean([ndcg_at(answer.ranked, wanted, 10) for answer, wanted in each]))

    def _answer(self, case: Case, query: Query, scores: Scores, shop: Shop) -> RankedList:
        if case.shown:
            items = self._asked.numbers.items
            choice = np.array(list(dict.fromkeys(items[item] for item in case.shown)), np.int64)
        else:
            allowed = self._plan.available & (shop.appeared_ms <= query.as_of_ms)
            allowed[query.history.item] = False
            choice = self._shuffle[allowed[self._shuffle]]
        order = choice[np.argsort(-scores[choice], kind="stable")].tolist()
        best = order if case.shown else order[:RECALL_K]
        return RankedList(best, best)


def _validation_cases(split: Split, plan: Plan) -> tuple[int, list[Case]]:
    """Where to fit, and what to ask after it."""
    cases = split.cases
    place = split.fit_until
    if place == len(split.log) and not plan.peek and cases:
        place = cases[len(cases) // 2].place  # users are asked all along: the later half, after one fit
        cases = [case for case in cases if case.place >= place]
    chosen = random.Random(plan.seed).sample(cases, min(VALIDATION_CASES, len(cases)))
    return place, sorted(chosen, key=lambda case: case.place)


def _trials(grid: Mapping[str, Sequence[Any]], count: int, seed: int) -> list[Setting]:
    """The defaults, then others drawn at random."""
    default, *others = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    random.Random(seed).shuffle(others)
    return [default, *others[: count - 1]]


def _blocks(test: Asked, peek: bool) -> Iterator[tuple[list[Case], int]]:
    """Questions between which little happened, and how many events may be learned before the first of them."""
    block: list[Case] = []
    count = 0
    for case in test.split.cases:
        learned = len(test.learnable) if peek else test.learned_by(case.place)
        if block and (len(block) == BLOCK or learned > count * (1 + BLOCK_GROWTH)):
            yield block, count
            block = []
        if not block:
            count = learned
        block.append(case)
    if block:
        yield block, count

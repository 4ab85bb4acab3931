"""The interface of every baseline, and the log in columns, from which the baselines learn.

Users and items are indices; times are milliseconds. Knows no transport and no protocol.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

DAY_MS = 86_400_000.0
Setting = Mapping[str, Any]
Grid = Mapping[str, Sequence[Any]]
Ints = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Events:
    """Events in the order of time, as columns.

    Attributes
    ----------
    user, item, basket : (n,) int64
        Indices of users and items, and numbers of baskets.
    time_ms : (n,) int64
        Milliseconds since the epoch.
    """

    user: Ints
    item: Ints
    time_ms: Ints
    basket: Ints

    def __len__(self) -> int:
        return len(self.item)

    def __getitem__(self, indices: Ints | slice) -> Events:
        return Events(self.user[indices], self.item[indices], self.time_ms[indices], self.basket[indices])


@dataclass(frozen=True)
class Corpus:
    """All users and items.

    Attributes
    ----------
    users : int
        How many there are.
    vectors : (items, dim) float32
        Of the items' texts, unit length.
    appeared_ms : (items,) int64
        When each item appeared, milliseconds since the epoch; 0 where the item does not say.
    """

    users: int
    vectors: npt.NDArray[np.float32]
    appeared_ms: Ints

    @property
    def items(self) -> int:
        return len(self.vectors)


@dataclass(frozen=True)
class Query:
    """A test case as a baseline sees it.

    Attributes
    ----------
    user : int
    history : Events
        The user's own events before the case, oldest first.
    as_of_ms : int
        The moment of the case, milliseconds since the epoch.
    """

    user: int
    history: Events
    as_of_ms: int


@dataclass(frozen=True)
class Budget:
    """What bounds a fit.

    Attributes
    ----------
    seed : int
        Of all random numbers.
    seconds : float
        For a baseline that trains for long: its time for `events` events.
    events : int
    """

    seed: int
    seconds: float
    events: int


class Method(ABC):
    """A baseline.

    Attributes
    ----------
    name : str
        As in the table.
    grid : mapping of str to sequence
        The values of each setting, its default first.
    parts : sequence of str
        Names of the methods that it builds on; it receives them fitted, with the settings chosen for them.
    staleness : float
        It is fitted again when the log has grown by this share since the last fit.
    """

    name: ClassVar[str]
    grid: ClassVar[Grid] = {}
    parts: ClassVar[Sequence[str]] = ()
    staleness: ClassVar[float] = 0.02

    def __init__(self, setting: Setting, corpus: Corpus, budget: Budget, parts: Sequence[Method] = ()) -> None:
        self.setting = setting
        self.corpus = corpus
        self.budget = budget
        self.fitted_parts = parts

    @abstractmethod
    def fit(self, events: Events) -> None:
        """Learn from all events up to now. A later call brings the same events and newer ones."""

    @abstractmethod
    def scores(self, queries: Sequence[Query]) -> Scores:
        """(queries, items) float32, higher is better."""

    def account(self) -> str:
        """What a reader of the figures must know about the fit; empty if there is nothing."""
        return ""


def recent(query: Query, window: int) -> Ints:
    """The user's last `window` items, newest first; an item that recurs stands at its newest position."""
    newest_first = query.history.item[::-1][: 4 * window]
    _, first = np.unique(newest_first, return_index=True)
    return newest_first[np.sort(first)][:window]


def decayed(events: Events, half_life_days: float | None) -> npt.NDArray[np.float64]:
    """(n,) weights: 1 for the newest event, halved for each half-life before it; all 1 without a half-life."""
    if half_life_days is None or not len(events):
        return np.ones(len(events))
    weights: npt.NDArray[np.float64] = np.exp2((events.time_ms - events.time_ms[-1]) / (half_life_days * DAY_MS))
    return weights

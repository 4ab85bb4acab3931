"""What every traditional method keeps to, and the log as columns of numbers, which they learn from.

Users and items are numbered; times are milliseconds. Knows no transport and no protocol; `tune` and the evaluation
call the methods.
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
    """Events in order, as columns of int64, each (n,): numbers of users, items and baskets, and times."""

    user: Ints
    item: Ints
    time_ms: Ints
    basket: Ints

    def __len__(self) -> int:
        return len(self.item)

    def __getitem__(self, places: Ints | slice) -> Events:
        return Events(self.user[places], self.item[places], self.time_ms[places], self.basket[places])


@dataclass(frozen=True)
class Shop:
    """What there is: the number of users, and of each item its text's vector and when it appeared.

    Attributes
    ----------
    vectors : (items, dim) float32, unit length.
    appeared_ms : (items,) int64; 0 where nobody says.
    """

    users: int
    vectors: npt.NDArray[np.float32]
    appeared_ms: Ints

    @property
    def items(self) -> int:
        return len(self.vectors)


@dataclass(frozen=True)
class Query:
    """A question: the user's own events up to now, oldest first."""

    user: int
    history: Events
    as_of_ms: int


@dataclass(frozen=True)
class Budget:
    """What limits a fit: the seed of all chance, and for those that train for long, seconds for so many events."""

    seed: int
    seconds: float
    events: int


class Method(ABC):
    """A traditional method.

    Attributes
    ----------
    name : as in the table.
    grid : values of each setting, its default first.
    parts : names of the methods that it builds on; it gets them fitted, with the settings chosen for them.
    staleness : it is fitted anew when the log has grown by this share since.
    """

    name: ClassVar[str]
    grid: ClassVar[Grid] = {}
    parts: ClassVar[Sequence[str]] = ()
    staleness: ClassVar[float] = 0.02

    def __init__(self, setting: Setting, shop: Shop, budget: Budget, parts: Sequence[Method] = ()) -> None:
        self.setting = setting
        self.shop = shop
        self.budget = budget
        self.fitted_parts = parts

    @abstractmethod
    def fit(self, events: Events) -> None:
        """Learn from all events up to now; called again with more of them as time goes by."""

    @abstractmethod
    def scores(self, queries: Sequence[Query]) -> Scores:
        """(queries, items) float32, higher is better."""

    def account(self) -> str:
        """What a reader of the figures must know of the fit; empty: nothing."""
        return ""


def recent(query: Query, window: int) -> Ints:
    """The user's last `window` items, newest first; one that recurs stands at its newest place."""
    newest_first = query.history.item[::-1][: 4 * window]
    _, first = np.unique(newest_first, return_index=True)
    return newest_first[np.sort(first)][:window]


def decayed(events: Events, half_life_days: float | None) -> npt.NDArray[np.float64]:
    """(n,) weights: 1 for the newest event, half of it each half-life before; 1 for all without one."""
    if half_life_days is None or not len(events):
        return np.ones(len(events))
    weights: npt.NDArray[np.float64] = np.exp2((events.time_ms - events.time_ms[-1]) / (half_life_days * DAY_MS))
    return weights

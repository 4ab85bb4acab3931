"""The settings of a fit, and the events that it reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ranker.neighbours.sequences import Ints

Kind = Literal["slit", "slis", "ease"]


@dataclass(frozen=True)
class NeighbourSettings:
    """Settings of a fit.

    Attributes
    ----------
    kind : {'slit', 'slis', 'ease'}
    ridge : float
        The paper's lambda.
    past, future : float
        Events after which the weight in the past and in the future of a split has fallen to 1 / e; of `slit` alone.
    served : float
        The same of a user's items when the table is read.
    half_life_days : float, optional
        After this time an event counts half as much in the fit; None: all count the same.
    predictors : int, optional
        The items that may have a weight to an item, see `ranker.neighbours.local`; None: all items may.
    """

    kind: Kind = "slit"
    ridge: float = 300.0
    past: float = 8.0
    future: float = 4.0
    served: float = 64.0
    half_life_days: float | None = 90.0
    predictors: int | None = 50


@dataclass(frozen=True)
class NeighbourEvents:
    """Clicks and purchases as columns; those of the same user and time in any order.

    Attributes
    ----------
    user, item : (n,) int64
        Indices.
    time_ms : (n,) int64
        Milliseconds since the epoch.
    """

    user: Ints
    item: Ints
    time_ms: Ints

    def __len__(self) -> int:
        return len(self.item)

    def __getitem__(self, indices: npt.NDArray[np.intp] | slice) -> NeighbourEvents:
        return NeighbourEvents(self.user[indices], self.item[indices], self.time_ms[indices])

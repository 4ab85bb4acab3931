"""The steps of a world in order: items, what people do, and what they want. Knows no world."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from encoders.event_time import milliseconds
from streams.contracts import Click, Impression, Item, UserEvent

START_MS = 1_767_225_600_000  # 2026-01-01
SECOND_MS, MINUTE_MS, HOUR_MS, DAY_MS = 1_000, 60_000, 3_600_000, 86_400_000

Rng = np.random.Generator


class Demand(NamedTuple):
    """A user who looks at the list now.

    Attributes
    ----------
    user_id : str
    time_ms : int
    gains : mapping of str to float
        What each item is worth that the user wants now; all others are worth nothing.
    """

    user_id: str
    time_ms: int
    gains: Mapping[str, float]


Step = Item | Click | Impression | Demand
"""What happens at a moment. An item that comes again replaces itself: so one that is not available any more leaves."""


def in_order(steps: Iterable[Step]) -> list[Step]:
    """Sort steps by time; those of one time stay as they are. Nobody asks for what is not there then."""
    ordered, available = list[Step](), set[str]()
    for step in sorted(steps, key=time_of):
        if isinstance(step, Item):
            (available.add if step.available else available.discard)(step.item_id)
        elif isinstance(step, Demand):
            gains = {item: gain for item, gain in step.gains.items() if item in available}
            if gains:
                ordered.append(step._replace(gains=gains))
            continue
        ordered.append(step)
    return ordered


def time_of(step: Step) -> int:
    """Return when a step happens, milliseconds since the epoch; an item comes at its own `timestamp`."""
    if isinstance(step, Demand):
        return step.time_ms
    return milliseconds(step.timestamp) if step.timestamp is not None else START_MS


class Diary:
    """Writes down what users do, with ids that are unique in a world.

    Attributes
    ----------
    steps : list of Step
    """

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def looks(self, user_id: str, item_id: str, time_ms: int, dwell_s: float | None = None) -> None:
        """A user looked at an item until `time_ms`."""
        dwell_ms = None if dwell_s is None else round(dwell_s * SECOND_MS)
        self.steps.append(
            Click(event_id=self._id(), user_id=user_id, item_id=item_id, timestamp=time_ms, dwell_ms=dwell_ms)
        )

    def does(self, user_id: str, type_: str, item_id: str, time_ms: int) -> None:
        """A user did something else with an item."""
        self.steps.append(
            UserEvent(event_id=self._id(), user_id=user_id, item_id=item_id, timestamp=time_ms, type=type_)
        )

    def sees(self, user_id: str, items: Sequence[str], time_ms: int) -> None:
        """A user was shown items."""
        event_id = self._id()
        self.steps.append(
            Impression(event_id=event_id, user_id=user_id, list_id=event_id, items=list(items), timestamp=time_ms)
        )

    def asks(self, user_id: str, time_ms: int, gains: Mapping[str, float]) -> None:
        """A user looks at the list, and wants some items."""
        if gains:
            self.steps.append(Demand(user_id, time_ms, gains))

    def _id(self) -> str:
        return f"e{len(self.steps)}"


def drawn(rng: Rng, weights: np.ndarray) -> int:
    """Draw an index with these weights; they may not all be 0."""
    total = weights.cumsum()
    return int(np.searchsorted(total, rng.random() * total[-1], "right"))


def tastes(rng: Rng, topics: int, liked: int = 3) -> np.ndarray:
    """Return how much a person likes each topic, (topics,): a few very much, the others a little."""
    taste = np.full(topics, 0.02)
    taste[rng.choice(topics, liked, replace=False)] = rng.uniform(0.5, 1.0, liked)
    return taste

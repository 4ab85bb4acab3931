"""Exploration in the rank tier: which lists are explored, and which candidates may come into them.

A list is explored if a model with a fusion head ranked it. The first place and what rules pin stay; an item of which
rules or categories limit the number does not come in. Off, no model is asked for anything, and no list has a byte more.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from encoders.event_time import milliseconds
from ranker.exploration.places import Draws, explore, seed_of
from ranker.rules.effects import Effects
from ranker.score import Explorer, Scorer, ScoreRequest
from streams.contracts import Candidate, RankRequest
from streams.rank import exploration_metrics
from streams.settings import RankerSettings


class SeededDraws(NamedTuple):
    """Drawn scores of a list's candidates, (draws, candidates), and the seed of the list."""

    draws: Draws
    seed: int


class Exploration:
    """Asks a model for draws, and explores lists with them.

    Parameters
    ----------
    settings : RankerSettings
        `explore`, `explore_max_loss` and `max_per_category` are used.
    """

    def __init__(self, settings: RankerSettings) -> None:
        self._settings = settings

    def seeded(self, asked: ScoreRequest, request: RankRequest) -> ScoreRequest:
        """Return what a scorer is asked, with the seed of the list: the same for the same state of a user."""
        if not self._settings.explore:
            return asked
        as_of_ms = milliseconds(request.as_of)
        return replace(asked, seed=seed_of(request.user_id, request.placement, as_of_ms, request.state_version))

    def take_draws(self, scorer: Scorer, asked: Sequence[ScoreRequest]) -> list[SeededDraws | None]:
        """Return the draws of lists that were scored; None for each list without any."""
        if not self._settings.explore or not isinstance(scorer, Explorer):
            return [None] * len(asked)
        draws = scorer.take_draws([request.list_id for request in asked])
        return [
            SeededDraws(of_list, request.seed) if of_list is not None and request.seed is not None else None
            for request, of_list in zip(asked, draws, strict=True)
        ]

    def of(self, draws: SeededDraws | None, candidates: Sequence[Candidate], effects: Effects) -> Explored | None:
        """Return what explores a list; None if exploration is off.

        Parameters
        ----------
        draws : SeededDraws or None
            Of the list; None for a list that is not explored.
        candidates : sequence of Candidate
            Those that were scored, followed by those that rules inserted.
        effects : Effects
            Of the rules.
        """
        return Explored(self._settings, draws, candidates, effects) if self._settings.explore else None


class Explored:
    """Explores one list.

    Attributes
    ----------
    propensities : list of float
        Of the list's items, rank 1 first, once it was called; empty if the list is not explored.
    """

    def __init__(
        self,
        settings: RankerSettings,
        draws: SeededDraws | None,
        candidates: Sequence[Candidate],
        effects: Effects,
    ) -> None:
        self.propensities: list[float] = []
        self._settings = settings
        self._draws = draws
        self._candidates = candidates
        self._effects = effects

    def __call__(self, taken: list[int], ranked: Sequence[int]) -> list[int]:
        """Return the candidates of the list.

        Parameters
        ----------
        taken : list of int
            Indices of the candidates in the list, rank 1 first.
        ranked : sequence of int
            Indices of all candidates that may be in it, best first.
        """
        if self._draws is None:
            exploration_metrics.lists.labels("not-explored").inc()
            return taken
        share, max_loss = self._settings.explore, self._settings.explore_max_loss
        outside = self._may_come_in(taken, ranked)
        explored = explore(taken, outside, self._fixed(taken), self._draws.draws, share, max_loss, self._draws.seed)
        exploration_metrics.lists.labels("moved" if explored.moved else "unmoved").inc()
        exploration_metrics.places.inc(explored.moved)
        self.propensities = [float(f"{propensity:.4g}") for propensity in explored.propensities]
        return explored.indices

    def _fixed(self, taken: Sequence[int]) -> set[int]:
        """What rules brought into the list, or may have."""
        pinned = {index for pin in self._effects.pins for index in pin.indices}
        return pinned.union(index for index in taken if index >= self._scored)

    def _may_come_in(self, taken: Sequence[int], ranked: Sequence[int]) -> list[int]:
        """The candidates that may come into the list, however many of them do."""
        limited = {index for cap in self._effects.caps for index in cap.groups}
        demoted = {index for index, factor in self._effects.factors.items() if factor < 1}
        in_list = set(taken)
        room = self._settings.max_per_category - math.ceil(self._settings.explore * len(taken))
        per_category = Counter(category for index in taken for category in self._candidates[index].categories[-1:])
        return [
            index
            for index in ranked
            if index not in in_list
            and index not in limited
            and index not in demoted
            and index < self._scored
            and not self._candidates[index].shown
            and self._candidates[index].pull >= 0
            and all(per_category[category] <= room for category in self._candidates[index].categories[-1:])
        ]

    @property
    def _scored(self) -> int:
        """How many candidates were scored; rules inserted the others."""
        return len(self._candidates) - len(self._effects.inserted)

"""Step 5, select: scores to a list, by rules that hold for every model, with a reason for each item.

Pure; knows no transport and no model.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from ranker.reasons.grounds import Evidence, ReasonedItem, grounds_of
from ranker.reasons.language import Language, english
from ranker.rules.arrange import arrange
from ranker.rules.effects import Effects
from ranker.rules.exposure import Bounded

NO_EFFECTS = Effects()
PULL = 10.0
"""Chosen by us: the third of a list of 20 may leave it, and the thirtieth candidate may become the third."""


class ScoredCandidate(ReasonedItem, Protocol):
    """The fields of a candidate that selection needs, as in a rank request."""

    @property
    def shown(self) -> bool: ...
    @property
    def pull(self) -> float: ...


@dataclass(frozen=True)
class SelectedItem:
    """One item of a list.

    Attributes
    ----------
    position : int
        The candidate's index in the input.
    score : float
    reason : str
        A sentence for the user.
    evidence : tuple of str
        Ids of the items that the reason cites.
    """

    position: int
    score: float
    reason: str
    evidence: tuple[str, ...]


class Selection(NamedTuple):
    """The items of a list.

    Attributes
    ----------
    items : list of SelectedItem
        Rank 1 first.
    moved : dict of str to list of int
        By rule: the positions of the candidates that it kept out of the list, pinned, or gave another rank.
    exposure : Bounded, optional
        What the rules on exposure did; None without such rules.
    """

    items: list[SelectedItem]
    moved: dict[str, list[int]]
    exposure: Bounded | None = None


def select(
    candidates: Sequence[ScoredCandidate],
    scores: Sequence[float],
    history: Sequence[Evidence],
    size: int,
    max_per_category: int,
    exclude: Collection[str] = (),
    spread: bool = False,
    effects: Effects = NO_EFFECTS,
    explore: Callable[[list[int], list[int]], list[int]] | None = None,
    language: Language | None = None,
) -> Selection:
    """Choose the items of the list.

    Ordered by score, highest first. Scores that are not finite come last, because NaN compares with nothing and would
    allow any order. Ties are ordered by item id. At most `max_per_category` items of one (leaf) category are taken
    while others can fill the list; then the limit is lifted, because a short list is worse than a uniform one. An item
    that is proposed twice appears once, with its best score.

    Parameters
    ----------
    candidates : sequence of ScoredCandidate
    scores : sequence of float
        One per candidate.
    history : sequence of Evidence
        Newest last; reasons cite these events and nothing else.
    size : int
        Items of the list.
    max_per_category : int
    exclude : collection of str
        Ids of items that never appear.
    spread : bool
        For a user without events: the best item of each category, then the second of each, and so on.
    effects : Effects
        What the team's rules do to these candidates. An item that they insert is the last of the candidates.
    explore : callable, optional
        Is given the positions of the list's items and those of all items that may be in it, both best first. Returns
        the positions of the list's items.
    language : Language, optional
        Of the reasons; English by default.
    """
    best = _pulled(_best_first(candidates, scores, exclude), candidates)
    ranked = _spread(best, candidates) if spread else best
    ranked = _unseen_first(ranked, candidates)
    if effects:
        taken, moved, exposure = arrange(
            ranked,
            effects,
            len(candidates) - len(effects.inserted),
            size,
            lambda p: _leaf(candidates[p]),
            max_per_category,
        )
    else:
        taken, moved, exposure = _taken(ranked, candidates, size, max_per_category), {}, None
    if explore is not None:
        taken = explore(taken, ranked)
    tongue = language or english()
    items = [_with_reason(at, candidates[at], float(scores[at]), history, tongue) for at in taken]
    return Selection(items, moved, exposure)


def _best_first(candidates: Sequence[ScoredCandidate], scores: Sequence[float], exclude: Collection[str]) -> list[int]:
    """The positions of the items that may be in the list, each item once."""
    order = sorted(
        (position for position, candidate in enumerate(candidates) if candidate.item_id not in exclude),
        key=lambda p: (
            not math.isfinite(scores[p]),
            -scores[p] if math.isfinite(scores[p]) else 0.0,
            candidates[p].item_id,
        ),
    )
    best: dict[str, int] = {}
    for position in order:
        best.setdefault(candidates[position].item_id, position)
    return list(best.values())


def _taken(ranked: Sequence[int], candidates: Sequence[ScoredCandidate], size: int, max_per_category: int) -> list[int]:
    taken: list[int] = []
    deferred: list[int] = []
    per_category: Counter[str] = Counter()
    for position in ranked:
        category = candidates[position].categories[-1:]
        if category and per_category[category[0]] >= max_per_category:
            deferred.append(position)
        else:
            taken.append(position)
            per_category.update(category)
        if len(taken) == size:
            break
    return taken + deferred[: size - len(taken)]


def _leaf(candidate: ScoredCandidate) -> str | None:
    return candidate.categories[-1] if candidate.categories else None


def _unseen_first(ranked: list[int], candidates: Sequence[ScoredCandidate]) -> list[int]:
    """Let what the user was shown lately come after all others."""
    if not any(candidates[position].shown for position in ranked):
        return ranked
    return sorted(ranked, key=lambda position: candidates[position].shown)


def _pulled(ranked: list[int], candidates: Sequence[ScoredCandidate]) -> list[int]:
    """Let candidates come earlier or later: a pull of 1 divides the rank by `PULL`, one of -1 multiplies it."""
    if not any(candidates[position].pull for position in ranked):
        return ranked
    pulled = {position: rank * PULL ** -candidates[position].pull for rank, position in enumerate(ranked, 1)}
    return sorted(ranked, key=pulled.__getitem__)


def _spread(ranked: Iterable[int], candidates: Sequence[ScoredCandidate]) -> list[int]:
    """Sort stably by the number of items of the same category that come before."""
    before: Counter[str] = Counter()
    rounds = []
    for position in ranked:
        category = "".join(candidates[position].categories[-1:])
        rounds.append((before[category], position))
        before[category] += 1
    return [position for _, position in sorted(rounds, key=lambda pair: pair[0])]


def _with_reason(
    position: int, candidate: ScoredCandidate, score: float, history: Sequence[Evidence], language: Language
) -> SelectedItem:
    grounds = grounds_of(candidate, history)
    evidence = (grounds.cited.item_id,) if grounds.cited else ()
    return SelectedItem(position, score, language.sentence(grounds), evidence)

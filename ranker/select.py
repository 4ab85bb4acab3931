"""Step 5, select: scores to a list, by rules that hold for every model, with a reason for each item.

Pure; knows no transport and no model.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from encoders.describe import one_line

MAX_TITLE_CHARACTERS = 100
"""Of a title in a reason; chosen by us: a line on a shop's page."""


class ScoredCandidate(Protocol):
    """The fields of a candidate that selection needs, as in a rank request."""

    @property
    def item_id(self) -> str: ...
    @property
    def sources(self) -> list[str]: ...
    @property
    def categories(self) -> list[str]: ...
    @property
    def because(self) -> str | None: ...


class Evidence(Protocol):
    """The fields of an event that a reason may cite, as in a rank request."""

    @property
    def item_id(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def categories(self) -> list[str]: ...


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


def select(
    candidates: Sequence[ScoredCandidate],
    scores: Sequence[float],
    history: Sequence[Evidence],
    size: int,
    max_per_category: int,
    exclude: Collection[str] = (),
    spread: bool = False,
) -> list[SelectedItem]:
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
    """
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
    ranked = _spread(best.values(), candidates) if spread else list(best.values())
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
    taken.extend(deferred[: size - len(taken)])
    return [_with_reason(position, candidates[position], float(scores[position]), history) for position in taken]


def _spread(ranked: Iterable[int], candidates: Sequence[ScoredCandidate]) -> list[int]:
    """Sort stably by the number of items of the same category that come before."""
    before: Counter[str] = Counter()
    rounds = []
    for position in ranked:
        category = "".join(candidates[position].categories[-1:])
        rounds.append((before[category], position))
        before[category] += 1
    return [position for _, position in sorted(rounds, key=lambda pair: pair[0])]


def _with_reason(position: int, candidate: ScoredCandidate, score: float, history: Sequence[Evidence]) -> SelectedItem:
    cited = _related(candidate, history)
    if cited is not None:
        verb = "bought" if cited.type == "purchase" else "viewed"
        return SelectedItem(position, score, f"Because you {verb} {_short(cited.title)}", (cited.item_id,))
    if "trending" in candidate.sources:
        return SelectedItem(position, score, "Popular right now", ())
    if "newest" in candidate.sources:
        return SelectedItem(position, score, "New", ())
    return SelectedItem(position, score, "Picked for you", ())


def _short(title: str) -> str:
    """The title in one line of at most `MAX_TITLE_CHARACTERS`."""
    line = one_line(title)
    return line if len(line) <= MAX_TITLE_CHARACTERS else f"{line[: MAX_TITLE_CHARACTERS - 1]}…"


def _related(candidate: ScoredCandidate, history: Sequence[Evidence]) -> Evidence | None:
    """The event that led to the candidate; else the newest of its category; else the newest, if a personal source."""
    others = [event for event in reversed(history) if event.item_id != candidate.item_id]
    leaf = candidate.categories[-1:]
    for event in others:
        if event.item_id == candidate.because:
            return event
    for event in others:
        if leaf and event.categories[-1:] == leaf:
            return event
    personal = "co-visited" in candidate.sources or "nearest" in candidate.sources
    return others[0] if others and personal else None

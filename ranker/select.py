"""Step 5, select: scores to a list, by rules that hold whatever the model says, with a reason for each item.

Pure; knows no transport and no model. Called by `streams.rank.tier`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from encoders.describe import one_line

MOST_SHOWN = 100
"""Characters of a title in a reason; chosen by us: a line on a shop's page."""


class ScoredCandidate(Protocol):
    """What selection needs of a candidate; a rank request's candidate has it."""

    @property
    def item_id(self) -> str: ...
    @property
    def sources(self) -> list[str]: ...
    @property
    def categories(self) -> list[str]: ...
    @property
    def because(self) -> str | None: ...


class Evidence(Protocol):
    """What a reason may cite; a rank request's history event has it."""

    @property
    def item_id(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def categories(self) -> list[str]: ...


@dataclass(frozen=True)
class Chosen:
    """One place of a list: the candidate's position in the input, its score, and why it is there."""

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
) -> list[Chosen]:
    """Choose the list.

    By score, the highest first; scores that are not finite come last, for a NaN compares with nothing and would make
    any order possible; ties by item id. No more than `max_per_category` items of one (leaf) category while others
    are left to fill the list, then the cap is lifted: a short list is worse than a plain one. Items in `exclude`
    never appear, and an item proposed twice appears once, at its best score.

    Parameters
    ----------
    history : newest last; reasons cite these and nothing else.
    spread : for somebody of whom nothing is known: the best item of each category, then each one's second, and so on.
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
    places = _spread(best.values(), candidates) if spread else list(best.values())
    taken: list[int] = []
    passed_over: list[int] = []
    per_category: Counter[str] = Counter()
    for position in places:
        category = candidates[position].categories[-1:]
        if category and per_category[category[0]] >= max_per_category:
            passed_over.append(position)
        else:
            taken.append(position)
            per_category.update(category)
        if len(taken) == size:
            break
    taken.extend(passed_over[: size - len(taken)])
    return [_explained(position, candidates[position], float(scores[position]), history) for position in taken]


def _spread(places: Iterable[int], candidates: Sequence[ScoredCandidate]) -> list[int]:
    """By how many of its category stand before it, then as given."""
    before: Counter[str] = Counter()
    rounds = []
    for position in places:
        category = "".join(candidates[position].categories[-1:])
        rounds.append((before[category], position))
        before[category] += 1
    return [position for _, position in sorted(rounds, key=lambda one: one[0])]


def _explained(position: int, candidate: ScoredCandidate, score: float, history: Sequence[Evidence]) -> Chosen:
    cited = _related(candidate, history)
    if cited is not None:
        verb = "bought" if cited.type == "purchase" else "viewed"
        return Chosen(position, score, f"Because you {verb} {_short(cited.title)}", (cited.item_id,))
    if "trending" in candidate.sources:
        return Chosen(position, score, "Popular right now", ())
    if "newest" in candidate.sources:
        return Chosen(position, score, "New", ())
    return Chosen(position, score, "Picked for you", ())


def _short(title: str) -> str:
    """A title as it may be shown: one line of `MOST_SHOWN` characters at the most."""
    line = one_line(title)
    return line if len(line) <= MOST_SHOWN else f"{line[: MOST_SHOWN - 1]}…"


def _related(candidate: ScoredCandidate, history: Sequence[Evidence]) -> Evidence | None:
    """The event that led to the candidate; else the newest of its category; else, if personal at all, the newest."""
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

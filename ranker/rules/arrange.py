"""Choose the items of a list under the effects of rules.

The strictest comes first: no list has more of a group than a rule allows. Then a pinned item has its rank, and every
other item the rank by its score, divided by its factor, unless the exposure of its group has bounds. Knows no score and
no condition.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ranker.rules.effects import Effects
from ranker.rules.exposure import Bounded, bounded


class Arrangement(NamedTuple):
    """The items of a list.

    Attributes
    ----------
    indices : list of int
        Rank 1 first.
    moved : dict of str to list of int
        By rule: what it kept out of the list, pinned, or counted with another rank.
    exposure : Bounded, optional
        What the rules on exposure did; None without such rules.
    """

    indices: list[int]
    moved: dict[str, list[int]]
    exposure: Bounded | None = None


def arrange(
    order: Sequence[int],
    effects: Effects,
    candidates: int,
    size: int,
    category: Callable[[int], str | None],
    max_per_category: int,
) -> Arrangement:
    """Choose the items.

    Parameters
    ----------
    order : sequence of int
        The indices of the candidates and the inserted items that may be in the list, best first, each item once.
    effects : Effects
        Of the same indices.
    candidates : int
        The number of candidates; an inserted item has a higher index.
    size : int
        Items of the list.
    category : callable
        Returns the category of an index, or None.
    max_per_category : int
        Of one category, as long as others can fill the list.
    """
    natural = [index for index in order if index < candidates]
    kept = natural
    if effects.factors:
        ranks = {index: rank / effects.factors.get(index, 1.0) for rank, index in enumerate(natural, 1)}
        kept = sorted(natural, key=ranks.__getitem__)
    room = _Room(effects)
    pinned, pinned_by = _place(effects, [*kept, *sorted(set(order).difference(kept))], size, room)
    per_category = Counter(map(category, pinned.values()))
    fixed = set(pinned.values())
    rest = [index for index in kept if index not in fixed]
    chosen: list[int] = []
    deferred: list[int] = []
    for index in rest:
        if len(chosen) == size - len(pinned):
            break
        name = category(index)
        if name is not None and per_category[name] >= max_per_category:
            deferred.append(index)
        elif room.take(index):
            chosen.append(index)
            per_category[name] += 1
    for index in deferred:
        if len(chosen) < size - len(pinned) and room.take(index):
            chosen.append(index)
    indices, exposure = _merged(pinned, chosen), None
    moved = _moved(effects, natural[:size], set(indices), room)
    if effects.bounds:
        reserve = _fitting(effects, [index for index in rest if index not in chosen], room)
        reserve.sort(key=lambda i: category(i) is not None and per_category[category(i)] >= max_per_category)
        exposure = bounded(indices, reserve, fixed, effects.bounds)
        _add_moves(moved, effects, indices, exposure.indices)
        indices = exposure.indices
    for rule, index in pinned_by:
        moved.setdefault(rule, []).append(index)
    return Arrangement(indices, moved, exposure)


def _fitting(effects: Effects, others: Sequence[int], room: _Room) -> list[int]:
    """Those of the other items that the caps allow beside the list; of two, an item of a group that needs exposure."""
    wanted = frozenset[int]().union(*(one.members for one in effects.bounds if one.low))
    fitting = {index for index in sorted(others, key=lambda index: index not in wanted) if room.take(index)}
    return [index for index in others if index in fitting]


def _add_moves(moved: dict[str, list[int]], effects: Effects, before: Sequence[int], after: Sequence[int]) -> None:
    """Add which items of bounded groups have another rank, or entered or left the list."""
    ranks, ranks_before = ({index: rank for rank, index in enumerate(order)} for order in (after, before))
    changed = [i for i in dict.fromkeys([*after, *before]) if ranks.get(i) != ranks_before.get(i)]
    for one in effects.bounds:
        if members := [index for index in changed if index in one.members]:
            moved[one.rule] = moved.get(one.rule, []) + members


class _Room:
    """How many of each group are in the list, and which rules refused an item."""

    def __init__(self, effects: Effects) -> None:
        self._caps = effects.caps
        self._taken: list[Counter[str]] = [Counter() for _ in effects.caps]
        self.refused: defaultdict[str, list[int]] = defaultdict(list)

    def take(self, index: int) -> bool:
        """Count the item if every rule allows it. Returns whether they do."""
        for cap, taken in zip(self._caps, self._taken, strict=True):
            if any(taken[group] >= cap.at_most for group in cap.groups.get(index, ())):
                self.refused[cap.rule].append(index)
                return False
        for cap, taken in zip(self._caps, self._taken, strict=True):
            taken.update(set(cap.groups.get(index, ())))
        return True


def _place(
    effects: Effects, order: Sequence[int], size: int, room: _Room
) -> tuple[dict[int, int], list[tuple[str, int]]]:
    """Rank -> index of each pinned item, and which rule pinned it. Where a rank is taken, a later pin gets the next."""
    placed: dict[int, int] = {}
    placed_by = []
    for pin in effects.pins:
        rank = pin.rank
        while rank in placed:
            rank += 1
        among = set(pin.indices).difference(placed.values())
        choice = next((index for index in order if index in among and room.take(index)), None) if rank <= size else None
        if choice is not None:
            placed[rank] = choice
            placed_by.append((pin.rule, choice))
    return placed, placed_by


def _merged(pinned: dict[int, int], chosen: Sequence[int]) -> list[int]:
    """All in one list. Where it is too short for a pinned rank, the pinned items are its last."""
    merged: list[int] = []
    rest = iter(chosen)
    for rank in range(1, len(pinned) + len(chosen) + 1):
        index = pinned.get(rank, -1)
        if index < 0:
            index = next(rest, -1)
        if index >= 0:
            merged.append(index)
    placed = set(merged)
    return merged + [index for _, index in sorted(pinned.items()) if index not in placed]


def _moved(effects: Effects, top: Sequence[int], shown: set[int], room: _Room) -> dict[str, list[int]]:
    """What rules did to the items of the list, and to those of the list as it were without rules; but for pins."""
    moved: defaultdict[str, list[int]] = defaultdict(list)
    for index in dict.fromkeys([*top, *sorted(shown)]):
        for rule in effects.boosted.get(index, ()):
            moved[rule].append(index)
    for rule, refused in room.refused.items():
        if kept_out := [index for index in dict.fromkeys(refused) if index not in shown]:
            moved[rule] += kept_out
    return dict(moved)

"""Exposure within bounds, against the definition: on small lists every order is tried."""

from __future__ import annotations

from itertools import permutations
from math import log2
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ranker.rules import exposure, least_loss
from ranker.rules.exposure import Bounds, bounded


def share(order: list[int], members: frozenset[int]) -> float:
    """The definition: the members' part of the discounts."""
    discounts = [1 / log2(rank + 1) for rank in range(1, len(order) + 1)]
    return sum(one for index, one in zip(order, discounts, strict=True) if index in members) / sum(discounts)


def shortfall(order: list[int], bounds: list[Bounds]) -> float:
    """The sum of what an order misses, in exposure."""
    total = sum(1 / log2(rank + 1) for rank in range(1, len(order) + 1))
    shares = [(one, share(order, one.members)) for one in bounds]
    missed = sum(max(0.0, one.low - got) + max(0.0, got - one.high) for one, got in shares) * total
    return missed if missed > 1e-8 else 0.0


def gain(order: list[int], gains: dict[int, float]) -> float:
    return sum(gains.get(index, 0.0) / log2(rank + 1) for rank, index in enumerate(order, 1))


def drawn_bounds(draw: Random, items: list[int]) -> list[Bounds]:
    bounds = []
    for number in range(draw.randint(1, 3)):
        low, high = sorted((draw.random(), draw.random()))
        low, high = draw.choice([(low, 1.0), (0.0, high), (low, high)])
        bounds.append(Bounds(f"r{number}", low, high, frozenset(draw.sample(items, draw.randint(0, len(items))))))
    return bounds


@settings(max_examples=60)
@given(st.integers(0, 2**32))
def test_no_order_within_the_bounds_loses_less(seed: int) -> None:
    draw = Random(seed)
    items = list(range(draw.randint(1, 7)))
    size = draw.randint(1, min(len(items), 5))
    natural, reserve = items[:size], items[size:]
    fixed = set(draw.sample(natural, draw.choice([0, 0, 1])))
    bounds = drawn_bounds(draw, items)
    found = bounded(natural, reserve, fixed, bounds)
    gains = {index: 1 / rank for rank, index in enumerate((one for one in items if one not in fixed), 1)}
    orders = [
        list(order)
        for order in permutations(items, size)
        if all(order[natural.index(index)] == index for index in fixed)
    ]
    best = max(gain(order, gains) - least_loss.PENALTY * shortfall(order, bounds) for order in orders)
    value = gain(found.indices, gains) - least_loss.PENALTY * shortfall(found.indices, bounds)
    assert value == pytest.approx(best, abs=1e-4)
    assert found.indices in orders
    assert not found.cut
    for one in bounds:
        holds, held = (not shortfall(order, [one]) for order in (found.indices, natural))
        assert found.outcomes[one.rule] == ("missed" if not holds else "within" if held else "reached")


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.integers(11, 45), st.floats(0.05, 0.5))
def test_the_bounds_of_a_group_hold_in_every_ten_ranks(seed: int, size: int, low: float) -> None:
    draw = Random(seed)
    items = list(range(100))
    members = frozenset(draw.sample(items, 50))
    found = bounded(items[:size], items[size:], (), [Bounds("r", low, low + 0.3, members)])
    assert len(set(found.indices)) == size
    for end in [*range(10, size, 10), size]:
        assert low - 1e-8 <= share(found.indices[:end], members) <= low + 0.3 + 1e-8
    assert not found.cut, "one group is never too much"
    for ours in (members, frozenset(items) - members):
        ranks = [index for index in found.indices if index in ours]
        assert ranks == sorted(ranks), "those of a group keep their order"


def test_a_hard_case_ends_early_and_says_so() -> None:
    groups = [frozenset(range(begin, 100, 9)) for begin in range(5, 9)]
    bounds = [Bounds(f"r{number}", 0.2, 1.0, members) for number, members in enumerate(groups)]
    found = bounded(list(range(10)), list(range(10, 100)), (), bounds)
    assert found.cut
    assert set(found.outcomes.values()) == {"reached"}


def test_an_exposure_of_a_rank_is_the_discount_of_ndcg() -> None:
    assert [exposure.exposure(rank) for rank in (1, 3, 7)] == [1.0, 0.5, pytest.approx(1 / 3)]

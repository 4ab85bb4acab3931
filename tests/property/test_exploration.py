"""Exploration on drawn lists: exact propensities, estimates without bias, and no more lost clicks than allowed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ranker.evaluation.off_policy import LoggedLists, examination, weights_of
from ranker.exploration.places import Draws, PlaceBlock, blocks, explore

SEEDS = st.integers(0, 2**32 - 1)


class Drawn(NamedTuple):
    """The arguments of `explore`."""

    taken: list[int]
    outside: list[int]
    fixed: set[int]
    draws: Draws
    share: float
    max_loss: float


@st.composite
def lists(draw: st.DrawFn) -> Drawn:
    size, others = draw(st.integers(1, 9)), draw(st.integers(0, 6))
    random = np.random.default_rng(draw(SEEDS))
    indices = random.permutation(size + others).tolist()
    fixed = set(draw(st.lists(st.sampled_from(indices[:size]), max_size=2)))
    draws = random.normal(size=(5, size + others)).astype(np.float32)
    share = draw(st.sampled_from([0.05, 0.1, 0.21, 0.34, 0.5]))
    return Drawn(indices[:size], indices[size:], fixed, draws, share, draw(st.sampled_from([0.02, 0.1, 0.5])))


def outcomes(block: PlaceBlock, share: float) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Everything that can happen in a block: the probabilities, (n,), and the items of its places, (n, places)."""
    chances = [share * chance for chance in block.wins.ravel().tolist() if chance]
    shown = [block.after(at, item) for at, item in zip(*block.wins.nonzero(), strict=True)]
    return np.array([1 - sum(chances), *chances]), np.array([block.after(0, 0), *shown], np.intp)


@given(lists(), SEEDS)
@settings(max_examples=50)
def test_a_list_keeps_what_is_fixed_and_repeats_byte_for_byte(drawn: Drawn, seed: int) -> None:
    explored = explore(*drawn, seed)
    assert explored == explore(*drawn, seed)
    assert len(set(explored.indices)) == len(drawn.taken)
    assert set(explored.indices) <= {*drawn.taken, *drawn.outside}
    for place, (item, propensity) in enumerate(zip(explored.indices, explored.propensities, strict=True)):
        assert 0 < propensity <= 1
        if place == 0 or drawn.taken[place] in drawn.fixed:
            assert (item, propensity) == (drawn.taken[place], 1)
    assert explored.moved == sum(a != b for a, b in zip(explored.indices, drawn.taken, strict=True))


@given(lists(), SEEDS)
@settings(max_examples=50)
def test_a_propensity_is_the_sum_of_the_chances_of_all_that_can_happen(drawn: Drawn, seed: int) -> None:
    explored = explore(*drawn, seed)
    for block in blocks(*drawn):
        chances, shown = outcomes(block, drawn.share)
        assert chances.min() > -1e-12
        for column, place in enumerate(block.places):
            of_item = chances[shown[:, column] == explored.indices[place]].sum()
            assert explored.propensities[place] == pytest.approx(of_item)
            for item in block.items[len(block.places) :]:
                assert (shown[:, column] == item).any(), "every item outside the list has a chance in every place"


@given(lists(), SEEDS)
@settings(max_examples=50)
def test_the_estimates_are_without_bias_wherever_the_log_can_show_what_the_other_ranker_does(
    drawn: Drawn, seed: int
) -> None:
    """The expectation over all that can happen is exact: no draw of chance is left in it."""
    random = np.random.default_rng(seed)
    for block in blocks(*drawn):
        chances, shown = outcomes(block, drawn.share)
        count = len(block.places)
        appeal = random.random((count, max(block.items) + 1))  # whatever depends on the item and its place
        guess = random.random(appeal.shape)  # of a click model, right or wrong
        target = shown[random.integers(len(shown), size=count), np.arange(count)]
        probability = block.probabilities(drawn.share)
        columns = np.searchsorted(np.sort(block.items), shown)
        propensities = probability[np.arange(count), np.argsort(block.items)[columns]]
        places = np.arange(count)
        log = LoggedLists(np.arange(len(shown)), shown, appeal[places, shown], propensities)
        weights = weights_of(log, np.broadcast_to(target, shown.shape))
        truth = appeal[places, target].sum()
        assert chances @ (weights * log.clicks).sum(1) == pytest.approx(truth)
        assert chances @ weights == pytest.approx(np.ones(count)), "so SNIPS divides by 1 in expectation"
        doubly = guess[places, target] + weights * (log.clicks - guess[places, shown])
        assert chances @ doubly.sum(1) == pytest.approx(truth)


@given(lists(), SEEDS)
@settings(max_examples=50)
def test_no_more_clicks_are_lost_than_the_setting_allows_even_if_nobody_wants_what_is_explored(
    drawn: Drawn, seed: int
) -> None:
    size = len(drawn.taken)
    appeal = np.zeros(size + len(drawn.outside))
    appeal[drawn.taken] = -np.sort(-(np.random.default_rng(seed).random(size) ** 3))  # the ranker is right
    looks = examination(size)
    whole = looks @ appeal[drawn.taken]
    lost = 0.0
    for block in blocks(*drawn):
        chances, shown = outcomes(block, drawn.share)
        of_places = looks[block.places]
        lost += float(of_places @ appeal[block.items[: len(of_places)]] - chances @ (appeal[shown] @ of_places))
    assert lost <= drawn.max_loss * whole + 1e-9

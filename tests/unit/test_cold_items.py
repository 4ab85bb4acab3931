"""How well cold items are ranked: the figures against a plain computation, and the lift of a neglectful head."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from encoders.interest import Vector
from ranker.evaluation.measures import ndcg_at
from ranker.features import NAMES
from ranker.fusion.head import FusionHead
from ranker.train.cold_items import (
    LIFTS,
    MIN_COLD_GROUPS,
    MOST_ERRORS,
    MOST_LOSS,
    cold_items,
    fit_lift,
    lifted,
    ndcg_of_part,
)
from ranker.train.head_fit import fused
from ranker.train.query_groups import QueryGroups, ScoredGroups

GROUPS, WIDTH = 200, 30
NEWNESS = NAMES.index("newness")


def groups_of(seed: int = 1, new: int = 10) -> QueryGroups:
    """Groups with a few relevant candidates and some that recall missed; the last `new` candidates have no events."""
    drawn, shape = np.random.default_rng(seed), (GROUPS, WIDTH)
    labels = drawn.random(shape) < 0.1
    labels[:, 0] |= ~labels.any(axis=1)
    is_cold = np.broadcast_to(np.arange(WIDTH) >= WIDTH - new, shape)
    missed, cold_missed = drawn.integers(0, 3, (2, GROUPS))
    cold_counts = (labels & is_cold).sum(axis=1) + cold_missed
    features = np.zeros((*shape, len(NAMES)), np.float16)
    features[:, :, NEWNESS] = is_cold
    return QueryGroups(
        texts=[f"item {number}" for number in range(WIDTH)],
        event_texts=[f"item {number}" for number in range(WIDTH)],
        contexts=["Viewed item 1"] * GROUPS,
        users=np.arange(GROUPS, dtype=np.int32) // 2,
        events=[np.array([1], np.int32)] * GROUPS,
        candidates=np.tile(np.arange(WIDTH, dtype=np.int32), (GROUPS, 1)),
        labels=labels,
        relevant_counts=(labels.sum(axis=1) + missed + cold_missed).astype(np.int32),
        is_cold=is_cold,
        cold_counts=cold_counts.astype(np.int32),
        retrieval_scores=drawn.normal(size=shape).astype(np.float32),
        features=features,
    )


def head(of_new: float = 0.0, scale: float = 0.5) -> FusionHead:
    """The model's score, and this much for an item without events."""
    inputs = 1 + len(NAMES)
    linear, scales = np.zeros(inputs, np.float32), np.ones(inputs, np.float32)
    linear[0], scales[1 + NEWNESS] = 1, scale
    if of_new:
        linear[1 + NEWNESS] = of_new * scale
    empty = np.zeros((inputs, 1), np.float32)
    return FusionHead(np.zeros(inputs, np.float32), scales, linear, empty, empty[0], empty[0])


def skilled(groups: QueryGroups, skill: float = 2.0) -> Vector:
    """Scores that tell relevant candidates from others."""
    noise = np.random.default_rng(2).normal(size=groups.labels.shape)
    return (skill * groups.labels + noise).astype(np.float32)


@pytest.mark.parametrize("cold", [True, False])
def test_the_figures_are_those_of_each_list_alone(cold: bool) -> None:
    groups = groups_of()
    scores = skilled(groups)
    ndcg = ndcg_of_part(groups, scores, cold)
    for index in range(GROUPS):
        relevant = {int(item) for item in np.flatnonzero(groups.labels[index] & (groups.is_cold[index] == cold))}
        count = groups.cold_counts[index] if cold else groups.relevant_counts[index] - groups.cold_counts[index]
        relevant |= {-1 - number for number in range(count - len(relevant))}
        ranked = sorted(range(WIDTH), key=lambda item: -scores[index, item])
        if relevant:
            assert ndcg[index] == pytest.approx(ndcg_at(ranked, relevant, 10))
        else:
            assert np.isnan(ndcg[index])
    found = cold_items(head(), ScoredGroups(groups, scores), 0.0, seed=1)
    part = found.cold if cold else found.warm
    assert part.groups == np.isfinite(ndcg).sum()
    assert part.head.value == pytest.approx(np.nanmean(ndcg))
    assert part.head.low < part.head.value < part.head.high
    assert part.difference.value == pytest.approx(part.head.value - part.no_model.value)
    spread = np.nanstd(ndcg) / np.sqrt(part.groups)
    assert part.head.high - part.head.low == pytest.approx(3.92 * spread, rel=0.4)


def test_a_lift_adds_to_new_items_alone() -> None:
    groups = groups_of()
    scored = ScoredGroups(groups, skilled(groups))
    raised = fused(lifted(head(0.25), groups, 1.5), scored).scores - fused(head(0.25), scored).scores
    np.testing.assert_allclose(raised, 1.5 * groups.is_cold, atol=1e-5)
    never_varied = head(scale=float("inf"))
    assert fused(lifted(never_varied, groups, 1.5), scored).scores == pytest.approx(scored.scores)


def test_a_head_that_neglects_cold_items_is_lifted_until_no_model_is_no_better() -> None:
    groups = groups_of()
    given = groups.retrieval_scores + groups.is_cold + groups.labels
    groups = replace(groups, retrieval_scores=given.astype(np.float32))
    scored = ScoredGroups(groups, skilled(groups))
    neglecting = head(of_new=-2.0)
    assert cold_items(neglecting, scored, 0.0, seed=1).falls
    lift = fit_lift(neglecting, scored)
    found = cold_items(neglecting, scored, lift, seed=1)
    assert not found.falls
    assert found.difference >= -MOST_ERRORS * found.standard_error - MOST_LOSS
    less = LIFTS[LIFTS.index(lift) - 1]
    assert cold_items(neglecting, scored, less, seed=1).falls, "the least lift is taken"
    assert fit_lift(head(), scored) == 0.0, "a head that neglects nothing stays as it is"


def test_a_lift_that_costs_other_items_too_much_is_left_out_and_the_report_says_what_to_do() -> None:
    """Cold items are hardly ever relevant, and the order without a model has them first."""
    groups = groups_of()
    labels = groups.labels & ~(groups.is_cold & (np.random.default_rng(3).random(groups.labels.shape) < 0.9))
    labels[:, 0] |= ~labels.any(axis=1)
    groups = replace(
        groups,
        labels=labels,
        cold_counts=(labels & groups.is_cold).sum(axis=1).astype(np.int32),
        relevant_counts=labels.sum(axis=1).astype(np.int32),
        retrieval_scores=(groups.is_cold + 0.1 * labels).astype(np.float32),
    )
    assert (groups.cold_counts > 0).sum() < MIN_COLD_GROUPS
    assert fit_lift(head(-2.0), ScoredGroups(groups, skilled(groups))) == 0.0, "too few to choose by"
    one_more = groups.relevant_counts + np.int32(1)
    groups = replace(groups, cold_counts=np.ones(GROUPS, np.int32), relevant_counts=one_more)
    scored = ScoredGroups(groups, skilled(groups))
    lift = fit_lift(head(-2.0), scored)
    found = cold_items(head(-2.0), scored, lift, seed=1)
    assert lift < LIFTS[-1]
    assert found.falls
    assert found.difference >= -MOST_ERRORS * found.standard_error - MOST_LOSS
    assert "train on a longer log" in found.advice()
    assert found.facts()["falls"] is True

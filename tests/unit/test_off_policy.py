"""Estimates of other rankers from simulated logs whose truth is known, and when they are refused."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from ranker.evaluation.off_policy import ClickModel, LoggedLists, PolicyEstimate, estimate, logged_value
from ranker.exploration.places import explore

ITEMS, PLACES = 14, 6


class World(NamedTuple):
    """A log of a ranker that explores, what another ranker would show, and what it would get."""

    log: LoggedLists
    target: NDArray[np.intp]
    truth: float


def world(seed: int, lists: int, share: float = 0.3, skill: float = 1.0) -> World:
    """Users click by place and appeal; the other ranker, unlike the logging one, knows the appeal as far as `skill`."""
    random = np.random.default_rng(seed)
    appeal = random.permutation(np.linspace(0.05, 0.6, ITEMS))
    chance = appeal / np.log2(np.arange(2, PLACES + 2))[:, None]  # (places, items)
    shown, propensities = np.empty((lists, PLACES), np.intp), np.empty((lists, PLACES))
    target = np.empty((lists, PLACES), np.intp)
    for row in range(lists):
        noise = random.normal(size=ITEMS)
        greedy = np.argsort(-noise)
        draws = (noise + random.normal(size=(8, ITEMS))).astype(np.float32)
        explored = explore(greedy[:PLACES].tolist(), greedy[PLACES:].tolist(), (), draws, share, 0.9, row + seed)
        shown[row], propensities[row] = explored.indices, explored.propensities
        rest = [item for item in np.argsort(-(noise + 8 * skill * appeal)) if item != greedy[0]]
        target[row] = [greedy[0], *rest[: PLACES - 1]]  # the first place is never explored
    places = np.arange(PLACES)
    clicks = (random.random(shown.shape) < chance[places, shown]).astype(np.float64)
    log = LoggedLists(np.arange(lists) // 2, shown, clicks, propensities)
    return World(log, target, float(chance[places, target].sum(1).mean()))


def test_the_intervals_hold_the_truth_and_the_mean_error_is_small() -> None:
    found: list[tuple[float, PolicyEstimate]] = []
    for seed in range(10):
        log, target, truth = world(seed, 300, skill=0.0)
        found.append((truth, estimate(log, target, seed)))
    for name in ("ips", "snips", "dr"):
        intervals = [(truth, getattr(one, name)) for truth, one in found]
        assert sum(low <= truth <= high for truth, (_, low, high) in intervals) >= 8, name
        assert np.mean([value - truth for truth, (value, _, _) in intervals]) == pytest.approx(0, abs=0.06), name
    assert all(one.overlap == pytest.approx(1, abs=0.1) for _, one in found)
    assert not any(one.refusal for _, one in found)


def test_a_better_ranker_is_told_from_the_log_of_a_worse_one() -> None:
    log, target, truth = world(1, 1_500, skill=0.3)
    found, logged = estimate(log, target, 1), logged_value(log, 1)
    assert truth > 1.15 * logged.value
    assert found.difference.low > 0
    assert found.dr.low < truth < found.dr.high
    assert found.dr.value == pytest.approx(truth, rel=0.1)
    assert found.dr.high - found.dr.low < found.ips.high - found.ips.low, "the click model explains much of the clicks"
    assert found.ips.value < truth, "the log cannot show all that the better ranker does"


def test_too_little_overlap_is_refused_in_words() -> None:
    log, _, _ = world(1, 400)
    strangers = np.broadcast_to(np.arange(ITEMS, ITEMS + PLACES), log.shown.shape)
    nothing = estimate(log, strangers, 1)
    assert nothing.refusal.startswith("the log can tell of 0% of what this ranker would show, expected at least 50%; ")
    assert nothing.ips.value == 0
    assert np.isnan(nothing.snips.value)
    few = LoggedLists(log.users[:60], log.shown[:60], log.clicks[:60], log.propensities[:60])
    assert estimate(few, few.shown, 1).refusal.startswith("the log is worth ")


def test_the_click_model_expects_of_a_list_what_other_users_did() -> None:
    log, _, _ = world(1, 400)
    before = ClickModel(log, 1).clicks(log.shown)
    changed = log.clicks.copy()
    changed[log.users == 7] = 1 - changed[log.users == 7]
    after = ClickModel(LoggedLists(log.users, log.shown, changed, log.propensities), 1).clicks(log.shown)
    assert (after[log.users == 7] == before[log.users == 7]).all()
    assert (after != before).any()
    assert before.mean(0) == pytest.approx(log.clicks.mean(0), rel=0.35)

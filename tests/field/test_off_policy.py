"""Our estimates against Open Bandit Pipeline's (Saito et al. 2021), the reference of off-policy evaluation."""

from __future__ import annotations

import numpy as np
import pytest
from obp.ope import (
    InverseProbabilityWeighting,
    SelfNormalizedInverseProbabilityWeighting,
    SlateIndependentIPS,
    SwitchDoublyRobust,
)

from ranker.evaluation.off_policy import ClickModel, estimate
from tests.unit.test_off_policy import ITEMS, PLACES, world


@pytest.mark.field
@pytest.mark.parametrize("seed", range(3))
def test_our_estimates_are_open_bandit_pipelines(seed: int) -> None:
    log, target, _ = world(seed, 400, skill=0.5)
    found, model = estimate(log, target, seed), ClickModel(log, seed)
    lists = len(target)
    most = lists**0.5  # a larger weight counts as none
    whole = {"ips": 0.0, "snips": 0.0, "dr": 0.0}
    kept = (target == log.shown) & (1 / log.propensities <= most)
    for place in range(PLACES):
        policy = np.zeros((lists, ITEMS, 1))
        policy[np.arange(lists), target[:, place], 0] = 1
        expected = np.stack([model.clicks(np.full(target.shape, item))[:, [place]] for item in range(ITEMS)], axis=1)
        given = {
            "reward": log.clicks[:, place],
            "action": log.shown[:, place],
            "pscore": log.propensities[:, place],
            "position": np.zeros(lists, int),
        }
        shown = np.zeros((lists, ITEMS + 1, 1))  # the last one stands for items that the log does not show there
        shown[np.arange(lists), np.where(kept[:, place], log.shown[:, place], ITEMS), 0] = 1
        whole["ips"] += InverseProbabilityWeighting().estimate_policy_value(**given, action_dist=shown)
        whole["snips"] += SelfNormalizedInverseProbabilityWeighting().estimate_policy_value(**given, action_dist=shown)
        whole["dr"] += SwitchDoublyRobust(tau=most).estimate_policy_value(
            **given, action_dist=policy, estimated_rewards_by_reg_model=expected
        )
    for name, value in whole.items():
        assert getattr(found, name).value == pytest.approx(value, rel=1e-9), name
    of_list = SlateIndependentIPS(len_list=PLACES).estimate_policy_value(
        slate_id=np.repeat(np.arange(lists), PLACES),
        reward=log.clicks.ravel(),
        position=np.tile(np.arange(PLACES), lists),
        pscore_item_position=log.propensities.ravel(),
        evaluation_policy_pscore_item_position=kept.astype(float).ravel(),
    )
    assert found.ips.value == pytest.approx(of_list, rel=1e-9), "per place is what it calls the independent slate IPS"

"""Exploration in a closed loop: what is shown decides what is learnt, so only who explores finds good new items."""

from __future__ import annotations

from statistics import mean
from typing import NamedTuple

import numpy as np
import pytest

from ranker.features import NAMES, NEWNESS, SCHEMA
from ranker.fusion.fused import FusedScorer
from ranker.score import FeatureSet
from streams.contracts import Candidate, Features, HistoryEvent, RankRequest
from streams.rank.tier import RankTier
from streams.settings import RankerSettings, Settings
from tests.unit.test_cascade import linear

ITEMS, NEW, SIZE, LISTS, BATCH = 80, 20, 10, 2_000, 100
LOOKS = 1 / np.log2(np.arange(2, SIZE + 2))
KNOWN, SURE = 60, 5
"""Looks at each old item before, and how many tell something of a new one."""


class Season(NamedTuple):
    """What a ranker got."""

    first: float
    """Expected clicks per list in the first fifth."""
    last: float
    known: float
    """The share of the new items that are known in the end."""


def season(seed: int, explore: float) -> Season:
    """A ranker that knows an item's rate of clicks, as far as it was shown; a quarter of the items is new."""
    random = np.random.default_rng(seed)
    appeal, new = random.beta(1.5, 6, ITEMS), random.permutation(ITEMS)[:NEW]
    looked, clicked = np.full(ITEMS, float(KNOWN)), random.binomial(KNOWN, appeal).astype(float)
    looked[new] = clicked[new] = 0
    scorer = FusedScorer("head", None, linear({"trend": 1.0}, NAMES), FeatureSet(NAMES, ""))
    scorer.start(learning=False, exploring=explore > 0)
    settings = RankerSettings(explore=explore, list_size=SIZE, max_per_category=SIZE)
    tier = RankTier(Settings(ranker=settings), scorer)
    candidates = [Candidate(item_id=f"{number}", text="") for number in range(ITEMS)]
    history = [HistoryEvent(item_id="h", type="click", timestamp=1, title="h")]
    got = []
    for version in range(LISTS // BATCH):
        rate = (clicked + 1) / (looked + 6)
        values = np.zeros((ITEMS, len(NAMES)), np.float16)
        values[:, NAMES.index("trend")] = np.log(rate / (1 - rate))
        values[:, NAMES.index(NEWNESS)] = 1 / (1 + looked)
        asked = [
            RankRequest(
                request_id=f"{version}-{user}",
                user_id=f"u{user}",
                as_of=1,
                history=history,
                candidates=candidates,
                features=Features(schema=SCHEMA, values=values.tobytes()),
                state_version=version,
            )
            for user in range(BATCH)
        ]
        shown = np.array([[int(item.item_id) for item in list_.items] for list_ in tier.rank(asked, 1)])
        chance = appeal[shown] * LOOKS
        np.add.at(looked, shown, np.broadcast_to(LOOKS, shown.shape))
        np.add.at(clicked, shown, random.random(shown.shape) < chance)
        got.append(float(chance.sum(1).mean()))
    fifth = len(got) // 5
    return Season(mean(got[:fifth]), mean(got[-fifth:]), float((looked[new] >= SURE).mean()))


@pytest.mark.field
def test_exploration_pays_for_itself() -> None:
    greedy, exploring = ([season(seed, explore) for seed in range(2)] for explore in (0, 0.05))
    assert all(one.known == 0 for one in greedy), "it never shows them"
    assert min(one.known for one in exploring) >= 0.3
    assert mean(one.first for one in exploring) >= 0.95 * mean(one.first for one in greedy), "the loss that is allowed"
    assert mean(one.last for one in exploring) >= 1.02 * mean(one.last for one in greedy)

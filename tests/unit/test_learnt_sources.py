"""When a learnt source is kept: for better lists, or for better candidates that make no list worse."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from ranker.train.learnt_sources import _Judged

NOISE = np.random.default_rng(1).normal(size=1_000) * 0.1


@pytest.mark.parametrize(
    ("ndcg", "recall", "kept"),
    [
        (0.02, 0.0, True),
        (0.02, -0.1, True),
        (0.0, 0.05, True),
        (-0.001, 0.05, True),  # within the noise
        (-0.02, 0.05, False),
        (0.001, 0.001, False),
        (0.0, 0.0, False),
    ],
)
def test_a_source_is_kept_for_lists_or_for_candidates(ndcg: float, recall: float, kept: bool) -> None:
    no_groups = cast(Any, None)
    without = _Judged(no_groups, np.full(1_000, 0.2), np.full(1_000, 0.5))
    noise = NOISE - NOISE.mean()
    having = _Judged(no_groups, without.ndcg + noise + ndcg, without.recall + noise + recall)
    facts = having.against(without, keep=False)
    assert having.against(without, keep=True)["kept"]
    assert facts["kept"] == kept
    assert facts["standard_error"] == pytest.approx(0.1 / 1_000**0.5, rel=0.1)
    assert facts["recall_difference"] == pytest.approx(recall, abs=1e-6)

"""A worker whose model is replaced many times exposes the metrics of the models that serve, and of no others."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client import generate_latest

from ranker.features import NAMES
from ranker.fusion.fused import FusedScorer
from ranker.score import MAX_LISTS, FeatureSet, LearningTotals, ScoreRequest
from streams import metrics
from streams.contracts import Feedback, RankRequest
from streams.metric_labels import REPLACED_MODEL
from streams.rank.recent_lists import PublishedList, RecentLists
from streams.rank.tier import RankTier
from streams.rank.worker import RankWorker
from streams.settings import RankerSettings, Settings
from tests.unit.test_fusion import CONTEXT, TEXTS, head, rows
from tests.unit.test_rank_worker import NOW, Out, Slow, event
from tests.unit.test_recent_lists import request

SWAPS = 200


def built() -> set[str]:
    """The models that `afterclick_build_info` names."""
    return {sample.labels["model"] for family in metrics.build_info.collect() for sample in family.samples}


class Version(Slow):
    """One version of a model that learns."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.learning = LearningTotals()

    def score(self, requests: Sequence[ScoreRequest]) -> list[NDArray[np.float32]]:
        self.usage.requests += len(requests)
        return [np.arange(len(request.candidates), dtype=np.float32) for request in requests]

    def learn(self, feedback: Sequence[Any]) -> None:
        self.learning.feedback += len(feedback)


def exposed_names() -> set[str]:
    """The values of the label `model` in the text that Prometheus reads, without folders' names."""
    lines = generate_latest().decode().splitlines()
    by_folder = "afterclick_model_swaps", "afterclick_recall_swaps"
    of_models = [line for line in lines if 'model="' in line and not line.startswith(by_folder)]
    return {line.partition('model="')[2].partition('"')[0] for line in of_models}


def test_two_hundred_swaps_do_not_grow_the_metrics() -> None:
    async def played() -> None:
        out: Any = Out()
        model, challenger = Version("shop@0"), Version("challenger@0")
        tier = RankTier(Settings(ranker=RankerSettings(challenger="other", challenger_share=0.5)), model, challenger)
        with ThreadPoolExecutor(1) as thread:
            worker = RankWorker(Settings(), tier, out, out, thread)
            running = asyncio.create_task(worker.run())
            for number in range(SWAPS):
                for user in (f"user-{user}" for user in range(4)):
                    await worker.take(event(user, len(worker.acks) + number * 4 + int(user[-1])))
                await worker.acks.drain(5)
                for variant, name in enumerate(("shop", "challenger")):
                    before = tier.scorers[variant]
                    assert before is not None
                    tier.serve(Version(f"{name}@{number + 1}"), variant)
                    assert built() == {scorer.name for scorer in tier.scorers if scorer}
                    tier.retire(before)
                if number == 1:
                    size = len(generate_latest())
                assert len(exposed_names() - {"none", REPLACED_MODEL}) <= 2
            running.cancel()
        assert len(generate_latest()) < 1.05 * size + 2_000

    asyncio.run(played())


def test_feedback_on_lists_of_a_replaced_model_counts_under_no_name() -> None:
    first, second = Version("shop@1"), Version("shop@2")
    tier = RankTier(Settings(), first)
    [list_] = tier.rank([request("ann", 0)], NOW)
    tier.serve(second, 0)
    tier.retire(first)
    before = metrics.feedback.labels(REPLACED_MODEL)._value.get()
    tier.rank([request("ann", 1, ("r0", list_.items[0].item_id))], NOW)
    assert metrics.feedback.labels(REPLACED_MODEL)._value.get() == before + 1
    assert first.learning.feedback == second.learning.feedback == 0
    assert "shop@1" not in exposed_names()


def test_the_tier_and_a_learning_scorer_remember_equally_many_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = FusedScorer("mine", None, head(1), FeatureSet(NAMES, ""))
    scorer.start_learning()
    recent = RecentLists()
    features = rows(1, len(TEXTS))
    for number in range(MAX_LISTS + 1):
        scorer.score([ScoreRequest(CONTEXT, TEXTS[:1], "ann", features[:1], list_id=f"r{number}")])
        recent.remember(f"r{number}", PublishedList(scorer, "ann", ["c0"], [0]))

    def learnt_from(list_id: str) -> int:
        plain = msgspec.json.decode(event("ann", 0).message.value, type=RankRequest)
        given = msgspec.structs.replace(plain, feedback=[Feedback(list_id=list_id, item_id="c0")])
        for of_scorer, feedback in recent.feedback([given]).items():
            assert of_scorer is scorer
            scorer.learn(feedback)
        assert scorer.learning is not None
        return scorer.learning.feedback

    assert learnt_from("r0") == 0, "forgotten by both"
    assert learnt_from("r1") == 1, "remembered by both"

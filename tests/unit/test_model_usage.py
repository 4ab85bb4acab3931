"""The counters of the scorers' work begin at zero and never fall, though scorers are replaced and processes restart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from encoders.models.usage import Usage
from ranker.score import LearningTotals, ScoreRequest
from streams import metrics
from streams.rank.model_usage import ModelUsage
from streams.rank.tier import RankTier
from streams.settings import Settings
from tests.unit.test_rank_worker import NOW, Slow
from tests.unit.test_recent_lists import request


class CountingScorer(Slow):
    """A scorer whose totals a test sets, as a client of another process does after each call."""

    def __init__(self, name: str = "shop@1", padding_tokens: int = 0) -> None:
        super().__init__()
        self.name = name
        self.learning: LearningTotals | None = LearningTotals()
        self.usage = Usage(requests=padding_tokens, padding_tokens=padding_tokens)

    def answered(self, requests: int, padding_tokens: int) -> None:
        """The totals after the latest call."""
        self.usage = Usage(requests=requests, padding_tokens=padding_tokens, context_bytes=100)

    def learn(self, feedback: object) -> None:
        pass


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def usage(registry: CollectorRegistry) -> Iterator[ModelUsage]:
    usage = ModelUsage()
    registry.register(usage)
    yield usage
    registry.unregister(usage)


def padding(registry: CollectorRegistry, model: str = "shop@1") -> float | None:
    return registry.get_sample_value("afterclick_padding_tokens_total", {"model": model})


def test_each_counter_is_at_zero_before_the_first_call(usage: ModelUsage, registry: CollectorRegistry) -> None:
    usage.add(CountingScorer(padding_tokens=70))
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in registry.collect()
        for sample in family.samples
    }
    model = ("model", "shop@1")
    assert samples == {
        ("afterclick_padding_tokens_total", model): 0,
        ("afterclick_context_tokens_reused_total", model): 0,
        ("afterclick_contexts_total", ("cache", "hit"), model): 0,
        ("afterclick_contexts_total", ("cache", "miss"), model): 0,
        ("afterclick_text_vectors_total", ("cache", "hit"), model): 0,
        ("afterclick_text_vectors_total", ("cache", "miss"), model): 0,
        ("afterclick_new_text_vectors_total", model, ("source", "disk")): 0,
        ("afterclick_new_text_vectors_total", model, ("source", "model")): 0,
        ("afterclick_truncated_contexts_total", model): 0,
        ("afterclick_truncated_texts_total", model): 0,
        ("afterclick_feedback_loss_nats_total", ("head", "live"), model): 0,
        ("afterclick_feedback_loss_nats_total", ("head", "frozen"), model): 0,
        ("afterclick_heads_rolled_back_total", model): 0,
        ("afterclick_context_cache_bytes", model): 0,
    }
    assert {family.type for family in registry.collect()} == {"counter", "gauge"}


def test_counters_go_on_where_a_restarted_process_begins_at_zero(
    usage: ModelUsage, registry: CollectorRegistry
) -> None:
    scorer = CountingScorer(padding_tokens=70)
    usage.add(scorer)
    scorer.answered(requests=100, padding_tokens=100)
    assert padding(registry) == 30
    scorer.answered(requests=2, padding_tokens=8)
    usage.observe_batch(scorer, 2)
    scorer.answered(requests=200, padding_tokens=10)
    assert padding(registry) == 40
    assert registry.get_sample_value("afterclick_context_cache_bytes", {"model": "shop@1"}) == 100


def test_what_was_learnt_goes_on_too(usage: ModelUsage, registry: CollectorRegistry) -> None:
    scorer = CountingScorer()
    usage.add(scorer)
    read = []
    for learning in (LearningTotals(4, 1, 2.0, 3.0), LearningTotals(1, 0, 0.5, 1.0), None):
        scorer.learning = learning
        of_heads = ({"model": "shop@1", "head": head} for head in ("live", "frozen"))
        rolled_back = registry.get_sample_value("afterclick_heads_rolled_back_total", {"model": "shop@1"})
        losses = [registry.get_sample_value("afterclick_feedback_loss_nats_total", labels) for labels in of_heads]
        read.append((rolled_back, *losses))
    assert read == [(1, 2.0, 3.0), (1, 2.5, 4.0), (1, 2.5, 4.0)]


def test_scorers_of_one_name_add_up_and_none_takes_its_calls_along(
    usage: ModelUsage, registry: CollectorRegistry
) -> None:
    older, newer = CountingScorer(), CountingScorer()
    usage.add(older)
    usage.add(newer)
    older.answered(requests=5, padding_tokens=5)
    newer.answered(requests=3, padding_tokens=3)
    assert padding(registry) == 8
    usage.retire(older, {"shop@1"})
    newer.answered(requests=4, padding_tokens=4)
    assert padding(registry) == 9
    usage.retire(newer, {"shop@2"})
    assert padding(registry) is None, "a model that does not serve any more has no series"


def test_a_call_that_ends_after_its_scorer_was_retired_is_not_observed(usage: ModelUsage) -> None:
    scorer = CountingScorer("late@1")
    usage.add(scorer)
    usage.retire(scorer, set())
    usage.observe_batch(scorer, 1)
    assert ("late@1",) not in metrics.batch_lists._metrics


def test_the_tier_observes_each_call_and_not_its_warm_up(registry: CollectorRegistry) -> None:
    class Reading(CountingScorer):
        def score(self, requests: Sequence[ScoreRequest]) -> list[NDArray[np.float32]]:
            self.usage.requests += 1
            self.usage.context_tokens += 1000
            self.usage.padding_tokens += 10
            return super().score(requests)

    scorer = Reading("reading@1")
    tier = RankTier(Settings(), scorer)
    registry.register(tier.usage)
    tier.warm_up()
    assert padding(registry, "reading@1") == 0
    for number in range(3):
        tier.rank([request("ann", number)], NOW)
    assert padding(registry, "reading@1") == 30
    tokens = metrics.batch_tokens.labels("reading@1")
    assert tokens._sum.get() == 3000
    assert metrics.batch_lists.labels("reading@1")._sum.get() == 3

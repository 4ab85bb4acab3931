"""Counters of what the scorers read, computed and learnt, for Prometheus.

A scorer keeps totals of its own (`encoders.models.usage.Usage`, `ranker.score.LearningTotals`); a scrape reads them. A
scorer's totals begin at zero again when the models' process is restarted, and another scorer takes its place when a
model's folder changes. The exposed counters never fall as long as a model of their name serves. Knows no request and no
list.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import NamedTuple, TypeAlias

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from ranker.score import Learner, LearningTotals, Scorer
from streams import metrics

Totals: TypeAlias = "dict[str, float]"
"""Field of `Usage` or `LearningTotals` -> its value."""


class _ModelCounter(NamedTuple):
    """A counter whose values are fields of `Totals`: one field, or one for each value of a second label."""

    name: str
    help: str
    fields: Mapping[str, str]
    label: str | None = None


_COUNTERS = (
    _ModelCounter("afterclick_padding_tokens", "Padding tokens that the model computed", {"": "padding_tokens"}),
    _ModelCounter(
        "afterclick_context_tokens_reused",
        "Context tokens whose result was cached by an earlier call",
        {"": "context_tokens_reused"},
    ),
    _ModelCounter(
        "afterclick_contexts",
        "Contexts scored, by whether the cache held a part of them",
        {"hit": "context_hits", "miss": "context_misses"},
        "cache",
    ),
    _ModelCounter(
        "afterclick_text_vectors",
        "Texts of events and candidates that lists needed, by whether the vector was cached; a miss is made first",
        {"hit": "vector_hits", "miss": "vector_misses"},
        "cache",
    ),
    _ModelCounter(
        "afterclick_new_text_vectors",
        "Texts whose vector was not cached yet, by whether it was read from disk or computed by the model",
        {"disk": "vectors_read", "model": "vectors_computed"},
        "source",
    ),
    _ModelCounter(
        "afterclick_truncated_contexts", "Contexts truncated to the model's length", {"": "truncated_contexts"}
    ),
    _ModelCounter(
        "afterclick_truncated_texts", "Item texts truncated to the model's length", {"": "truncated_candidates"}
    ),
    _ModelCounter(
        "afterclick_feedback_loss_nats",
        "Sum of the losses over users' feedback: of the head that keeps learning, and of the head as it was trained",
        {"live": "live_loss", "frozen": "frozen_loss"},
        "head",
    ),
    _ModelCounter(
        "afterclick_heads_rolled_back",
        "Rollbacks of the learning head to the trained one because its loss was higher",
        {"": "rolled_back"},
    ),
)


class _SteadyTotals:
    """Totals that continue when their source begins at zero again.

    Parameters
    ----------
    source : callable
        Returns the current totals. What they hold at the construction does not count.
    progress : str
        A field that grows whenever the other fields may have grown: if it falls, the source was restarted.
    """

    def __init__(self, source: Callable[[], Totals], progress: str) -> None:
        self._source = source
        self._progress = progress
        self._latest = source()
        self._carried = {field: -value for field, value in self._latest.items()}

    def read(self) -> Totals:
        """The totals since the construction, over all restarts."""
        current = self._source()
        if current[self._progress] < self._latest[self._progress]:
            for field, value in self._latest.items():
                self._carried[field] += value
        self._latest = current
        return {field: self._carried[field] + value for field, value in current.items()}


class _ScorerTotals:
    """Usage and learning of one scorer, from zero."""

    def __init__(self, scorer: Scorer) -> None:
        self._usage = _SteadyTotals(lambda: dict(vars(scorer.usage)), "requests")
        self._learning = _SteadyTotals(lambda: dict(vars(_learning(scorer))), "feedback")
        self._at_last_batch = self._usage.read()

    def read(self) -> Totals:
        return self._usage.read() | self._learning.read()

    def since_last_batch(self) -> Totals:
        """The usage since the previous call of this method."""
        before, self._at_last_batch = self._at_last_batch, self._usage.read()
        return {field: value - before[field] for field, value in self._at_last_batch.items()}


class ModelUsage(Collector):
    """The scorers that serve. Safe to use from several threads.

    A process that serves /metrics registers it with the Prometheus registry.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._scorers: dict[Scorer, _ScorerTotals] = {}
        self._retired: dict[str, Totals] = {}  # by model name, while another scorer of this name serves

    def add(self, scorer: Scorer) -> None:
        """Count what the scorer does from now on, from zero."""
        with self._lock:
            self._scorers[scorer] = _ScorerTotals(scorer)

    def retire(self, scorer: Scorer, serving: Collection[str]) -> None:
        """Stop counting a scorer.

        Parameters
        ----------
        scorer : Scorer
            It was replaced and has finished its last call.
        serving : collection of str
            Names of the models that serve; the counters of all others are dropped.
        """
        with self._lock:
            totals = self._scorers.pop(scorer, None)
            if totals is not None:
                self._retired[scorer.name] = _sum(self._retired.get(scorer.name, {}), totals.read())
            self._retired = {name: totals for name, totals in self._retired.items() if name in serving}

    def observe_batch(self, scorer: Scorer, lists: int) -> None:
        """Observe the histograms of one call.

        Parameters
        ----------
        scorer : Scorer
            It has just answered a call; a retired one is ignored.
        lists : int
            Lists that the call was for.
        """
        with self._lock:
            totals = self._scorers.get(scorer)
            if totals is None:
                return
            usage = totals.since_last_batch()
        metrics.batch_lists.labels(scorer.name).observe(lists)
        metrics.batch_tokens.labels(scorer.name).observe(usage["context_tokens"] + usage["candidate_tokens"])
        metrics.tokenise_seconds.labels(scorer.name).observe(usage["tokenise_seconds"])
        metrics.inference_seconds.labels(scorer.name).observe(usage["inference_seconds"])

    def collect(self) -> Iterator[Metric]:
        """The metrics at this moment, for the Prometheus registry."""
        with self._lock:
            totals = dict(self._retired)
            cache_bytes: defaultdict[str, int] = defaultdict(int)
            for scorer, of_scorer in self._scorers.items():
                totals[scorer.name] = _sum(totals.get(scorer.name, {}), of_scorer.read())
                cache_bytes[scorer.name] += scorer.usage.context_bytes
        for counter in _COUNTERS:
            family = CounterMetricFamily(
                counter.name, counter.help, labels=["model", *([counter.label] if counter.label else [])]
            )
            for model, of_model in totals.items():
                for value, field in counter.fields.items():
                    family.add_metric([model, *([value] if counter.label else [])], of_model[field])
            yield family
        gauge = GaugeMetricFamily("afterclick_context_cache_bytes", "Memory of the cached contexts", labels=["model"])
        for model, of_model_bytes in cache_bytes.items():
            gauge.add_metric([model], of_model_bytes)
        yield gauge


def _learning(scorer: Scorer) -> LearningTotals:
    totals = scorer.learning if isinstance(scorer, Learner) else None
    return totals or LearningTotals()


def _sum(partial: Totals, added: Totals) -> Totals:
    return {field: partial.get(field, 0.0) + value for field, value in added.items()}

"""The Prometheus metrics of the parts of models that the state tier uses."""

from __future__ import annotations

from prometheus_client import Counter

swaps = Counter(
    "afterclick_recall_swaps_total",
    "Changes of a model's folder that a state worker has seen, by model: 'served', its sources, merge and features are "
    "the new ones, or 'refused', they stay as they were and the log says why",
    ["model", "outcome"],
)

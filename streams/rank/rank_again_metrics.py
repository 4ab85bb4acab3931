"""The Prometheus metrics of lists that are ranked again."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

waiting = Gauge(
    "afterclick_lists_to_rank_again",
    "Lists whose newest version went out without the model, and that the model ranks once no user waits",
)
ranked = Counter(
    "afterclick_lists_ranked_again_total", "Lists that the model has ranked after they had gone out without it"
)

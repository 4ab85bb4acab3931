"""The Prometheus metric of how satisfied the users are for whom each model makes lists."""

from __future__ import annotations

from prometheus_client import Histogram

from streams import metrics

user_satisfaction = Histogram(
    "afterclick_user_satisfaction",
    "How satisfied the user of a list was when the list was made, 0 to 1; without users of whom nothing is known",
    ["model"],
    buckets=tuple(number / 10 for number in range(1, 11)),
)
metrics.by_model.append(user_satisfaction)

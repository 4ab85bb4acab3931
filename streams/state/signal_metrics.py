"""The Prometheus metrics of how users respond: returns, and the lists that they were shown."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

from streams.metrics import from_zero

SHARES = tuple(number / 10 for number in range(1, 11))
returns = Counter(
    "afterclick_returns_total",
    "Returns: their purchase was 'taken-back', or is not known ('no-purchase'); 'late-purchase': it came afterwards; "
    "'no-item': its item was deleted meanwhile, so its part of the interest stays and fades",
    ["outcome"],
)
from_zero(returns, ("taken-back", "no-purchase", "late-purchase", "no-item"))
list_satisfaction = Histogram(
    "afterclick_list_satisfaction",
    "How satisfied users were with each list that impressions showed, 0 to 1, when another comes after half an hour",
    buckets=SHARES,
)

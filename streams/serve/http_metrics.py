"""The Prometheus metrics of the HTTP interface. Knows no route."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

from streams.metric_labels import INPUTS
from streams.metrics import SECONDS, from_zero

requests = Counter(
    "afterclick_http_requests_total",
    "Requests by HTTP, by the template of their path and the status of the answer; 499: the client went away",
    ["route", "status"],
)
seconds = Histogram(
    "afterclick_http_seconds", "Time from a request by HTTP to the beginning of its answer", ["route"], buckets=SECONDS
)
refused = Counter(
    "afterclick_http_refused_total",
    "Requests and connections by HTTP that were refused before a route read them, by reason",
    ["reason"],
)
from_zero(refused, ("token", "host", "rate", "body", "slow", "malformed", "connections"))
events = Counter(
    "afterclick_http_events_total",
    "Events by HTTP: 'accepted' once Kafka has them, 'rejected' for their content, 'failed' if Kafka did not take them",
    ["topic", "outcome"],
)
from_zero(events, ("other",), ("rejected",))
from_zero(events, [name for name in INPUTS if name != "rank-requests"], ("accepted", "rejected", "failed"))

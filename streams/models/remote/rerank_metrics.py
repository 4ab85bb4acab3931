"""The Prometheus metrics of a reranker on a server. `model` is its host and the model that the settings name."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from streams import metrics

OUTCOMES = ("answered", "timeout", "unreachable", "busy", "failed", "refused", "unreadable", "not-sent")

requests = Counter(
    "afterclick_rerank_requests_total",
    "Requests to the server that ranks, by outcome: 'answered', or why not; 'busy': HTTP 429 or 503; 'failed': other "
    "errors of the server; 'refused': the request is wrong; 'not-sent': the circuit was open, or no time was left",
    ["model", "outcome"],
)
seconds = Histogram(
    "afterclick_rerank_seconds",
    "Time from a request to the server that ranks until its answer",
    ["model"],
    buckets=metrics.SECONDS,
)
circuit_open = Gauge(
    "afterclick_rerank_circuit_open",
    "1 while no list is sent to the server that ranks, because it failed several times in a row; lists go out without "
    "the model",
    ["model"],
)


def from_zero(model: str) -> None:
    """Create all series of a reranker."""
    metrics.from_zero(requests, [model], OUTCOMES)
    metrics.from_zero(seconds, [model])
    circuit_open.labels(model).set(0)


def drop(model: str) -> None:
    """Drop all series of a reranker that serves no more."""
    for metric in (requests, seconds, circuit_open):
        metric.remove_by_labels({"model": model})

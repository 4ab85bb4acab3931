"""The label values of the metrics that are known before anything happens. Knows no metric."""

from __future__ import annotations

REJECTION_REASONS = (
    "topic",
    "null",
    "too-large",
    "malformed",
    "invalid",
    "key",
    "time",
    "reserved",
    "merge",
    "placement",
    "unreadable",
    "schema",
    "type",
)
"""Why a message becomes a dead letter: `streams.receive.message.BadMessage.reason`."""
DEGRADED_REASONS = (
    "cold-user",
    "no-model",
    "overload",
    "model-error",
    "model-timeout",
    "model-busy",
    "model-not-finite",
    "no-features",
    "other-features",
    "no-candidates",
)
"""Why a list was made without the model: `streams.contracts.Recommendations.degraded`."""
COERCION_KINDS = (
    "null",
    "empty",
    "single",
    "number-as-text",
    "text-as-number",
    "float-as-integer",
    "boolean",
    "currency",
    "time",
    "bom",
    "confluent",
)
"""Deviations from the contract that are accepted: `streams.receive.lenient`."""
EVENT_OUTCOMES = {
    **dict.fromkeys(
        ("clicks", "purchases", "events", "searches", "preferences", "merges"),
        ("accepted", "duplicate", "forgotten", "rejected", "routed"),
    ),
    "impressions": ("accepted", "forgotten", "rejected", "routed"),
    "items": ("accepted", "rejected", "routed", "unknown"),
    "knowledge": ("accepted", "rejected", "routed"),
    **dict.fromkeys(("forget", "rank-requests"), ("accepted", "rejected", "routed")),
    "routed-events": ("rejected",),
}
"""What became of a message, by its topic: `afterclick_events_total`."""
INPUTS = (
    "clicks",
    "purchases",
    "events",
    "searches",
    "preferences",
    "impressions",
    "items",
    "knowledge",
    "rank-requests",
    "forget",
    "merges",
)
OF_USERS = tuple(name for name in INPUTS if name not in ("items", "knowledge", "rank-requests"))
"""The inputs whose messages change users' states."""
REPLACED_MODEL = "replaced"
"""The label value that stands for every model that no longer serves."""

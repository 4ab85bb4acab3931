"""The Prometheus metrics of the reasons in lists."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from ranker.reasons.text_check import CAUSES
from streams.metrics import SECONDS, from_zero

unknown_language = Counter(
    "afterclick_lists_unknown_language_total",
    "Lists for users whose `context.language` has no phrases; their reasons are in the language of the settings",
)
texts = Counter(
    "afterclick_reason_texts_total", "Texts of the model that words reasons whose every claim the evidence supports"
)
refused = Counter(
    "afterclick_reason_texts_refused_total",
    "Texts of this model that were refused, so that the template stayed, by cause: 'name', 'number' or 'claim' that is "
    "not in the evidence, 'no-evidence' named, 'form' (a repetition), 'long', 'empty'",
    ["cause"],
)
from_zero(refused, CAUSES)
lists = Counter(
    "afterclick_reason_lists_total",
    "Lists that waited for texts, by what became of them: 'published' again, 'unchanged' as no text was accepted, "
    "'superseded' by a newer list or an erasure, 'dropped' as too many waited, 'failed' with the model or with Kafka",
    ["outcome"],
)
from_zero(lists, ("published", "unchanged", "superseded", "dropped", "failed"))
pending = Gauge("afterclick_reason_lists_pending", "Lists that wait for texts")
seconds = Histogram(
    "afterclick_reason_text_seconds",
    "Time from the moment at which a list is out until it is out with texts",
    buckets=SECONDS,
)

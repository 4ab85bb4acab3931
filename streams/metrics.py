"""All Prometheus metrics that are moved when something happens, in the order of an event's way.

The counters of what the scorers read, computed and learnt are read at each scrape instead: `streams.rank.model_usage`.
Names are `afterclick_<thing>_<unit>`. Intervals are measured with monotonic clocks, except those that begin at an
event's own timestamp. A counter with labels is created with all known label values (`from_zero`): an alert on a rate
sees the first increment only if the counter was exposed at zero before. Knows no step of the way.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import product

from prometheus_client import Counter, Gauge, Histogram

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3_600)
RANKS = (1, 2, 3, 5, 10, 20, 50, 100)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096)
REJECTION_REASONS = (
    "topic",
    "null",
    "too-large",
    "malformed",
    "invalid",
    "key",
    "time",
    "reserved",
    "unreadable",
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
)
"""Deviations from the contract that are accepted: `streams.receive.lenient`."""
INPUTS = ("clicks", "purchases", "impressions", "items", "rank-requests", "forget")
REPLACED_MODEL = "replaced"
"""The label value that stands for every model that no longer serves."""


def from_zero(counter: Counter, *values: Sequence[str]) -> None:
    """Create the counter's children, at 0, for every combination of label values.

    Parameters
    ----------
    counter : Counter
        A counter with labels.
    *values : sequence of str
        The known values of each label, in the order of the counter's labels.
    """
    for labels in product(*values):
        counter.labels(*labels)


def topics_from_zero(topics: Collection[str]) -> None:
    """Create the children of the counters that have a label for a topic's full name.

    Parameters
    ----------
    topics : collection of str
        Full names, with the prefix of this installation.
    """
    from_zero(unreadable_batches, tuple(topics))
    from_zero(expired, tuple(topics))


def model_from_zero(model: str) -> None:
    """Create the children of all counters of a model that begins to serve.

    Parameters
    ----------
    model : str
        The model's name with its version, or `none`.
    """
    for counter in (feedback, lists, scores_not_finite):
        from_zero(counter, [model])
    from_zero(lists_degraded, [model], DEGRADED_REASONS)


ready = Gauge(
    "afterclick_worker_ready",
    "1 once the tables are restored, the catalogue is read and the models are warm",
    ["tier"],
)

events = Counter("afterclick_events_total", "Messages received, by outcome", ["topic", "outcome"])
from_zero(events, ("clicks", "purchases"), ("accepted", "duplicate", "forgotten", "rejected", "routed"))
from_zero(events, ("items", "impressions", "rank-requests"), ("accepted", "rejected"))
from_zero(events, ("items",), ("unknown",))
from_zero(events, ("forget",), ("accepted", "rejected", "routed"))
from_zero(events, ("routed-events",), ("rejected",))
duplicates_presumed = Counter(
    "afterclick_duplicates_presumed_total",
    "Events with the outcome 'duplicate' that are older than the event ids which their user's state remembers",
)
duplicates_ratio = Gauge(
    "afterclick_duplicates_ratio",
    "Share of duplicates among the latest clicks and purchases that were written since this worker got its partitions",
)
events_uncounted = Counter(
    "afterclick_events_uncounted_total",
    "Accepted events left out of popularity, trend and co-visits; 'busy': the user had too many events in an hour",
    ["reason"],
)
from_zero(events_uncounted, ("busy",))
dead_letters = Counter("afterclick_dead_letters_total", "Messages rejected, by reason", ["topic", "reason"])
from_zero(dead_letters, (*INPUTS, "routed-events"), REJECTION_REASONS)
unreadable_batches = Counter(
    "afterclick_unreadable_batches_total",
    "Record batches that Kafka delivered, that cannot be decoded and that were skipped; each reader counts its own",
    ["topic"],
)
values_coerced = Counter(
    "afterclick_values_coerced_total", "Values accepted although they deviate from the contract", ["topic", "kind"]
)
from_zero(values_coerced, INPUTS, COERCION_KINDS)
messages_cut = Counter(
    "afterclick_messages_cut_total", "Messages too large for their topic that were sent without a part", ["topic"]
)
from_zero(messages_cut, ("rank-requests", "recommendations", "dead-letters", "routed-events"))
item_counts_unreadable = Counter(
    "afterclick_item_counts_unreadable_total", "Records of the item counts' topic that cannot be decoded, skipped"
)
repartitioned = Counter(
    "afterclick_repartitioned_total",
    "Events found on another partition than the hash of their key gives, and sent to that one",
    ["topic"],
)
from_zero(repartitioned, ("clicks", "purchases", "forget"))
expired = Counter(
    "afterclick_expired_messages_total", "Messages that Kafka's retention deleted before they were read", ["topic"]
)
consumer_lag = Gauge("afterclick_consumer_lag_messages", "Messages not yet processed", ["topic", "partition"])
transaction_lag = Gauge(
    "afterclick_transaction_lag_messages",
    "The part of the lag that lies behind a producer's open transaction and cannot be read before it ends",
    ["topic", "partition"],
)
memberships_lost = Counter(
    "afterclick_memberships_lost_total",
    "Times that in-flight work was discarded because the consumer group had given its partitions to another worker",
    ["tier"],
)
from_zero(memberships_lost, ("state", "rank"))

restore_remaining = Gauge(
    "afterclick_restore_remaining_records", "Changelog records still to be read into the user states; 0 once restored"
)

users_flushed = Counter("afterclick_users_flushed_total", "User states written to the changelog")
flush_seconds = Histogram(
    "afterclick_flush_seconds", "One flush of the state tier, until Kafka has acknowledged all writes", buckets=SECONDS
)
state_bytes = Histogram(
    "afterclick_state_bytes", "Size of one user's state as written", buckets=(256, *range(512, 4_609, 512))
)
waiting_events_dropped = Counter(
    "afterclick_waiting_events_dropped_total",
    "Events that waited for an item missing from the catalogue and were replaced by newer ones",
)
catalogue_items = Gauge("afterclick_catalogue_items", "Items in the catalogue")
graph_loads = Counter(
    "afterclick_graph_loads_total",
    "Attempts to load the saved search graph at the start, by outcome; after any but 'loaded' the graph is rebuilt",
    ["outcome"],
)
from_zero(graph_loads, ("loaded", "none", "outdated", "damaged", "unreadable"))
graph_saves = Counter("afterclick_graph_saves_total", "Search graphs written to disk, by outcome", ["outcome"])
from_zero(graph_saves, ("saved", "failed"))
text_tokens = Counter(
    "afterclick_text_tokens_total",
    "Tokens of the texts that a model read, by whether its vocabulary has them; `reader` is the encoder or the ranker",
    ["reader", "in_vocabulary"],
)
from_zero(text_tokens, ("encoder", "ranker"), ("yes", "no"))
encode_seconds = Histogram("afterclick_encode_seconds", "Encoding of one batch of item texts", buckets=SECONDS)

requests_pending = Gauge("afterclick_rank_queue_size", "Users who wait for the model to rank their list")
requests_superseded = Counter(
    "afterclick_requests_superseded_total", "Rank requests replaced by a newer one of the same user before ranking"
)
candidates_cut = Counter(
    "afterclick_candidates_cut_total", "Candidates that were not scored because their retrieval score was too low"
)
batch_lists = Histogram("afterclick_batch_lists", "Lists scored in one call of the model", ["model"], buckets=SIZES)
batch_tokens = Histogram(
    "afterclick_batch_tokens",
    "Tokens in one call of the model, without padding",
    ["model"],
    buckets=[s * 64 for s in SIZES],
)
tokenise_seconds = Histogram("afterclick_tokenise_seconds", "Tokenisation of one batch", ["model"], buckets=SECONDS)
queue_seconds = Histogram(
    "afterclick_queue_seconds", "Time that a rank request waited for its batch", ["model"], buckets=SECONDS
)
inference_seconds = Histogram(
    "afterclick_inference_seconds", "Inference of the model on one batch", ["model"], buckets=SECONDS
)
model_swaps = Counter(
    "afterclick_model_swaps_total",
    "Changes of a model's folder while the worker ran: the new model is 'served', or 'refused' and the old one stays; "
    "`model` is the folder's name",
    ["model", "outcome"],
)
feedback = Counter(
    "afterclick_feedback_total",
    "Items that users chose from lists that a model ranked; `model` is 'replaced' for models that no longer serve",
    ["model"],
)
feedback_rank = Histogram(
    "afterclick_feedback_rank", "Rank in its list of an item that a user chose, from 1", ["model"], buckets=RANKS
)
scores_not_finite = Counter(
    "afterclick_scores_not_finite_total", "Candidates with a score that is NaN or infinite; they rank last", ["model"]
)
models_restarted = Counter(
    "afterclick_models_restarted_total", "Ends of a models' process that made the worker start it and load them again"
)

lists = Counter("afterclick_lists_total", "Lists published", ["model"])
lists_degraded = Counter(
    "afterclick_lists_degraded_total", "Lists made without the model, by reason", ["model", "reason"]
)
lists_forgotten = Counter("afterclick_lists_forgotten_total", "Lists erased because their user was forgotten")
event_to_list_seconds = Histogram(
    "afterclick_event_to_list_seconds",
    "Time from an event to the publication of the list that it caused; `since`: the event's timestamp, or its arrival",
    ["model", "since"],
    buckets=SECONDS,
)
list_age_seconds = Gauge(
    "afterclick_list_age_seconds",
    "Age of the newest event in the latest list at its publication",
    ["model"],
)
cache_writes = Counter("afterclick_cache_writes_total", "Writes to Redis, by outcome", ["outcome"])
from_zero(cache_writes, ("written", "older", "erased", "failed", "unreadable"))
cache_refusals = Counter(
    "afterclick_cache_refusals_total", "Commands that Redis refused or did not answer, by reason", ["reason"]
)
cache_pending = Gauge(
    "afterclick_cache_pending_lists",
    "Published lists that may be missing in Redis; all lists of a user count until Redis is known to have the latest",
)
cache_backfilled_lists = Counter(
    "afterclick_cache_backfilled_lists_total", "Lists copied from their topic to Redis because Redis lacked them"
)

_BY_MODEL = tuple(
    metric
    for metric in list(vars().values())
    if isinstance(metric, Counter | Gauge | Histogram) and metric is not model_swaps and "model" in metric._labelnames
)


def keep_models(names: Collection[str]) -> None:
    """Drop the series of all models but these: each version has a name of its own, and a worker may see hundreds.

    Parameters
    ----------
    names : collection of str
        Names of the models that serve.
    """
    for metric in _BY_MODEL:
        exposed = {sample.labels["model"] for family in metric.collect() for sample in family.samples}
        for name in exposed - {*names, REPLACED_MODEL}:
            metric.remove_by_labels({"model": name})

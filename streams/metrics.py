"""Every Prometheus metric, by the step that moves it. Knows no step; the steps' callers move the numbers.

Names are `afterclick_<thing>_<unit>`; intervals are measured with monotonic clocks, except from an event's own
timestamp. A counter with labels is made with all label values that are known (`from_zero`): an alert on a rate sees the
first of its kind only if there was a zero before it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import product

from prometheus_client import Counter, Gauge, Histogram

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3_600)
PLACES = (1, 2, 3, 5, 10, 20, 50, 100)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096)
REJECTED = ("topic", "null", "too-large", "malformed", "invalid", "key", "time", "reserved", "unreadable")
"""Why a message is dead-lettered: `streams.receive.message.BadMessage.reason`."""
DEGRADED = (
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


COERCED = (
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
"""What is taken though it is not as the contract has it: `streams.receive.lenient`."""
INPUTS = ("clicks", "purchases", "impressions", "items", "rank-requests", "forget")


def from_zero(counter: Counter, *values: Sequence[str]) -> None:
    """Make the counter's children, at 0, for every combination of these values of its labels, in their order."""
    for labels in product(*values):
        counter.labels(*labels)


def topics_from_zero(topics: Collection[str]) -> None:
    """Make the children of the counters of what lies in Kafka; to be called once the topics' full names are known."""
    from_zero(unreadable_batches, tuple(topics))
    from_zero(expired, tuple(topics))


def model_from_zero(model: str) -> None:
    """Make the children of all counters of a model's work; to be called once it makes lists."""
    for counter in (
        padding_tokens,
        context_tokens_reused,
        truncated_contexts,
        truncated_texts,
        feedback,
        heads_rolled_back,
        lists,
        scores_not_finite,
    ):
        from_zero(counter, [model])
    from_zero(contexts, [model], ("some", "none"))
    from_zero(feedback_loss, [model], ("live", "frozen"))
    from_zero(lists_degraded, [model], DEGRADED)


ready = Gauge(
    "afterclick_worker_ready",
    "1 once tables are restored, the catalogue is read and models are warm",
    ["tier"],
)

events = Counter("afterclick_events_total", "Messages received, by what became of them", ["topic", "outcome"])
from_zero(events, ("clicks", "purchases"), ("accepted", "duplicate", "forgotten", "rejected", "routed"))
from_zero(events, ("items", "impressions", "rank-requests"), ("accepted", "rejected"))
from_zero(events, ("items",), ("unknown",))
from_zero(events, ("forget",), ("accepted", "rejected", "routed"))
from_zero(events, ("routed-events",), ("rejected",))
repeats_presumed = Counter(
    "afterclick_repeats_presumed_total",
    "Of the events with the outcome 'duplicate', those whose user has too many events since to remember their ids",
)
repeats_ratio = Gauge(
    "afterclick_repeats_ratio",
    "Share of repeats among the latest clicks and purchases that were written since this worker got its partitions",
)
events_uncounted = Counter(
    "afterclick_events_uncounted_total",
    "Accepted events left out of popularity, trend and co-visits; 'busy': a user with too many events an hour",
    ["reason"],
)
from_zero(events_uncounted, ("busy",))
dead_letters = Counter("afterclick_dead_letters_total", "Messages rejected, by reason", ["topic", "reason"])
from_zero(dead_letters, (*INPUTS, "routed-events"), REJECTED)
unreadable_batches = Counter(
    "afterclick_unreadable_batches_total",
    "Batches that Kafka delivered and that could not be read, passed; each reader of a topic counts its own",
    ["topic"],
)
values_coerced = Counter(
    "afterclick_values_coerced_total", "Values taken though they are not as the contract has them", ["topic", "kind"]
)
from_zero(values_coerced, INPUTS, COERCED)
messages_cut = Counter(
    "afterclick_messages_cut_total", "Messages that did not fit their topic and went out without a part", ["topic"]
)
from_zero(messages_cut, ("rank-requests", "recommendations", "dead-letters", "routed-events"))
counts_unread = Counter("afterclick_counts_unread_total", "Records of item counts that are none, passed over")
repartitioned = Counter(
    "afterclick_repartitioned_total",
    "Events that their producer put on another partition than our key hash",
    ["topic"],
)
from_zero(repartitioned, ("clicks", "purchases", "forget"))
expired = Counter(
    "afterclick_expired_messages_total", "Messages that Kafka's retention deleted before they were read", ["topic"]
)
consumer_lag = Gauge("afterclick_consumer_lag_messages", "Messages not yet done", ["topic", "partition"])
held_by_transactions = Gauge(
    "afterclick_held_by_transactions_messages",
    "Of the lag: what lies behind the open transaction of a producer, and cannot be read before it ends",
    ["topic", "partition"],
)
leases_lost = Counter(
    "afterclick_leases_lost_total",
    "Times that work in hand was dropped because its partitions had gone to another worker",
    ["tier"],
)
from_zero(leases_lost, ("state", "rank"))

restore_remaining = Gauge(
    "afterclick_restore_remaining_records", "State records that the changelog still has for us; 0 once restored"
)

users_flushed = Counter("afterclick_users_flushed_total", "User states written to the changelog")
flush_seconds = Histogram(
    "afterclick_flush_seconds", "One flush of the state tier, all effects acknowledged", buckets=SECONDS
)
state_bytes = Histogram(
    "afterclick_state_bytes", "Size of one user's state as written", buckets=(256, *range(512, 4_609, 512))
)
waiting_dropped = Counter("afterclick_waiting_dropped_total", "Events about unknown items pushed out by newer ones")
catalogue_items = Gauge("afterclick_catalogue_items", "Items in the catalogue")
graph_loads = Counter(
    "afterclick_graph_loads_total",
    "Search graphs looked for at start, by outcome; all but 'loaded' are built anew",
    ["outcome"],
)
from_zero(graph_loads, ("loaded", "none", "outdated", "damaged", "unreadable"))
graph_saves = Counter("afterclick_graph_saves_total", "Search graphs written to disk, by outcome", ["outcome"])
from_zero(graph_saves, ("saved", "failed"))
text_tokens = Counter(
    "afterclick_text_tokens_total",
    "Tokens of the texts that models read, by who read them and whether its vocabulary knows what they stand for",
    ["reader", "known"],
)
from_zero(text_tokens, ("encoder", "ranker"), ("yes", "no"))
encode_seconds = Histogram("afterclick_encode_seconds", "Encoding one batch of item texts", buckets=SECONDS)

requests_pending = Gauge("afterclick_rank_queue_size", "Users waiting to be ranked")
requests_superseded = Counter(
    "afterclick_requests_superseded_total", "Rank requests overtaken by a newer one of the same user"
)
candidates_cut = Counter("afterclick_candidates_cut_total", "Candidates that were not among the best for the model")
batch_lists = Histogram("afterclick_batch_lists", "Lists scored in one call", ["model"], buckets=SIZES)
batch_tokens = Histogram(
    "afterclick_batch_tokens", "Useful tokens of one call", ["model"], buckets=[s * 64 for s in SIZES]
)
padding_tokens = Counter("afterclick_padding_tokens_total", "Tokens computed for nothing", ["model"])
context_tokens_reused = Counter("afterclick_context_tokens_reused_total", "Tokens kept from an earlier call", ["model"])
contexts = Counter("afterclick_contexts_total", "Contexts scored, by whether some of it was kept", ["model", "kept"])
context_bytes = Gauge("afterclick_context_cache_bytes", "Memory of kept contexts", ["model"])
truncated_contexts = Counter("afterclick_truncated_contexts_total", "Contexts cut to the model's length", ["model"])
truncated_texts = Counter("afterclick_truncated_texts_total", "Item texts cut to the model's length", ["model"])
tokenise_seconds = Histogram("afterclick_tokenise_seconds", "Tokenising one batch", ["model"], buckets=SECONDS)
queue_seconds = Histogram("afterclick_queue_seconds", "A rank request's wait for its batch", ["model"], buckets=SECONDS)
inference_seconds = Histogram("afterclick_inference_seconds", "The model on one batch", ["model"], buckets=SECONDS)
model_swaps = Counter(
    "afterclick_model_swaps_total",
    "Times that a model's folder changed while we ran: 'served', or 'refused' and the one before goes on; `model` is "
    "the folder's name",
    ["model", "outcome"],
)
feedback = Counter(
    "afterclick_feedback_total",
    "Items that users chose from lists that a model ranked; `model` is 'replaced' for all that are not served any more",
    ["model"],
)
feedback_rank = Histogram(
    "afterclick_feedback_rank", "The place in its list of an item that a user chose, from 1", ["model"], buckets=PLACES
)
feedback_loss = Counter(
    "afterclick_feedback_loss_nats_total",
    "Surprise at what users chose: of the head that learns, and of the one that was trained",
    ["model", "head"],
)
heads_rolled_back = Counter("afterclick_heads_rolled_back_total", "Heads that had learnt themselves worse", ["model"])
scores_not_finite = Counter(
    "afterclick_scores_not_finite_total", "Candidates whose score was no number; they come last", ["model"]
)
models_restarted = Counter("afterclick_models_restarted_total", "Deaths of the models' process; each loads them again")

lists = Counter("afterclick_lists_total", "Lists published", ["model"])
lists_degraded = Counter(
    "afterclick_lists_degraded_total", "Lists made without the model, by reason", ["model", "reason"]
)
lists_forgotten = Counter("afterclick_lists_forgotten_total", "Lists erased because their user was forgotten")
event_to_list_seconds = Histogram(
    "afterclick_event_to_list_seconds",
    "From the event that made the list necessary to the list being out; `since` its own timestamp or its arrival here",
    ["model", "since"],
    buckets=SECONDS,
)
list_age_seconds = Gauge(
    "afterclick_list_age_seconds",
    "How old the newest event was when the last list went out: how fresh lists are",
    ["model"],
)
cache_writes = Counter("afterclick_cache_writes_total", "Writes to Redis, by outcome", ["outcome"])
from_zero(cache_writes, ("written", "older", "erased", "failed", "unreadable"))
cache_refusals = Counter(
    "afterclick_cache_refusals_total", "What Redis refused or did not answer, by reason", ["reason"]
)
cache_pending = Gauge(
    "afterclick_cache_pending_lists",
    "Published lists that Redis may not have; of a user with several all count, until it is known that it has the last",
)
cache_refilled = Counter("afterclick_cache_refilled_total", "Lists brought to Redis from their topic")

REPLACED = "replaced"
_BY_MODEL = tuple(
    metric
    for metric in list(vars().values())
    if isinstance(metric, Counter | Gauge | Histogram) and metric is not model_swaps and "model" in metric._labelnames
)


def keep_models(names: Collection[str]) -> None:
    """Drop the series of all models but these: each version is a name of its own, and a worker may see hundreds."""
    for metric in _BY_MODEL:
        there = {sample.labels["model"] for family in metric.collect() for sample in family.samples}
        for name in there - {*names, REPLACED}:
            metric.remove_by_labels({"model": name})

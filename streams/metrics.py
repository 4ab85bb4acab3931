"""All Prometheus metrics that are moved when something happens, in the order of an event's way.

Names are `afterclick_<thing>_<unit>`. Intervals are measured with monotonic clocks, except those that begin at an
event's own timestamp. What has labels is created with all known label values (`from_zero`): an alert on a rate sees the
first increment only if the counter was exposed at zero before. `streams.rank.model_usage` has others.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from importlib.metadata import version
from itertools import product

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

from streams import metric_labels as known

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, which no query reads
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3_600)
RANKS = (1, 2, 3, 5, 10, 20, 50, 100)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096)


def from_zero(metric: Counter | Histogram, *values: Sequence[str]) -> None:
    """Create the metric's children, at 0, for every combination of label values.

    Parameters
    ----------
    metric : Counter or Histogram
        With labels.
    *values : sequence of str
        The known values of each label, in the order of the metric's labels.
    """
    for labels in product(*values):
        metric.labels(*labels)


def topics_from_zero(topics: Collection[str], mapped: Sequence[str] = ()) -> None:
    """Create the children of the counters that have a label for a topic's full name; `mapped` are the team's topics."""
    for metric in (unreadable_batches, expired):
        from_zero(metric, (*topics, *mapped))
    from_zero(records_not_ours, mapped)
    from_zero(events, mapped, ("rejected",))
    from_zero(dead_letters, mapped, known.REJECTION_REASONS)


def model_from_zero(model: str) -> None:
    """Create the children of all counters and histograms of a model that begins to serve.

    Parameters
    ----------
    model : str
        The model's name with its version, or `none`.
    """
    for metric in by_model:
        if metric._labelnames == ("model",) and not isinstance(metric, Gauge):
            from_zero(metric, [model])
    from_zero(lists_degraded, [model], known.DEGRADED_REASONS)
    from_zero(event_to_list_seconds, [model], ("event", "arrival"))


build_info = Gauge(
    "afterclick_build_info",
    "1; the version of Afterclick, and a model that makes lists in this process; empty if it makes none",
    ["version", "model"],
)
ready = Gauge(
    "afterclick_worker_ready",
    "1 once the tables are restored, the catalogue is read and the models are warm",
    ["tier"],
)
kafka_away = Gauge(
    "afterclick_kafka_away", "1 while no server of Kafka answers the worker, or stores what the tier sends", ["tier"]
)
schema_registry_away = Gauge(
    "afterclick_schema_registry_away", "1 while records wait for a schema that the schema registry does not give"
)
events = Counter("afterclick_events_total", "Messages received, by outcome", ["topic", "outcome"])
for topic, outcomes in known.EVENT_OUTCOMES.items():
    from_zero(events, (topic,), outcomes)
records_not_ours = Counter(
    "afterclick_records_not_ours_total", "Records of a topic of yours that its mappings take for no input", ["topic"]
)
duplicates_presumed = Counter(
    "afterclick_duplicates_presumed_total",
    "Events with the outcome 'duplicate' that are older than the event ids which their user's state remembers",
)
duplicates_ratio = Gauge(
    "afterclick_duplicates_ratio",
    "Share of duplicates among the latest events that were written since this worker got its partitions",
)
events_uncounted = Counter(
    "afterclick_events_uncounted_total",
    "Accepted events left out of popularity, trend and co-visits; 'busy': the user had too many events in an hour",
    ["reason"],
)
from_zero(events_uncounted, ("busy",))
unknown_fields = Counter(
    "afterclick_unknown_fields_total",
    "Fields of accepted messages that their contract does not have; the log names each once",
    ["topic"],
)
from_zero(unknown_fields, ("rank-requests",))
dead_letters = Counter("afterclick_dead_letters_total", "Messages rejected, by reason", ["topic", "reason"])
from_zero(dead_letters, (*known.INPUTS, "routed-events"), known.REJECTION_REASONS)
unreadable_batches = Counter(
    "afterclick_unreadable_batches_total",
    "Record batches that Kafka delivered, that cannot be decoded and that were skipped; each reader counts its own",
    ["topic"],
)
values_coerced = Counter(
    "afterclick_values_coerced_total", "Values accepted although they deviate from the contract", ["topic", "kind"]
)
from_zero(values_coerced, known.INPUTS, known.COERCION_KINDS)
messages_cut = Counter(
    "afterclick_messages_cut_total", "Messages too large for their topic that were sent without a part", ["topic"]
)
from_zero(messages_cut, ("rank-requests", "recommendations", "dead-letters", "routed-events", "items", "knowledge"))
item_counts_unreadable = Counter(
    "afterclick_item_counts_unreadable_total", "Records of the item counts' topic that cannot be decoded, skipped"
)
repartitioned = Counter(
    "afterclick_repartitioned_total",
    "Events found on another partition than the hash of their key gives, and sent to that one",
    ["topic"],
)
from_zero(repartitioned, known.OF_USERS)
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
start_seconds = Gauge(
    "afterclick_start_seconds",
    "Time from the start of the worker's process to the end of a step of its start, of the slower tier where both take "
    "it: 'imports' of the worker, 'checks' of Kafka and Redis; meanwhile 'libraries', 'scorer' and 'encoder' of the "
    "models' process; then 'warm-up', 'group', 'restore', 'catalogue', 'ready'",
    ["step"],
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
last_list_timestamp = Gauge(
    "afterclick_last_list_timestamp_seconds",
    "Unix time at which the latest list of a user was published; absent before the first one",
    ["model"],
)
shown_items = Gauge(
    "afterclick_shown_items",
    "Distinct items in the lists of this worker's users in the last half to whole hour; estimated above 30,000",
    ["model"],
)
shown_top_share = Gauge(
    "afterclick_shown_top_share",
    "Share of the positions of these lists that the 1% of the catalogue's items take which are shown most",
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

by_model: list[Counter | Gauge | Histogram] = [
    metric
    for metric in list(vars().values())
    if isinstance(metric, Counter | Gauge | Histogram) and metric is not model_swaps and "model" in metric._labelnames
]
from_zero(feedback, [known.REPLACED_MODEL])
from_zero(feedback_rank, [known.REPLACED_MODEL])


def show_build(models: Collection[str]) -> None:
    """Show which models make lists in this process, from now on.

    Parameters
    ----------
    models : collection of str
        Their names with their versions; one empty name if it makes no lists.
    """
    of_package = version("afterclick")
    for model in models:
        build_info.labels(of_package, model).set(1)
    for shown in {sample.labels["model"] for family in build_info.collect() for sample in family.samples} - {*models}:
        build_info.remove(of_package, shown)


def keep_models(names: Collection[str]) -> None:
    """Drop the series of all models but these: each version has a name of its own, and a worker may see hundreds.

    Parameters
    ----------
    names : collection of str
        Names of the models that serve.
    """
    for metric in by_model:
        exposed = {sample.labels["model"] for family in metric.collect() for sample in family.samples}
        for name in exposed - {*names, known.REPLACED_MODEL}:
            metric.remove_by_labels({"model": name})

"""Every Prometheus metric, by the step that moves it. Knows no step; the steps' callers move the numbers.

Names are `afterclick_<thing>_<unit>`; intervals are measured with monotonic clocks, except from an event's own
timestamp.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3_600)
PLACES = (1, 2, 3, 5, 10, 20, 50, 100)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096)

ready = Gauge(
    "afterclick_worker_ready",
    "1 once tables are restored, the catalogue is read and models are warm",
    ["tier"],
)

events = Counter("afterclick_events_total", "Messages received, by what became of them", ["topic", "outcome"])
dead_letters = Counter("afterclick_dead_letters_total", "Messages rejected, by reason", ["topic", "reason"])
counts_unread = Counter("afterclick_counts_unread_total", "Records of item counts that are none, passed over")
repartitioned = Counter(
    "afterclick_repartitioned_total",
    "Events that their producer put on another partition than our key hash",
    ["topic"],
)
consumer_lag = Gauge("afterclick_consumer_lag_messages", "Messages not yet done", ["topic", "partition"])

leases_lost = Counter(
    "afterclick_leases_lost_total",
    "Times that work in hand was dropped because its partitions had gone to another worker",
    ["tier"],
)

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
graph_saves = Counter("afterclick_graph_saves_total", "Search graphs written to disk, by outcome", ["outcome"])
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
    "Times that a model's folder changed while we ran: 'served', or 'refused' and the one before goes on",
    ["model", "outcome"],
)
answers = Counter("afterclick_answers_total", "Items that users chose from lists that a model ranked", ["model"])
answer_rank = Histogram(
    "afterclick_answer_rank", "The place in its list of an item that a user chose, from 1", ["model"], buckets=PLACES
)
answer_loss = Counter(
    "afterclick_answer_loss_nats_total",
    "Surprise at what users chose: of the head that learns, and of the one that was trained",
    ["model", "head"],
)
heads_set_back = Counter("afterclick_heads_set_back_total", "Heads that had learnt themselves worse", ["model"])
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
cache_refusals = Counter(
    "afterclick_cache_refusals_total", "What Redis refused or did not answer, by reason", ["reason"]
)
cache_pending = Gauge(
    "afterclick_cache_pending_lists",
    "Published lists that Redis may not have; of a user with several all count, until it is known that it has the last",
)
cache_refilled = Counter("afterclick_cache_refilled_total", "Lists brought to Redis from their topic")

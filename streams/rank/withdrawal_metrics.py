"""The Prometheus metrics of the withdrawal of items from published lists."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from streams.metrics import SECONDS, from_zero

published_lists = Gauge(
    "afterclick_published_lists", "Lists of this worker's partitions in the topic of lists, as far as it is read"
)
published_lists_bytes = Gauge("afterclick_published_lists_bytes", "Memory of the index of these lists")
pending = Gauge(
    "afterclick_withdrawal_pending_lists",
    "Published lists that show an item which is deleted or not available; they wait to be published without it",
)
lists = Counter(
    "afterclick_withdrawal_lists_total",
    "Published lists that showed such an item, by what became of them: 'shortened', 'emptied', or 'superseded' by a "
    "newer list, a return of the item or an erasure of the user",
    ["outcome"],
)
from_zero(lists, ("shortened", "emptied", "superseded"))
payloads = Counter(
    "afterclick_withdrawal_payloads_total",
    "Published lists that were read again, to be published without such an item or with texts of reasons, by where: "
    "'redis', or 'topic' if Redis has another version of the list, none, or is away, which takes longer",
    ["source"],
)
from_zero(payloads, ("redis", "topic"))
seconds = Histogram(
    "afterclick_withdrawal_seconds",
    "Time from the moment at which a worker learnt that an item is gone until a list is in Kafka and Redis without it",
    buckets=SECONDS,
)

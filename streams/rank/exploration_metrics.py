"""The Prometheus metrics of exploration."""

from __future__ import annotations

from prometheus_client import Counter

from streams.metrics import from_zero

lists = Counter(
    "afterclick_explored_lists_total",
    "Lists while exploration is on, by outcome: 'moved', 'unmoved' (chance left all items in their places), or "
    "'not-explored' (no model ranked it, one without a fusion head or features did, or a rule bounds exposure)",
    ["outcome"],
)
from_zero(lists, ("moved", "unmoved", "not-explored"))
places = Counter("afterclick_explored_places_total", "Places of lists that show another item because of exploration")

"""The Prometheus metrics of visitors who were merged into members."""

from __future__ import annotations

from prometheus_client import Counter

from streams.metrics import from_zero

states_taken_in = Counter(
    "afterclick_states_taken_in_total",
    "Visitors' states that arrived at the user into whom the visitor was merged: 'joined' to the user's state, "
    "'repeated' after a crash, 'passed-on' because that user was merged too, or 'forgotten' with the user",
    ["outcome"],
)
from_zero(states_taken_in, ("joined", "repeated", "passed-on", "forgotten"))
events_passed_on = Counter(
    "afterclick_events_passed_on_total",
    "Events of merged visitors that were sent on to the user into whom the visitor was merged",
    ["topic"],
)
from_zero(events_passed_on, ("clicks", "purchases", "events", "searches", "preferences", "impressions", "forget"))
events_returned = Counter(
    "afterclick_events_returned_total",
    "Events of merged visitors that came to a user who does not know the visitor, and were sent back: the user was "
    "forgotten meanwhile, or the visitor's state was lost",
)

"""The Prometheus metrics of users' wishes. What wishes do to lists is counted as what rules do."""

from __future__ import annotations

from prometheus_client import Counter

from ranker.wishes.model_answer import CAUSES
from streams.metrics import from_zero

PARSERS = ("patterns", "model")
read = Counter(
    "afterclick_wishes_total",
    "Wishes of users, by the parser that read them and by outcome: 'understood', or 'not-understood' and answered in "
    "words; what they do to lists is in afterclick_rules_total, as wish.exclude and so on",
    ["parser", "outcome"],
)
from_zero(read, PARSERS, ("understood", "not-understood"))
refused = Counter(
    "afterclick_wishes_model_refused_total",
    "Answers of the model that reads wishes which did not count, by cause: 'form' outside the grammar, 'invented' what "
    "the text does not say, 'incomplete' without a part of it; 'busy' as too many waited, 'failed' with its process",
    ["cause"],
)
from_zero(refused, (*CAUSES, "busy", "failed"))
revoked = Counter(
    "afterclick_wishes_revoked_total",
    "Wishes that users took back: 'known', or 'unknown' if there was none with that id",
    ["outcome"],
)
from_zero(revoked, ("known", "unknown"))
dropped = Counter("afterclick_wishes_dropped_total", "Wishes that held and were dropped for a user's 16 newer ones")

"""Measure the costs that `afterclick plan` needs on this machine, in half a minute.

Events and recall are timed by the clock, so the machine should be idle; the model is timed by the processor. What Kafka
and Redis add to a list, and how fast a changelog is read, need servers and stay at the defaults.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from encoders.describe import describe_item
from ranker.features import Features
from ranker.load import load_scorer
from ranker.progress import StageProgress
from ranker.score import ScoreRequest
from streams.bench import growth
from streams.bench.machine import machine
from streams.bench.measurement import percentile
from streams.bench.scorer import CANDIDATES, ITEMS, SEED, ShopRequests
from streams.datasets.shop import SyntheticShop
from streams.settings import RankerSettings, Settings
from streams.sizing.costs import DEFAULTS, Costs

USERS, CATALOGUE = 20_000, 20_000
LISTS, CALLS, FEW = 32, 4, 20
TEXTS = 256
PARTS = ("users", "items", "lists")


def measure(settings: Settings, stage: StageProgress) -> Costs:
    """Measure users, items and lists of the model `default` in turn."""
    progress = stage("Measuring users")
    users = growth.in_own_process(partial(growth.measure_users, USERS))
    progress(1, len(PARTS))
    items = growth.in_own_process(partial(growth.measure_items, CATALOGUE))
    progress(2, len(PARTS))
    score_list, score_candidate, encode_ms = _lists(settings)
    progress(3, len(PARTS))
    facts = machine()
    return replace(
        DEFAULTS,
        machine=f"{facts['processor']}, {facts['cores']} cores",
        event_core_ms=percentile(users.event_s, 50) * 1e3,
        request_core_ms=percentile(items.recall_s, 50) * 1e3,
        score_list_core_ms=score_list,
        score_candidate_core_ms=score_candidate,
        encode_item_core_ms=encode_ms + items.put_s * 1e3,
        user_bytes=users.memory_bytes,
        record_bytes=users.record_bytes,
        item_bytes=items.memory_bytes,
    )


def _lists(settings: Settings) -> tuple[float, float, float]:
    """Return the core-milliseconds of a list, of each candidate more, and of the vector of an item."""
    ranker = RankerSettings()
    scorer = load_scorer(ranker.model, settings.ranker.device, settings.ranker.dtype)
    texts = [describe_item(item) for item in SyntheticShop(SEED, ITEMS, shoppers=1).items]
    encode_ms = _core_ms(partial(scorer.prepare, texts[:TEXTS])) / TEXTS
    shop = ShopRequests()
    shop.prepare(scorer)
    requests = [shop.request() for _ in range(LISTS)]
    scorer.score(requests)

    def newer(candidates: int) -> list[ScoreRequest]:
        clicked = [shop.with_new_event(request) for request in requests]
        return [
            replace(request, candidates=request.candidates[:candidates], features=_first(request.features, candidates))
            for request in clicked
        ]

    few, many = (_per_list(scorer.score, [newer(count) for _ in range(CALLS)]) for count in (FEW, CANDIDATES))
    each = max(0.0, (many - few) / (CANDIDATES - FEW))
    return max(0.0, many - each * CANDIDATES), each, encode_ms


def _first(features: Features | None, candidates: int) -> Features | None:
    return None if features is None else features[:candidates]


def _per_list(score: Callable[[list[ScoreRequest]], object], calls: list[list[ScoreRequest]]) -> float:
    return min(_core_ms(partial(score, requests)) / len(requests) for requests in calls)


def _core_ms(work: Callable[[], object]) -> float:
    begin_s = time.process_time()
    work()
    return (time.process_time() - begin_s) * 1e3

"""Measure what a profile of settings is worth: NDCG@10 of its lists in a world of its kind, beside those of `shop`.

Both tiers run in memory with the settings of each profile, over the same steps (`streams.datasets.worlds`), and make a
list where somebody wants one. The first third of them makes none: users have to become known. Knows no Kafka.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import log2

import numpy as np
from threadpoolctl import threadpool_limits

from encoders.text.encoder import TextEncoder
from ranker.load import load_scorer
from ranker.progress import StageProgress
from ranker.rules.item_table import ItemTable
from ranker.rules.reading import read
from ranker.score import Scorer
from streams.bench.measurement import Measurement, Target
from streams.contracts import Impression, Item, Recommendations
from streams.datasets.worlds.ads import ads
from streams.datasets.worlds.music import music
from streams.datasets.worlds.news import news
from streams.datasets.worlds.steps import Demand, Step, time_of
from streams.datasets.worlds.video import video
from streams.offline.item_vectors import ItemVectors
from streams.offline.pipeline import Pipeline
from streams.settings import EncoderSettings, Settings
from streams.state.impressions import note_shown
from streams.terminal.progress_bar import track

WORLDS: Mapping[str, Callable[..., list[Step]]] = {"news": news, "video": video, "music": music, "ads": ads}
SEEDS = (1, 2, 3)
RANK = 10
WARM_UP, LISTS = 1 / 3, 300
"""The share of the demands that no list is made for, and how many are made for the others, evenly spread."""
TARGET = Target(1.1, at_most=False, of="ratio")


def measure(stage: StageProgress) -> list[Measurement]:
    """Run each profile and `shop` in the profile's own world, with several seeds."""
    measurements = []
    encoder, scorer = TextEncoder(EncoderSettings().model), load_scorer("default")
    with threadpool_limits(1, "blas"):  # as in a worker
        for world, steps_of in WORLDS.items():
            own, shop = [], []
            for seed in track(SEEDS, f"The world of {world}", stage):
                steps = steps_of(seed)
                vectors = vectors_of(encoder, steps)
                own.append(ndcg(Settings.model_validate({"profile": world}), steps, vectors, scorer))
                shop.append(ndcg(Settings(), steps, vectors, scorer))
            measurements.append(
                Measurement(f"{world}: NDCG@{RANK} of the profile {world}", "", own, "shop", shop, TARGET)
            )
    return measurements


def ndcg(settings: Settings, steps: Sequence[Step], vectors: ItemVectors, scorer: Scorer | None) -> float:
    """Return the mean NDCG@10 of the lists that people want in a world."""
    pipeline = Pipeline(settings, vectors, scorer)
    rules = ItemTable(read(settings.rules)) if settings.rules else None
    if rules:
        pipeline.ranking.rules.keep(rules)
        pipeline.state.requests.keep_rules(rules)
    found, judged = [], _judged(steps)
    for number, step in enumerate(steps):
        if isinstance(step, Demand):
            if number not in judged:
                continue
            request = pipeline.state.request(step.user_id, None, None)
            found.append(_ndcg(pipeline.ranking.rank([request], step.time_ms)[0], step.gains))
        elif isinstance(step, Item):
            pipeline.put_items([step], time_of(step) + 1)
            if rules:
                rules.put(step)
        elif isinstance(step, Impression):
            note_shown(pipeline.state.users, step.user_id, [step], pipeline.state.decay)
        else:
            pipeline.state.accept(step.user_id, [step])
    return float(np.mean(found))


def vectors_of(encoder: TextEncoder, steps: Sequence[Step]) -> ItemVectors:
    """Encode the texts of a world once, for all profiles."""
    return ItemVectors(encoder, (step for step in steps if isinstance(step, Item)))


def _judged(steps: Sequence[Step]) -> set[int]:
    """The indices of the demands that a list is made for."""
    asked = [index for index, step in enumerate(steps) if isinstance(step, Demand)]
    known = asked[round(WARM_UP * len(asked)) :]
    return set(known[:: max(1, len(known) // LISTS)])


def _ndcg(list_: Recommendations, gains: Mapping[str, float]) -> float:
    """NDCG with these gains (Järvelin and Kekäläinen 2002)."""
    got = sum(gains.get(item.item_id, 0.0) / log2(1 + item.rank) for item in list_.items[:RANK])
    best = sum(gain / log2(1 + rank) for rank, gain in enumerate(sorted(gains.values(), reverse=True)[:RANK], 1))
    return got / best

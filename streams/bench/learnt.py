"""Measure what each learnt source costs a rank request: the candidates that it proposes, and its features of each.

Sources of the full size, synthetic: each item has as many neighbours as a table keeps, text vectors have the length of
MiniLM's, those of pictures that of CLIP's, and each user has a full history. Knows no Kafka and no fit.
"""

from __future__ import annotations

from statistics import median

import numpy as np
from threadpoolctl import threadpool_limits

from encoders.events.entries import Event, item_key
from encoders.interest import Decay, Interest, empty, update_all
from ranker.neighbours.table import MAX_HISTORY, MAX_NEIGHBOURS, Keys, NeighbourTable
from ranker.progress import StageProgress
from ranker.recall.adapted_text import AdaptedText
from ranker.recall.catalogue import Catalogue, CatalogueItem
from ranker.recall.counts import Counts
from ranker.recall.embedding_space import embedding_space
from ranker.recall.learnt_neighbours import LearntNeighbours
from ranker.recall.trained import LearntSource
from ranker.recall.user_view import UserView
from ranker.spaces.adapter import Adapter
from ranker.spaces.fit import DECAYS
from ranker.spaces.fit import DIM as ADAPTED_DIM
from streams.bench.measurement import Measurement, Target, percentile
from streams.bench.timing import seconds
from streams.terminal.progress_bar import track

ITEMS, DIM, IMAGE_DIM, LIMIT, SEED = 17_000, 384, 512, 100, 7
ROUNDS, REQUESTS = 5, 200
DAY_MS = 86_400_000.0
DECAY = 64.0
"""So slow that the whole history is read."""


def measure(stage: StageProgress) -> list[Measurement]:
    """Time requests of users with a full history."""
    rng = np.random.default_rng(SEED)
    catalogue = Catalogue(DIM, embedding_names=["image"])
    for number in track(range(ITEMS), f"{ITEMS:,} items", stage):
        vector = rng.standard_normal(DIM, np.float32)
        image = rng.standard_normal(IMAGE_DIM, np.float32)
        brought = (("image", (image / np.linalg.norm(image)).astype("<f2").tobytes()),)
        catalogue.put(CatalogueItem(str(number), "title", "text", embeddings=brought), vector / np.linalg.norm(vector))
    keys = np.array([item_key(str(number)) for number in range(ITEMS)], np.uint64)
    spaces = AdaptedText(_adapter(rng, DIM)), embedding_space("image")(_adapter(rng, IMAGE_DIM))
    sources: list[LearntSource] = [LearntNeighbours(_table(np.sort(keys), rng)), *spaces]
    counts = Counts(DAY_MS, DAY_MS)
    for source in sources:
        for _ in source.enter(catalogue):
            pass
    rounds: dict[str, list[list[float]]] = {source.name: [] for source in sources}
    with threadpool_limits(1, "blas"):  # as in a worker
        for _ in track(range(ROUNDS), "Requests", stage):
            for source in sources:  # in turns, each with views of its own: what is computed once is shared in a worker
                users = [UserView(_state(catalogue, keys, rng), catalogue, counts, Decay()) for _ in range(REQUESTS)]
                rounds[source.name].append([seconds(_request, source, user) * 1e3 for user in users])
    return [measurement for name, of_source in rounds.items() for measurement in _measurements(name, of_source)]


def _measurements(source: str, rounds: list[list[float]]) -> list[Measurement]:
    name = f"{source} of a request, {ITEMS:,} items, {MAX_HISTORY} of them in the history"
    note = f"{LIMIT} candidates and their features."
    return [
        Measurement(f"{name}, p50", "ms", [median(one) for one in rounds], target=Target(1, at_most=True), note=note),
        Measurement(f"{name}, p99", "ms", [percentile(one, 99) for one in rounds]),
    ]


def _table(keys: Keys, rng: np.random.Generator) -> NeighbourTable:
    entries = ITEMS * MAX_NEIGHBOURS
    neighbours = (ITEMS * rng.random(entries) ** 2).astype(np.int32)  # some follow many items
    weights = rng.random(entries, np.float32)
    return NeighbourTable(keys, np.arange(0, entries + 1, MAX_NEIGHBOURS), neighbours, weights, DECAY)


def _adapter(rng: np.random.Generator, dim: int) -> Adapter:
    queries = rng.standard_normal((len(DECAYS), dim, ADAPTED_DIM), np.float32)
    mean = np.zeros(dim, np.float32)
    return Adapter(mean, queries[0], queries, np.array(DECAYS, np.float32), purchase_weight=3.0, scale=10.0)


def _state(catalogue: Catalogue, keys: Keys, rng: np.random.Generator) -> Interest:
    items = rng.choice(keys, MAX_HISTORY, replace=False).tolist()
    events = [Event(item, step, "click") for step, item in enumerate(items)]
    return update_all(empty(DIM), events, [catalogue.vector(item) for item in items], Decay())


def _request(source: LearntSource, user: UserView) -> None:
    proposed = source.find(user, LIMIT)
    source.features(user, user.catalogue.columns(proposed.rows))

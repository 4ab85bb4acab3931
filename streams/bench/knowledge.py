"""Measure what a knowledge graph costs: a search for a rank request, a triple that comes, and a triple in memory.

Synthetic: most entities have few items, one has all of them, and each user has a full history. Knows no Kafka.
"""

from __future__ import annotations

import gc
import tracemalloc

import numpy as np

from encoders.events.entries import Event, item_key
from encoders.interest import Decay, empty, update_all
from ranker.knowledge.graph import KnowledgeGraph
from ranker.knowledge.paths import best_paths
from ranker.progress import StageProgress
from ranker.recall.candidates import LinkedItems
from ranker.recall.catalogue import Catalogue, CatalogueItem
from ranker.recall.counts import Counts
from ranker.recall.user_view import RECENT, UserView
from streams.bench.measurement import Measurement, Target, percentile
from streams.bench.timing import processor_and_wall_s, seconds
from streams.terminal.progress_bar import track

ITEMS, ENTITIES, RELATIONS, TRIPLES = 100_000, 200_000, 20, 1_000_000
DIM, LIMIT, SEED = 2, 100, 7
ROUNDS, REQUESTS, ADDED = 5, 300, 2_000
_SMALL = 50_000
"""Triples whose memory is traced; tracing all would take minutes."""


def measure(stage: StageProgress) -> list[Measurement]:
    """Time the search of requests, and the insert of triples."""
    rng = np.random.default_rng(SEED)
    catalogue = Catalogue(DIM)
    vector = np.array([1, 0], np.float32)
    for number in track(range(ITEMS), f"{ITEMS:,} items", stage):
        catalogue.put(CatalogueItem(f"item-{number}", "title", "text"), vector)
    graph = catalogue.knowledge
    for triple in track(_triples(rng, TRIPLES - ITEMS), f"{TRIPLES:,} triples", stage):
        graph.put(*triple)
    for number in range(ITEMS):
        graph.put(f"item-{number}", "kind", "hub")
    gc.collect()
    gc.freeze()  # as a worker does once it is ready
    counts, searches, processor, inserts = Counts(1.0, 1.0), [], [], []
    for _ in track(range(ROUNDS), "Requests", stage):
        users = [_user(catalogue, counts, rng) for _ in range(REQUESTS)]
        both = [processor_and_wall_s(_search, user) for user in users]
        processor.append([one * 1e3 for one, _ in both])
        searches.append([one * 1e3 for _, one in both])
        added = _triples(rng, ADDED)
        inserts.append(seconds(_insert, graph, added) / ADDED * 1e6)
    name = f"search of a request, {len(graph):,} triples, {RECENT} items of a user"
    note = f"Up to three steps: {LIMIT} candidates, the path to each, and their features."
    target = Target(2, at_most=True)
    return [
        *(
            Measurement(
                f"{name}, {clock}, p{rank}", "ms", [percentile(one, rank) for one in times], target=bound, note=note
            )
            for clock, times in (("wall clock", searches), ("processor time", processor))
            for rank, bound in ((50, None), (99, target))
        ),
        Measurement("a triple into the graph, mean", "us", inserts),
        Measurement(f"memory of a triple, {_SMALL:,} of them", "bytes", [_bytes(rng)]),
    ]


def _triples(rng: np.random.Generator, count: int) -> list[tuple[str, str, str]]:
    entities = (ENTITIES * rng.random(count) ** 3).astype(int)  # some have many items
    columns = (rng.integers(0, ITEMS, count), rng.integers(0, RELATIONS, count), entities)
    return [
        (f"item-{item}", f"relation-{relation}", f"entity-{entity}")
        for item, relation, entity in zip(*(column.tolist() for column in columns), strict=True)
    ]


def _user(catalogue: Catalogue, counts: Counts, rng: np.random.Generator) -> UserView:
    keys = [item_key(f"item-{number}") for number in rng.choice(ITEMS, RECENT, replace=False).tolist()]
    events = [Event(key, step, "click") for step, key in enumerate(keys)]
    state = update_all(empty(DIM), events, [catalogue.vector(key) for key in keys], Decay())
    return UserView(state, catalogue, counts, Decay())


def _search(user: UserView) -> None:
    graph, walk = user.catalogue.knowledge, user.walk
    proposed = LinkedItems().find(user, LIMIT)
    nodes = graph.nodes_of(proposed.rows)
    best_paths(graph, walk, nodes)
    walk.reach(nodes)


def _insert(graph: KnowledgeGraph, triples: list[tuple[str, str, str]]) -> None:
    for triple in triples:
        graph.put(*triple)


def _bytes(rng: np.random.Generator) -> float:
    """The memory of a triple in a graph with as many nodes a triple as the whole one."""
    triples = [
        (f"item-{int(item)}", "relation", f"entity-{int(entity)}")
        for item, entity in zip(
            rng.integers(0, _SMALL * ITEMS // TRIPLES, _SMALL),
            _SMALL * ENTITIES / TRIPLES * rng.random(_SMALL) ** 3,
            strict=True,
        )
    ]
    gc.collect()
    tracemalloc.start()
    graph = KnowledgeGraph(lambda key: -1)
    _insert(graph, triples)
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return used / len(graph)

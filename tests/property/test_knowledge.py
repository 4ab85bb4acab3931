"""The knowledge graph against plain references: triples against a set, walks and paths against an exhaustive search."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders.events.entries import item_key
from ranker.knowledge import walk as walks
from ranker.knowledge.graph import NO_NODE, KnowledgeGraph
from ranker.knowledge.paths import Path, best_paths
from ranker.knowledge.walk import Walk

NAMES = [f"n{number}" for number in range(9)]
ITEMS = NAMES[:5]
RELATIONS = ["by", "in", "near"]
Triple = tuple[str, str, str]
TRIPLES = st.tuples(st.sampled_from(NAMES), st.sampled_from(RELATIONS), st.sampled_from(NAMES)).filter(
    lambda triple: triple[0] != triple[2]
)
CHANGES = st.lists(st.tuples(st.booleans(), TRIPLES), max_size=40)
ENTITIES = st.lists(st.tuples(st.sampled_from(ITEMS), st.sets(st.sampled_from(NAMES[5:]))), max_size=4)
WEIGHTS = st.sampled_from([None, {"": 1.0, "by": 0.5, "in": 1.0, "near": 0.0}])
USER = st.lists(st.sampled_from(ITEMS), min_size=1, max_size=3, unique=True)


def row_of(key: int) -> int:
    return next((row for row, name in enumerate(ITEMS) if item_key(name) == key), -1)


def built(
    changes: list[tuple[bool, Triple]], entities: list[tuple[str, set[str]]]
) -> tuple[KnowledgeGraph, set[Triple]]:
    graph, plain, named = KnowledgeGraph(row_of), set[Triple](), dict[str, set[str]]()
    for is_put, triple in changes:
        assert (graph.put(*triple) == "new") == (triple not in plain) if is_put else True
        if is_put:
            plain.add(triple)
        else:
            assert graph.delete(*triple) == (triple in plain)
            plain.discard(triple)
    for item, its_entities in entities:
        graph.put_item(item_key(item), item, ITEMS.index(item), its_entities)
        named[item] = its_entities
    return graph, plain | {(item, "", entity) for item, many in named.items() for entity in many}


def weights_of(user: list[str]) -> npt.NDArray[np.float64]:
    return np.array([0.5**rank for rank in range(len(user))])


def of_relations(graph: KnowledgeGraph, weights: dict[str, float] | None) -> npt.NDArray[np.float64] | None:
    return None if weights is None else np.array([weights[name] for name in graph.relations])


def neighbours(plain: set[Triple]) -> dict[str, list[tuple[str, bool, str]]]:
    edges = defaultdict(list)
    for head, relation, tail in sorted(plain):
        edges[head].append((relation, False, tail))
        edges[tail].append((relation, True, head))
    return edges


def near_items(graph: KnowledgeGraph) -> dict[str, int]:
    nodes = graph.all_nodes()
    return {graph.identifier(node): int(graph.near_items[node]) for node in nodes.tolist()}


@given(CHANGES, ENTITIES)
def test_the_graph_has_the_triples_that_were_put_and_not_deleted(
    changes: list[tuple[bool, Triple]], entities: list[tuple[str, set[str]]]
) -> None:
    graph, plain = built(changes, entities)
    heads, relations, tails = graph.triples()
    label = graph.identifier
    assert len(graph) == len(plain)
    assert plain == {
        (label(head), graph.relations[relation], label(tail))
        for head, relation, tail in zip(heads.tolist(), relations.tolist(), tails.tolist(), strict=True)
    }
    assert graph.nodes == len({name for head, _, tail in plain for name in (head, tail)})
    assert near_items(graph) == {
        name: sum(other in ITEMS for _, _, other in edges) for name, edges in neighbours(plain).items()
    }
    rows = np.arange(len(ITEMS))
    assert graph.nodes_of(rows).tolist() == graph.find(map(item_key, ITEMS)).tolist()
    for item in ITEMS:
        graph.delete_item(item_key(item))
    assert set(graph.nodes_of(rows).tolist()) == {NO_NODE}  # none is in the catalogue now
    assert not any(near_items(graph).values())
    for head, relation, tail in plain:
        graph.delete(head, relation, tail)
    assert len(graph) == graph.nodes == 0


@given(CHANGES, ENTITIES, USER, WEIGHTS)
def test_a_walk_has_the_probabilities_of_the_transition_matrix(
    changes: list[tuple[bool, Triple]],
    entities: list[tuple[str, set[str]]],
    user: list[str],
    weight_of: dict[str, float] | None,
) -> None:
    graph, plain = built(changes, entities)
    edges = neighbours(plain)
    weights = weights_of(user)
    known = [weight if edges[item] else 0 for item, weight in zip(user, weights, strict=True)]
    expected = dict.fromkeys(NAMES, 0.0) | {
        item: weight / sum(known) if weight else 0 for item, weight in zip(user, known, strict=True)
    }
    walk = Walk(graph, [item_key(item) for item in user], weights, of_relations(graph, weight_of))
    reached = walk.reach(graph.find(map(item_key, NAMES)))
    for step in range(walks.STEPS):
        before, expected = expected, dict.fromkeys(NAMES, 0.0)
        for name, share in before.items():
            for relation, _, other in edges[name]:
                expected[other] += share / len(edges[name]) * (1 if weight_of is None else weight_of[relation])
        assert reached[:, step].tolist() == pytest.approx([expected[name] for name in NAMES])


@given(CHANGES, ENTITIES, USER, WEIGHTS, st.integers(1, 6), st.sets(st.sampled_from(range(5))))
def test_the_items_are_those_that_a_walk_reaches_most_likely(
    changes: list[tuple[bool, Triple]],
    entities: list[tuple[str, set[str]]],
    user: list[str],
    weight_of: dict[str, float] | None,
    limit: int,
    missing: set[int],
) -> None:
    graph, _ = built(changes, entities)
    walk = Walk(graph, [item_key(item) for item in user], weights_of(user), of_relations(graph, weight_of))
    available = np.array([row not in missing for row in range(len(ITEMS))])
    found = walk.items(limit, available)
    totals = walk.reach(graph.find(map(item_key, ITEMS))).sum(axis=1)
    may = [row for row, item in enumerate(ITEMS) if available[row] and item not in user and totals[row] > 0]
    assert len(found) == len(set(found.tolist())) == min(limit, len(may))
    assert set(found.tolist()) <= set(may)
    assert totals[found].tolist() == pytest.approx(sorted(totals[may].tolist(), reverse=True)[:limit])


def all_paths(
    plain: set[Triple], user: list[str], candidate: str, weight_of: dict[str, float] | None
) -> Iterator[tuple[int, float, tuple[object, ...]]]:
    """Every path: its steps, the probability that a walk takes it, and the path."""
    edges = neighbours(plain)
    weights = {item: 0.5**rank for rank, item in enumerate(user) if edges[item]}
    paths: list[tuple[str, tuple[str, ...], float, tuple[object, ...]]] = [
        (item, (item,), weight / sum(weights.values()), ()) for item, weight in weights.items()
    ]
    for steps in range(1, walks.STEPS + 1):
        paths = [
            (start, (*nodes, other), share / len(edges[nodes[-1]]) * weight, (*taken, (relation, inverse, other)))
            for start, nodes, share, taken in paths
            for relation, inverse, other in edges[nodes[-1]]
            if other not in nodes and (weight := 1.0 if weight_of is None else weight_of[relation])
        ]
        yield from ((steps, share, (start, taken)) for start, nodes, share, taken in paths if nodes[-1] == candidate)


@settings(max_examples=300)
@given(CHANGES, ENTITIES, USER, WEIGHTS)
def test_the_best_path_is_the_shortest_and_then_the_likeliest(
    changes: list[tuple[bool, Triple]],
    entities: list[tuple[str, set[str]]],
    user: list[str],
    weight_of: dict[str, float] | None,
) -> None:
    graph, plain = built(changes, entities)
    walk = Walk(graph, [item_key(item) for item in user], weights_of(user), of_relations(graph, weight_of))
    paths = best_paths(graph, walk, graph.find(map(item_key, ITEMS)))
    for item, path in zip(ITEMS, paths, strict=True):
        expected = sorted(all_paths(plain, user, item, weight_of), key=lambda one: (one[0], -one[1]))
        assert (path is None) == (not expected)
        if path is None:
            continue
        best = [one for steps, share, one in expected if (steps, share) == pytest.approx(expected[0][:2])]
        assert plainly(graph, path, user) in best


def plainly(graph: KnowledgeGraph, path: Path, user: list[str]) -> tuple[object, ...]:
    start = next(item for item in user if item_key(item) == path.start)
    return start, tuple((step.relation, step.inverse, graph.identifier(step.node)) for step in path.steps)


def test_a_hub_is_not_followed_but_looked_up_and_a_step_is_bounded() -> None:
    graph = KnowledgeGraph(lambda key: 0)
    for number in range(walks.MAX_FAN_OUT + 1):
        graph.put(f"film-{number}", "genre", "drama")
    graph.put("film-0", "by", "ann")
    graph.put("film-1", "by", "ann")
    for number in range(20):
        for other in range(400):
            graph.put(f"festival-{number}", "shows", f"short-{other}")
        graph.put("film-0", "shown_at", f"festival-{number}")
    walk = Walk(graph, [item_key("film-0")], np.ones(1))
    shares = walk.reach(graph.find(map(item_key, ["film-1", "film-2"])))
    assert graph.hubs == 1
    assert graph.cut == 1
    assert shares[1, 1] == pytest.approx(1 / 22 / (walks.MAX_FAN_OUT + 1))
    assert shares[0, 1] > shares[1, 1]
    assert len(walk.second.nodes) <= walks.MAX_EDGES
    path, none = best_paths(graph, walk, graph.find(map(item_key, ["film-1", "film-2"])))
    assert path is not None
    assert [step.relation for step in path.steps] == ["by", "by"]
    assert none is None


def test_a_full_graph_refuses_further_triples() -> None:
    graph = KnowledgeGraph(row_of, max_triples=2)
    assert [graph.put("a", "by", "b"), graph.put("a", "name", "A"), graph.put("a", "in", "c")] == ["new", "new", "full"]
    assert graph.put("a", "by", "b") == "unchanged"
    assert graph.delete("a", "name", "A")
    assert graph.put("a", "in", "c") == "new"

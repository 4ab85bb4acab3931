"""Learn from a knowledge graph for a training run: the weights of relations, by what users chose, and vectors.

A relation counts by how much more often it leads from a user's items to the next one than to one that another user
chose: chance and popularity lead to both. The weights are learnt at each cut of the log; the vectors know no event, so
they are the same at all cuts.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from encoders.events.entries import item_key
from encoders.interest import Vector
from ranker.evaluation.extra import PackageMissing
from ranker.evaluation.interactions import Interactions
from ranker.evaluation.protocols import Case
from ranker.knowledge import fit
from ranker.knowledge.graph import KnowledgeGraph
from ranker.knowledge.space import KnowledgeSpace
from ranker.knowledge.walk import MAX_FAN_OUT
from ranker.progress import StageProgress
from ranker.recall.learnt_knowledge import LearntKnowledge
from ranker.recall.user_view import RECENT
from ranker.train.fitted_source import MIN_CASES, FittedSource, cuts_of

LIBRARY = "torch_geometric"
MAX_CASES = 3_000
"""Cases that judge the relations, drawn; chosen by us: the share of a relation that leads to a tenth of them is known
within 6% of it."""
ERRORS = 2.0
"""Standard errors by which a relation must lead more often to what was chosen: of forty that are noise, one counts."""


_LEAST = 1e-9
"""Instead of the largest weight where no relation tells anything."""
Nodes = npt.NDArray[np.intp]


@dataclass(frozen=True)
class KnowledgeSettings:
    """How to learn from a graph.

    Attributes
    ----------
    deadline : float
        When all must be done, in seconds of `time.monotonic()`.
    seed : int
    """

    deadline: float
    seed: int


def check_installed() -> None:
    """Make sure that a graph can be learnt from, before minutes are spent.

    Raises
    ------
    PackageMissing
        PyTorch Geometric is not installed.
    """
    if find_spec(LIBRARY) is None:
        raise PackageMissing(
            f"{LIBRARY}: got no such package, expected it to learn from a knowledge graph; pip install "
            "'afterclick[train]', or leave --knowledge and the items' entities out"
        )


def fit_knowledge(
    log: Interactions,
    cases: Sequence[Case],
    graph: KnowledgeGraph,
    settings: KnowledgeSettings,
    stage: StageProgress,
) -> FittedSource | None:
    """Learn the weights of the relations, and the vectors.

    Parameters
    ----------
    log : Interactions
        In order.
    cases : sequence of Case
        In order.
    graph : KnowledgeGraph
    settings : KnowledgeSettings
    stage : StageProgress

    Returns
    -------
    FittedSource or None
        None if the graph is empty, or there are too few cases to learn from.
    """
    ends = [*cuts_of(log), len(log)]
    judged = [_drawn([case for case in cases if case.log_index < end], settings.seed) for end in ends]
    if not len(graph.all_nodes()) or min(map(len, judged)) < MIN_CASES or time.monotonic() > settings.deadline:
        return None
    trained = fit.fit(graph, settings.seed, settings.deadline, stage("Learning the knowledge graph"))
    keys = graph.keys[graph.all_nodes()]
    order = np.argsort(keys)
    keys, vectors = keys[order], trained.vectors[order].astype(np.float16)
    choices = _Choices(log, graph)
    weights = [relation_weights(graph, *choices.of(some)) for some in judged]
    *sources, final = [
        LearntKnowledge(KnowledgeSpace(graph.relations, of_part, trained.translations, keys, vectors))
        for of_part in weights
    ]
    facts = {
        "triples": len(graph),
        "nodes": len(keys),
        "epochs": trained.epochs,
        "loss": round(trained.loss, 6),
        "relations": _telling(graph, weights[-1]),
    }
    return FittedSource(ends[:-1], list(sources), final, facts)


def _telling(graph: KnowledgeGraph, weights: Vector) -> dict[str, float]:
    """The weights of the relations that tell, by name."""
    named = zip(graph.relations, weights.tolist(), strict=True)
    return {name or "entities": round(weight, 4) for name, weight in named if weight > 0}


def relation_weights(graph: KnowledgeGraph, histories: Sequence[Nodes], chosen: Nodes) -> Vector:
    """Return how much each relation tells, (relations,) float32: 1 for the one that tells most, 0 for chance.

    Parameters
    ----------
    graph : KnowledgeGraph
    histories : sequence of (m,) int
        For each case the nodes of the user's items.
    chosen : (cases,) int
        The node of the item that came next; -1 for one that the graph does not know.
    """
    others = np.roll(chosen, len(chosen) // 2)
    true, false = np.zeros(len(graph.relations)), np.zeros(len(graph.relations))
    for history, target, other in zip(histories, chosen.tolist(), others.tolist(), strict=True):
        met = _edges_by_relation(graph, history)
        for node, counts in ((target, true), (other, false)):
            counts[_leading(graph, met, history, node)] += 1
    logarithm = np.log((true + 1) / (false + 1)) - ERRORS * np.sqrt(1 / (true + 1) + 1 / (false + 1))
    weights = np.maximum(logarithm, 0)
    scaled: Vector = (weights / max(weights.max(), _LEAST)).astype(np.float32)
    return scaled


class _Met(NamedTuple):
    """What the user's items are linked with: nodes and relations."""

    nodes: npt.NDArray[np.int32]
    relations: npt.NDArray[np.int16]


def _edges_by_relation(graph: KnowledgeGraph, nodes: Nodes) -> _Met:
    edges = graph.edges.gather(nodes[graph.edges.degree[nodes] <= MAX_FAN_OUT])
    return _Met(edges.targets, edges.codes // 2)


def _leading(graph: KnowledgeGraph, met: _Met, history: Nodes, node: int) -> list[int]:
    """The relations by which a user's items and a node have something in common, or one of them is linked with it."""
    if node < 0 or node in history or graph.edges.degree[node] > MAX_FAN_OUT:
        return []
    direct = set(met.relations[met.nodes == node].tolist())
    targets, codes = graph.edges.of(node)
    shared = {
        relation
        for target, relation in zip(targets.tolist(), (codes // 2).tolist(), strict=True)
        if (met.relations[met.nodes == target] == relation).any()
    }
    return list(direct | shared)


class _Choices:
    """Cases by the nodes of a graph."""

    def __init__(self, log: Interactions, graph: KnowledgeGraph) -> None:
        self._log, self._graph = log, graph
        self._nodes = graph.find(map(item_key, log.names.items))

    def of(self, cases: Sequence[Case]) -> tuple[list[Nodes], Nodes]:
        """The nodes of the users' `RECENT` newest items before each case, and the node of one of its targets."""
        by_user, begins = self._log.by_user
        histories = []
        for case in cases:
            user = self._log.user_codes[case.user]
            indices = by_user[begins[user] : begins[user + 1]]
            before = indices[: np.searchsorted(indices, case.log_index)][-RECENT:]
            nodes = np.unique(self._nodes[self._log.item[before]])
            histories.append(nodes[nodes >= 0])
        return histories, self._graph.find(item_key(min(case.targets)) for case in cases)


def _drawn(cases: Sequence[Case], seed: int) -> list[Case]:
    chosen = np.random.default_rng(seed).permutation(len(cases))[:MAX_CASES]
    return [cases[index] for index in sorted(chosen.tolist())]

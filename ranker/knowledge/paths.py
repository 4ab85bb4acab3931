"""The path that a person would name between the user's items and a candidate: the shortest, then the most telling one.

Of paths with the same number of steps it is the one that a random walk takes most likely (`ranker.knowledge.walk`), so
the one over what few items have. Knows no words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ranker.knowledge.edges import GatheredEdges
from ranker.knowledge.graph import KnowledgeGraph
from ranker.knowledge.walk import MAX_EDGES, MAX_FAN_OUT, Walk, index_in

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]


class Step(NamedTuple):
    """One step of a path.

    Attributes
    ----------
    relation : str
    inverse : bool
        The step leads from the tail to the head: "directed_by", inverse, leads from a person to a film.
    node : int
        Where it leads to.
    """

    relation: str
    inverse: bool
    node: int


class Path(NamedTuple):
    """A path; no node is there twice.

    Attributes
    ----------
    start : int
        The key of the user's item.
    steps : tuple of Step
        One to three; the last one leads to the candidate.
    """

    start: int
    steps: tuple[Step, ...]


def best_paths(
    graph: KnowledgeGraph, walk: Walk, nodes: npt.NDArray[np.intp], at_most_two: Sequence[bool] = ()
) -> list[Path | None]:
    """Find the best path to each of these nodes.

    Parameters
    ----------
    graph : KnowledgeGraph
    walk : Walk
        From the user's items.
    nodes : (n,) intp
        Of the candidates; -1 for one that the graph does not know.
    at_most_two : sequence of bool, optional
        For which nodes a path of three steps is not needed.

    Returns
    -------
    list of Path or None
        None where there is no path within the limits of a walk. A step never leads over a node with more than
        `MAX_FAN_OUT` edges.
    """
    found: list[Path | None] = [None] * len(nodes)
    if walk.is_empty:
        return found
    arrivals = _Arrivals(graph, walk)
    known = np.flatnonzero(nodes >= 0)
    for index, edge in zip(known.tolist(), arrivals.best(nodes[known], nodes[known]).tolist(), strict=True):
        if edge >= 0:
            found[index] = arrivals.path(edge)
    missing = np.array([index for index in known.tolist() if found[index] is None], np.intp)
    edges = walk.edges_of(nodes[missing])
    _over_one(graph, walk, arrivals, nodes, missing, edges, found)
    wanted = [found[index] is None and not (at_most_two and at_most_two[index]) for index in missing.tolist()]
    if any(wanted):
        _over_two(graph, walk, arrivals, nodes, missing, _some(edges, np.array(wanted)), found)
    return found


class _Arrivals:
    """The edges of the user's items, the best and the second best of another item at each node that they lead to."""

    def __init__(self, graph: KnowledgeGraph, walk: Walk) -> None:
        self._graph, self._walk = graph, walk
        self.shares, self.edges = walk.first_shares, walk.first_edges
        self.nodes = walk.first.nodes
        at = index_in(graph, self.nodes, self.edges.targets)
        by_share = np.lexsort((-self.edges.origin, self.shares))  # of equals the newest item's
        self._best = np.full(len(self.nodes), -1)
        self._best[at[by_share]] = by_share  # the last one written is the best
        others = by_share[self.edges.origin[by_share] != self.edges.origin[self._best[at[by_share]]]]
        self._second = np.full(len(self.nodes), -1)
        self._second[at[others]] = others

    def best(self, nodes: npt.NDArray[np.integer], not_from: npt.NDArray[np.integer]) -> Indices:
        """Return the index of the best edge to each node that does not begin at another one; -1 for none."""
        if not len(self.nodes):
            return np.full(len(nodes), -1)
        index = index_in(self._graph, self.nodes, nodes)
        best = np.where(index >= 0, self._best[index], -1)
        begins_there = (best >= 0) & (self._walk.starts[self.edges.origin[best]] == not_from)
        return np.where(begins_there, self._second[index], best)

    def path(self, edge: int, *more: Step) -> Path:
        """The path over one of the edges, and on."""
        first = _step(self._graph, int(self.edges.codes[edge]), int(self.edges.targets[edge]))
        return Path(self._walk.keys[int(self.edges.origin[edge])], (first, *more))


def _over_one(
    graph: KnowledgeGraph,
    walk: Walk,
    arrivals: _Arrivals,
    nodes: Indices,
    missing: Indices,
    edges: GatheredEdges,
    found: list[Path | None],
) -> None:
    """Find paths of two steps: over a node that both have."""
    candidates = nodes[missing][edges.origin]
    first = arrivals.best(edges.targets, candidates)
    degrees = graph.edges.degree[edges.targets]
    usable = np.flatnonzero((first >= 0) & (degrees <= MAX_FAN_OUT))
    shares = walk.left(edges.codes[usable], arrivals.shares[first[usable]] / degrees[usable])
    for edge in _best_of_each(edges.origin[usable], shares, usable):
        index = int(missing[edges.origin[edge]])
        last = _step(graph, int(edges.codes[edge]) ^ 1, int(nodes[index]))
        found[index] = arrivals.path(int(first[edge]), last)


def _over_two(
    graph: KnowledgeGraph,
    walk: Walk,
    arrivals: _Arrivals,
    nodes: Indices,
    missing: Indices,
    edges: GatheredEdges,
    found: list[Path | None],
) -> None:
    """Find paths of three steps: over a neighbour of the candidate that is two steps away."""
    second = walk.share_at(walk.second, edges.targets)
    degrees = graph.edges.degree[edges.targets]
    usable = np.flatnonzero((second > 0) & (degrees <= MAX_FAN_OUT))
    usable = usable[np.argsort(-second[usable] / degrees[usable], kind="stable")]
    usable = usable[np.cumsum(degrees[usable]) <= MAX_EDGES]
    middle = walk.gather(edges.targets[usable])
    last_edge = usable[middle.origin]
    candidates = nodes[missing][edges.origin[last_edge]]
    near = edges.targets[last_edge]
    first = arrivals.best(middle.targets, candidates)
    begins = np.where(first >= 0, walk.starts[arrivals.edges.origin[first]], -1) if len(arrivals.nodes) else first
    far_degrees = graph.edges.degree[middle.targets]
    kept = np.flatnonzero(
        (first >= 0) & (begins != near) & (middle.targets != candidates) & (far_degrees <= MAX_FAN_OUT)
    )
    shares = arrivals.shares[first[kept]] / far_degrees[kept] / graph.edges.degree[near[kept]]
    shares = walk.left(edges.codes[last_edge[kept]], walk.left(middle.codes[kept], shares))
    for chosen in _best_of_each(edges.origin[last_edge[kept]], shares, kept):
        edge = int(last_edge[chosen])
        index = int(missing[edges.origin[edge]])
        over = _step(graph, int(middle.codes[chosen]) ^ 1, int(near[chosen]))
        last = _step(graph, int(edges.codes[edge]) ^ 1, int(nodes[index]))
        found[index] = arrivals.path(int(first[chosen]), over, last)


def _some(edges: GatheredEdges, wanted: npt.NDArray[np.bool_]) -> GatheredEdges:
    kept = wanted[edges.origin]
    return GatheredEdges(edges.origin[kept], edges.targets[kept], edges.codes[kept])


def _best_of_each(of: Indices, shares: Floats, values: Indices) -> list[int]:
    """For each number in `of` the value with the largest share; of equals the first."""
    order = np.lexsort((np.arange(len(of)), -shares, of))
    first = np.flatnonzero(np.diff(of[order], prepend=-1))
    best: list[int] = values[order[first]].tolist()
    return best


def _step(graph: KnowledgeGraph, code: int, node: int) -> Step:
    return Step(graph.relations[code // 2], bool(code % 2), node)

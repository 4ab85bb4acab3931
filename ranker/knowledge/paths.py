"""The path that a person would name between the user's items and a candidate: the shortest, then the most telling one.

Of paths with the same number of steps it is the one that a random walk takes most likely (`ranker.knowledge.walk`), so
the one over what few items have. Knows no words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from ranker.knowledge.edges import Codes, GatheredEdges
from ranker.knowledge.graph import KnowledgeGraph
from ranker.knowledge.walk import MAX_EDGES, MAX_FAN_OUT, Walk, index_in

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]
T = TypeVar("T")


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
    direct = arrivals.best(nodes[known], nodes[known])
    arrivals.tell(known[direct >= 0], direct[direct >= 0], [], found)
    missing = known[direct < 0]
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
        by_share = np.lexsort((-self.edges.origin, self.shares))  # of equals the newest item's
        at = index_in(graph, self.nodes, self.edges.targets.take(by_share))
        self._best = np.full(len(self.nodes), -1)
        self._best[at] = by_share  # the last one written is the best
        origin = self.edges.origin
        other = np.flatnonzero(origin.take(by_share) != origin.take(self._best.take(at)))
        self._second = np.full(len(self.nodes), -1)
        self._second[at.take(other)] = by_share.take(other)

    def best(self, nodes: npt.NDArray[np.integer], not_from: npt.NDArray[np.integer]) -> Indices:
        """Return the index of the best edge to each node that does not begin at another one; -1 for none."""
        if not len(self.nodes):
            return np.full(len(nodes), -1)
        index = index_in(self._graph, self.nodes, nodes)
        reached = np.flatnonzero(index >= 0)
        at, edges = index.take(reached), np.full(len(nodes), -1)
        best = self._best.take(at)
        begins_there = self._walk.starts.take(self.edges.origin.take(best)) == not_from.take(reached)
        edges[reached] = np.where(begins_there, self._second.take(at), best)
        return edges

    def tell(self, indices: Indices, first: Indices, more: list[Iterable[Step]], found: list[Path | None]) -> None:
        """Write paths to `found`: of each of these indices the edge that it begins with, and its further steps."""
        starts = map(self._walk.keys.__getitem__, self.edges.origin.take(first).tolist())
        steps = zip(
            _steps(self._graph, self.edges.codes.take(first), self.edges.targets.take(first)), *more, strict=True
        )
        for index, path in zip(indices.tolist(), _made(Path, zip(starts, steps, strict=True)), strict=True):
            found[index] = path


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
    candidates = nodes.take(missing).take(edges.origin)
    first = arrivals.best(edges.targets, candidates)
    reached = np.flatnonzero(first >= 0)
    degrees = graph.edges.degree.take(edges.targets.take(reached))
    narrow = np.flatnonzero(degrees <= MAX_FAN_OUT)
    usable = reached.take(narrow)
    shares = arrivals.shares.take(first.take(usable)) / degrees.take(narrow)
    best = _best_of_each(edges.origin.take(usable), walk.left(edges.codes.take(usable), shares), usable)
    last = _steps(graph, edges.codes.take(best) ^ 1, candidates.take(best))
    arrivals.tell(missing.take(edges.origin.take(best)), first.take(best), [last], found)


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
    usable = np.sort(usable[np.cumsum(degrees[usable]) <= MAX_EDGES])
    middle = walk.gather(edges.targets[usable])
    last_edge = usable[middle.origin]
    candidates = nodes[missing][edges.origin[last_edge]]
    near = edges.targets[last_edge]
    first = arrivals.best(middle.targets, candidates)
    reached = np.flatnonzero(first >= 0)
    begins = walk.starts[arrivals.edges.origin[first[reached]]]
    far_degrees = graph.edges.degree[middle.targets[reached]]
    simple = (begins != near[reached]) & (middle.targets[reached] != candidates[reached])
    usable = reached[simple & (far_degrees <= MAX_FAN_OUT)]
    degrees = graph.edges.degree[middle.targets[usable]] * graph.edges.degree[near[usable]].astype(np.float64)
    shares = walk.left(middle.codes[usable], arrivals.shares[first[usable]] / degrees)
    shares = walk.left(edges.codes[last_edge[usable]], shares)
    best = _best_of_each(edges.origin[last_edge[usable]], shares, usable)
    over = _steps(graph, middle.codes[best] ^ 1, near[best])
    last = _steps(graph, edges.codes[last_edge[best]] ^ 1, candidates[best])
    arrivals.tell(missing[edges.origin[last_edge[best]]], first[best], [over, last], found)


def _some(edges: GatheredEdges, wanted: npt.NDArray[np.bool_]) -> GatheredEdges:
    kept = wanted[edges.origin]
    return GatheredEdges(edges.origin[kept], edges.targets[kept], edges.codes[kept])


def _best_of_each(of: Indices, shares: Floats, values: Indices) -> Indices:
    """For each number in `of`, which ascends, the value with the largest share; of equals the first."""
    if not len(of):
        return values
    best = np.full(int(of[-1]) + 1, -1)
    by_share = (-shares).argsort(kind="stable")[::-1]
    best[of.take(by_share)] = by_share  # the last one written is the first of the largest
    return values.take(best[best >= 0])


def _steps(graph: KnowledgeGraph, codes: Codes, nodes: npt.NDArray[np.integer]) -> Iterable[Step]:
    """Steps over edges of these codes to these nodes."""
    relations, of_edges = graph.relations, codes.tolist()
    names, inverse = [relations[code >> 1] for code in of_edges], [code & 1 == 1 for code in of_edges]
    return _made(Step, zip(names, inverse, nodes.tolist(), strict=True))


def _made(kind: type[T], fields: Iterable[Iterable[Any]]) -> Iterator[T]:
    """Make named tuples of their fields, in half of the time that calls of the class take."""
    new: Callable[..., T] = tuple.__new__
    return map(new, repeat(kind), fields)

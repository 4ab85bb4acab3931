"""Paths of at most three steps from the items that a user met, as a random walk: how likely it is at a node.

The walk begins at one of the user's items, by their weights, and takes each edge of a node with the same probability.
So what two items have in common counts the more, the fewer items have it (Cooper et al., WWW 2014: the random walk
P3). Two limits bound a walk, whatever the graph: a node with more than `MAX_FAN_OUT` edges is not followed, as each of
them would carry next to nothing; and a step follows at most `MAX_EDGES`, from the nodes whose edges carry most. Both
are counted by the graph. What a hub links is found all the same where both ends are known: a candidate is looked up
from its own edges. Knows no catalogue.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ranker.knowledge.edges import GatheredEdges
from ranker.knowledge.graph import KnowledgeGraph

MAX_FAN_OUT = 1_000
"""Chosen by us: an edge of such a node carries a thousandth of its share."""
MAX_EDGES = 1_024
"""Of a step; chosen by us. With twice as many NDCG@10 of a shop of films (`knowledge-shop 7`) is the same for a model
that learnt the graph (.329), and .336 instead of .332 without a model."""
OFTEN_ENOUGH = 256
"""Nodes that are sorted where a step has more edges than it follows; all are, if it follows more than these."""
STEPS = 3
_NO_NODES = np.empty(0, np.int32)


class Front(NamedTuple):
    """Where a walk may be after some steps.

    Attributes
    ----------
    nodes : (n,) int32
        Each once.
    shares : (n,) float64
        The probability of each.
    """

    nodes: npt.NDArray[np.int32]
    shares: npt.NDArray[np.float64]


_NOWHERE = Front(_NO_NODES, np.empty(0))


class Walk:
    """A walk from some items; each step is computed when it is asked for.

    Parameters
    ----------
    graph : KnowledgeGraph
        It must not change meanwhile.
    keys : sequence of int
        Of the user's items, each once.
    weights : (n,) float64
        How much each counts; positive.
    of_relation : (relations,) float64, optional
        What is left of a share on an edge of each relation, from 0, which is not followed, to 1. None: all of it.

    Attributes
    ----------
    starts : (n,) int32
        The nodes of the items that the graph knows.
    keys : list of int
        Their keys.
    weights : (n,) float64
        How much each counts; the sum is 1.
    """

    def __init__(
        self,
        graph: KnowledgeGraph,
        keys: Sequence[int],
        weights: npt.NDArray[np.float64],
        of_relation: npt.NDArray[np.float64] | None = None,
    ) -> None:
        self._graph = graph
        self._of_relation = of_relation
        self._asked: tuple[bytes, GatheredEdges] | None = None
        nodes = graph.find(keys) if len(graph) else np.empty(0, np.intp)
        known = np.flatnonzero(nodes >= 0)
        self.starts = nodes[known].astype(np.int32)
        self.keys = list(keys) if len(known) == len(nodes) else [keys[index] for index in known.tolist()]
        total = weights[known].sum()
        self.weights = weights[known] / total if total > 0 else weights[known]

    @property
    def is_empty(self) -> bool:
        """Whether the graph knows none of the items."""
        return not len(self.starts)

    @cached_property
    def first_edges(self) -> GatheredEdges:
        """The edges of the user's items; `origin` are indices of `starts`."""
        followed, _ = self._followed(self.starts, self.weights)
        gathered = self.gather(self.starts.take(followed))
        return gathered._replace(origin=followed.take(gathered.origin))

    @cached_property
    def first_shares(self) -> npt.NDArray[np.float64]:
        """What each of `first_edges` carries, (n,)."""
        shares = (self.weights / self._graph.edges.degree.take(self.starts)).take(self.first_edges.origin)
        return self.left(self.first_edges.codes, shares)

    @cached_property
    def first(self) -> Front:
        """After one step."""
        return self._sum(self.first_edges.targets, self.first_shares)

    @cached_property
    def second(self) -> Front:
        """After two."""
        return self._sum(*self._carried(self.first))

    def items(self, limit: int, available: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
        """Return the rows of the items that a walk of up to three steps reaches most likely, the likeliest first.

        The user's own items are not among them.

        Parameters
        ----------
        limit : int
            Of the rows.
        available : (rows,) bool
            Which items may be returned, by their rows in the catalogue.
        """
        if self.is_empty:
            return np.empty(0, np.intp)
        third, third_shares = self._carried(self._next_to_items(self.second))
        nodes = np.concatenate([self.first.nodes, self.second.nodes, third])
        rows = self._graph.rows.take(nodes)
        kept = np.flatnonzero(rows >= 0)
        kept = kept[available.take(rows.take(kept))]
        shares = np.concatenate([self.first.shares, self.second.shares, third_shares])
        reached = self._sum(nodes.take(kept), shares.take(kept))
        own = index_in(self._graph, reached.nodes, self.starts)
        reached.shares[own[own >= 0]] = 0
        chosen = _greatest(reached.shares, limit)
        shares = reached.shares.take(chosen)
        chosen, shares = chosen[shares > 0], shares[shares > 0]
        found: npt.NDArray[np.intp] = self._graph.rows.take(reached.nodes.take(chosen)).astype(np.intp)
        return found.take(np.lexsort((found, -shares))[:limit])

    def reach(self, nodes: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
        """Return the probability of each of these nodes after one, two and three steps, (n, 3); 0 for the node -1.

        Of the nodes themselves `MAX_FAN_OUT` edges count, so that no candidate is costly.
        """
        shares = np.zeros((len(nodes), STEPS))
        if self.is_empty:
            return shares
        known = np.flatnonzero(nodes >= 0)
        shares[known, 0] = self.share_at(self.first, nodes[known])
        edges = self.edges_of(nodes[known])
        each = self.left(edges.codes, 1 / self._graph.edges.degree.take(edges.targets))
        for step, front in ((1, self.first), (2, self.second)):
            carried = each * self.share_at(front, edges.targets)
            shares[known, step] = np.bincount(edges.origin, carried, len(known))
        return shares

    def edges_of(self, nodes: npt.NDArray[np.integer]) -> GatheredEdges:
        """Return the edges of candidates; none of one with more than `MAX_FAN_OUT`. `origin` are indices of `nodes`."""
        asked = nodes.tobytes()  # paths and features are of the same candidates
        if self._asked is None or self._asked[0] != asked:
            narrow = np.flatnonzero(self._graph.edges.degree.take(nodes) <= MAX_FAN_OUT)
            gathered = self.gather(nodes.take(narrow))
            self._asked = asked, gathered._replace(origin=narrow.take(gathered.origin))
        return self._asked[1]

    def gather(self, nodes: npt.NDArray[np.integer]) -> GatheredEdges:
        """Return the edges of nodes, without those of relations that do not count."""
        edges = self._graph.edges.gather(nodes)
        if self._of_relation is None:
            return edges
        kept = self._of_relation[edges.codes // 2] > 0
        return GatheredEdges(edges.origin[kept], edges.targets[kept], edges.codes[kept])

    def left(self, codes: npt.NDArray[np.int16], shares: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return what is left of shares on the way over edges of these codes, (n,)."""
        return shares if self._of_relation is None else shares * self._of_relation[codes // 2]

    def share_at(self, front: Front, nodes: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
        """Return the probability of nodes in a front, (n,); 0 for a node that is not in it."""
        share_of = self._graph.scratch_shares()
        share_of[nodes] = 0
        share_of[front.nodes] = front.shares
        return share_of.take(nodes)

    def _next_to_items(self, front: Front) -> Front:
        """The nodes from which a step leads to an item: a last step from others finds nothing."""
        leading = np.flatnonzero(self._graph.near_items.take(front.nodes))
        return Front(front.nodes.take(leading), front.shares.take(leading))

    def _carried(self, front: Front) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:
        """Follow one step: where each edge leads, and the probability that it carries."""
        followed, each = self._followed(front.nodes, front.shares)
        nodes = front.nodes.take(followed)
        if self._of_relation is None:
            origin, targets = self._graph.edges.lead(nodes)
            return targets, each.take(origin)
        gathered = self.gather(nodes)
        return gathered.targets, self.left(gathered.codes, each.take(gathered.origin))

    def _followed(
        self, nodes: npt.NDArray[np.int32], shares: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
        """Return the indices of the nodes that a step follows, and what each edge of them carries, (n,) each.

        No hubs are followed, and of the others those whose edges carry most.
        """
        degrees = self._graph.edges.degree.take(nodes)
        followed = np.flatnonzero(degrees <= MAX_FAN_OUT)
        if len(followed) < len(nodes):
            self._graph.hubs += len(nodes) - len(followed)
            degrees, shares = degrees.take(followed), shares.take(followed)
        each = shares / degrees
        if degrees.sum() <= MAX_EDGES:
            return followed, each
        self._graph.cut += 1
        best = _greatest(each, OFTEN_ENOUGH)
        if degrees.take(best).sum() <= MAX_EDGES:
            best = np.arange(len(each))
        best = best.take((-each.take(best)).argsort(kind="stable"))
        best = best[degrees.take(best).cumsum() <= MAX_EDGES]
        return followed.take(best), each.take(best)

    def overlap(self, nodes: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
        """Return how many nodes each of these nodes has in common with the user's items, by their weights, (n,).

        Other than a probability, it does not fall with the number of items that have a node.
        """
        counts = np.zeros(len(nodes))
        if self.is_empty:
            return counts
        front = self._sum(
            self.first_edges.targets, self.left(self.first_edges.codes, self.weights[self.first_edges.origin])
        )
        known = np.flatnonzero(nodes >= 0)
        edges = self.edges_of(nodes[known])
        shares = self.left(edges.codes, self.share_at(front, edges.targets))
        counts[known] = np.bincount(edges.origin, shares, len(known))
        return counts

    def _sum(self, targets: npt.NDArray[np.int32], shares: npt.NDArray[np.float64]) -> Front:
        """Add up the shares of each target."""
        if not len(targets):
            return _NOWHERE
        order = np.arange(len(targets), dtype=np.int32)
        last = self._graph.scratch()
        last[targets] = order  # of equal targets the last one stays
        representative = last.take(targets)
        is_last = representative == order
        index = is_last.cumsum()
        index -= 1
        return Front(targets[is_last], np.bincount(index.take(representative), shares).astype(np.float64, copy=False))


def _greatest(shares: npt.NDArray[np.float64], limit: int) -> npt.NDArray[np.intp]:
    """Return the indices of the greatest shares, ascending: `limit` of them, and all that equal the last of these."""
    if len(shares) <= limit:
        return np.arange(len(shares))
    least = len(shares) - max(1, limit)
    return np.flatnonzero(shares >= np.partition(shares, least)[least])


def index_in(
    graph: KnowledgeGraph, among: npt.NDArray[np.int32], nodes: npt.NDArray[np.integer]
) -> npt.NDArray[np.intp]:
    """Return the index of each node among others, each of which is there once; -1 for one that is not, (n,).

    Needs no sort: the scratch array holds the index of each node that matters.
    """
    index_of = graph.scratch()
    index_of[nodes] = -1
    index_of[among] = np.arange(len(among), dtype=np.int32)
    index: npt.NDArray[np.intp] = index_of.take(nodes).astype(np.intp)
    return index

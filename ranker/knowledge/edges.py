"""The edges of each node, in blocks whose sizes are powers of two: appended and deleted in place.

A compressed sparse row matrix would have to be sorted anew to take a further edge, for half a second with 1,000,000
triples. Here a node whose block is full moves to one twice as large, and another node takes the old one. Knows no
names.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Nodes = npt.NDArray[np.int32]
Codes = npt.NDArray[np.int16]
_NONE = -1
_FIRST = 1_024


class GatheredEdges(NamedTuple):
    """Edges of some nodes.

    Attributes
    ----------
    origin : (n,) intp
        The index of the edge's node among the nodes that were asked for.
    targets : (n,) int32
    codes : (n,) int16
    """

    origin: npt.NDArray[np.intp]
    targets: Nodes
    codes: Codes


class Edges:
    """Edges from nodes, numbered from 0, to nodes, each with a code.

    Attributes
    ----------
    degree : (nodes or more,) int32
        The number of edges of each node.
    """

    def __init__(self) -> None:
        self.degree = np.zeros(_FIRST, np.int32)
        self._begin = np.zeros(_FIRST, np.int64)
        self._size = np.full(_FIRST, _NONE, np.int8)  # base-2 logarithm of the block's size
        self._targets = np.zeros(_FIRST, np.int32)
        self._codes = np.zeros(_FIRST, np.int16)
        self._used = 0
        self._free: list[list[int]] = [[] for _ in range(32)]

    def reach(self, node: int) -> None:
        """Make sure that the node exists."""
        missing = node + 1 - len(self.degree)
        if missing > 0:
            added = max(missing, len(self.degree) // 2)
            self.degree = np.concatenate([self.degree, np.zeros(added, np.int32)])
            self._begin = np.concatenate([self._begin, np.zeros(added, np.int64)])
            self._size = np.concatenate([self._size, np.full(added, _NONE, np.int8)])

    def add(self, node: int, target: int, code: int) -> None:
        """Append an edge. The caller knows that it is new."""
        degree = int(self.degree[node])
        if self._size[node] == _NONE or degree == 1 << int(self._size[node]):
            self._move(node, degree)
        index = int(self._begin[node]) + degree
        self._targets[index], self._codes[index] = target, code
        self.degree[node] = degree + 1

    def remove(self, node: int, target: int, code: int) -> None:
        """Take out an edge that is there; the node's last edge takes its index."""
        targets, codes = self.of(node)
        index = int(np.flatnonzero((targets == target) & (codes == code))[0])
        targets[index], codes[index] = targets[-1], codes[-1]
        self.degree[node] -= 1
        if not self.degree[node]:
            self._free[int(self._size[node])].append(int(self._begin[node]))
            self._size[node] = _NONE

    def has(self, node: int, target: int, code: int) -> bool:
        """Whether the node has this edge."""
        targets, codes = self.of(node)
        return bool(((targets == target) & (codes == code)).any())

    def of(self, node: int) -> tuple[Nodes, Codes]:
        """Return the targets and the codes of a node's edges; views, valid until the next change."""
        begin, degree = int(self._begin[node]), int(self.degree[node])
        return self._targets[begin : begin + degree], self._codes[begin : begin + degree]

    def gather(self, nodes: npt.NDArray[np.integer]) -> GatheredEdges:
        """Return copies of the edges of all these nodes, node by node."""
        origin, index = self._spread(nodes)
        return GatheredEdges(origin, self._targets.take(index), self._codes.take(index))

    def lead(self, nodes: npt.NDArray[np.integer]) -> tuple[npt.NDArray[np.intp], Nodes]:
        """Return where the edges of these nodes lead: `origin` and `targets` of `gather`, at less cost."""
        origin, index = self._spread(nodes)
        return origin, self._targets.take(index)

    def _spread(self, nodes: npt.NDArray[np.integer]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """The index of each edge's node among the nodes, and its index in the blocks."""
        degrees = self.degree.take(nodes).astype(np.intp)
        origin = np.arange(len(nodes)).repeat(degrees)
        before = degrees.cumsum()
        before -= degrees
        index = (self._begin.take(nodes) - before).take(origin)
        index += np.arange(len(index))
        return origin, index

    def _move(self, node: int, degree: int) -> None:
        """Give a node a block of twice the size."""
        old_size, old_begin = int(self._size[node]), int(self._begin[node])
        size = old_size + 1
        begin = self._free[size].pop() if self._free[size] else self._new_block(1 << size)
        if old_size != _NONE:
            for array in (self._targets, self._codes):
                array[begin : begin + degree] = array[old_begin : old_begin + degree]
            self._free[old_size].append(old_begin)
        self._begin[node], self._size[node] = begin, size

    def _new_block(self, length: int) -> int:
        begin, self._used = self._used, self._used + length
        if self._used > len(self._targets):
            added = max(length, len(self._targets) // 2)
            self._targets = np.concatenate([self._targets, np.zeros(added, np.int32)])
            self._codes = np.concatenate([self._codes, np.zeros(added, np.int16)])
        return begin

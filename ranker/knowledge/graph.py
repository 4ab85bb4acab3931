"""The knowledge graph in memory: triples of a head, a relation and a tail, in which items are nodes like all others.

A node is known by the 64-bit key of its id, as an item is. Triples come and go while it serves; a node without a triple
is forgotten. Knows no user and no transport.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from itertools import repeat
from typing import Literal

import numpy as np
import numpy.typing as npt

from encoders.events.entries import item_key
from ranker.knowledge.edges import Edges

NAME = "name"
"""The relation whose tail is what people call the head. Such a triple is no edge."""
OF_ITEM = ""
"""The relation of an item to its `entities`; no triple that is sent has it."""
MAX_TRIPLES = 5_000_000
"""Chosen by us: about 0.4 GB."""
MAX_RELATIONS = 8_192
Change = Literal["new", "unchanged", "full"]
NO_NODE = -1


class KnowledgeGraph:
    """Triples, and the nodes between them.

    Parameters
    ----------
    row_of : callable
        Returns the row of an item's key in the catalogue; -1 for none.
    max_triples : int
        Further ones are refused.

    Attributes
    ----------
    edges : Edges
        Of every node, in both directions. A code is twice the relation's number, plus 1 from the tail to the head.
    rows : (nodes or more,) int32
        The row of each node's item in the catalogue; -1 for a node that is no item of it.
    keys : (nodes or more,) uint64
        The key of each node.
    near_items : (nodes or more,) int32
        How many of each node's edges lead to an item of the catalogue.
    relations : list of str
        By their numbers; a number keeps its meaning.
    hubs, cut : int
        How often a search met a node with too many edges to follow, and how often it had too many nodes to follow all.
    """

    def __init__(self, row_of: Callable[[int], int], max_triples: int = MAX_TRIPLES) -> None:
        self.edges = Edges()
        self.rows = np.full(len(self.edges.degree), NO_NODE, np.int32)
        self.keys = np.zeros(len(self.rows), np.uint64)
        self.near_items = np.zeros(len(self.rows), np.int32)
        self.relations = [OF_ITEM]
        self.hubs = self.cut = 0
        self.max_triples = max_triples
        self._row_of = row_of
        self._codes = {OF_ITEM: 0}
        self._nodes: dict[int, int] = {}
        self._ids: list[bytes] = []
        self._names: dict[int, str] = {}
        self._free: list[int] = []
        self._triples = 0
        self._scratch, self._shares = np.zeros(len(self.rows), np.int32), np.zeros(len(self.rows))
        self._node_of_row = np.full(len(self.rows), NO_NODE, np.int32)

    def __len__(self) -> int:
        """The number of triples, those of items' entities and of names among them."""
        return self._triples + len(self._names)

    @property
    def nodes(self) -> int:
        """The number of nodes."""
        return len(self._nodes)

    def put(self, head: str, relation: str, tail: str) -> Change:
        """Insert a triple. Of several names of a head the last one counts."""
        if relation == NAME:
            return self._put_name(item_key(head), tail)
        code = self._code(relation)
        if code is None:
            return "full"
        return self._put(head, code, tail)

    def delete(self, head: str, relation: str, tail: str) -> bool:
        """Take out a triple. Returns whether it was there."""
        if relation == NAME:
            is_there = self._names.get(item_key(head)) == tail
            if is_there:
                del self._names[item_key(head)]
            return is_there
        code = self._codes.get(relation)
        return code is not None and self._delete(item_key(head), code, item_key(tail))

    def put_item(self, key: int, item_id: str, row: int, entities: Collection[str]) -> None:
        """Say in which row an item is, and which entities it names, instead of what it named before."""
        wanted = {item_key(entity): entity for entity in entities}
        for old in self._entities(key):
            if old not in wanted:
                self._delete(key, 0, old)
        for entity in wanted.values():
            self._put(item_id, 0, entity)
        self._place(key, row)

    def delete_item(self, key: int) -> None:
        """Say that the catalogue has an item no longer; what others say about it stays."""
        for entity in self._entities(key):
            self._delete(key, 0, entity)
        self._place(key, NO_NODE)

    def find(self, keys: Iterable[int]) -> npt.NDArray[np.intp]:
        """Return the nodes of keys, (n,) intp; -1 for a key that has none."""
        return np.array([*map(self._nodes.get, keys, repeat(NO_NODE))], np.intp)

    def nodes_of(self, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        """Return the nodes of the items in these rows of the catalogue, (n,) intp; -1 for an item that has none."""
        if len(rows) and rows.max() >= len(self._node_of_row):
            self._reach_row(int(rows.max()))
        nodes: npt.NDArray[np.intp] = self._node_of_row.take(rows).astype(np.intp)
        return nodes

    def label(self, node: int) -> str:
        """Return what people call a node: its name, else its id."""
        return self._names.get(int(self.keys[node])) or self.identifier(node)

    def identifier(self, node: int) -> str:
        """Return the id of a node."""
        return self._ids[node].decode()

    def scratch(self) -> npt.NDArray[np.int32]:
        """Return an array with a number for each node, of any content; valid until the graph changes."""
        if len(self._scratch) < len(self.rows):
            self._scratch = np.zeros(len(self.rows), np.int32)
        return self._scratch

    def scratch_shares(self) -> npt.NDArray[np.float64]:
        """Return another such array, of shares."""
        if len(self._shares) < len(self.rows):
            self._shares = np.zeros(len(self.rows))
        return self._shares

    def all_nodes(self) -> npt.NDArray[np.int32]:
        """Return the numbers of all nodes, (n,), ascending."""
        return np.flatnonzero(self.edges.degree).astype(np.int32)

    def triples(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int16], npt.NDArray[np.int32]]:
        """Return heads, relations and tails of all triples that are edges, by their numbers, (n,) each."""
        nodes = self.all_nodes()
        gathered = self.edges.gather(nodes)
        forward = gathered.codes % 2 == 0
        heads = nodes[gathered.origin[forward]]
        return heads, gathered.codes[forward] // 2, gathered.targets[forward]

    def _entities(self, key: int) -> list[int]:
        node = self._nodes.get(key)
        if node is None:
            return []
        targets, codes = self.edges.of(node)
        keys: list[int] = self.keys[targets[codes == 0]].tolist()
        return keys

    def _put_name(self, key: int, name: str) -> Change:
        if self._names.get(key) == name:
            return "unchanged"
        if key not in self._names and len(self) >= self.max_triples:
            return "full"
        self._names[key] = name
        return "new"

    def _code(self, relation: str) -> int | None:
        code = self._codes.get(relation)
        if code is None and len(self.relations) < MAX_RELATIONS:
            code = self._codes[relation] = len(self.relations)
            self.relations.append(relation)
        return code

    def _put(self, head: str, relation: int, tail: str) -> Change:
        start, end = (self._nodes.get(item_key(one)) for one in (head, tail))
        if start is not None and end is not None and self._has(start, relation, end):
            return "unchanged"
        if len(self) >= self.max_triples:
            return "full"
        start = self._node(head) if start is None else start
        end = self._node(tail) if head != tail else start
        self.edges.add(start, end, 2 * relation)
        self.edges.add(end, start, 2 * relation + 1)
        self._count_items(start, end, 1)
        self._triples += 1
        return "new"

    def _has(self, start: int, relation: int, end: int) -> bool:
        """Whether there is such an edge, looked up at the node with fewer edges."""
        if self.edges.degree[start] <= self.edges.degree[end]:
            return self.edges.has(start, end, 2 * relation)
        return self.edges.has(end, start, 2 * relation + 1)

    def _delete(self, head: int, relation: int, tail: int) -> bool:
        start, end = self._nodes.get(head), self._nodes.get(tail)
        if start is None or end is None or not self._has(start, relation, end):
            return False
        self.edges.remove(start, end, 2 * relation)
        self.edges.remove(end, start, 2 * relation + 1)
        self._count_items(start, end, -1)
        self._triples -= 1
        for key, node in {head: start, tail: end}.items():
            if not self.edges.degree[node]:
                self._set_row(node, NO_NODE)
                del self._nodes[key]
                self._ids[node] = b""
                self._free.append(node)
        return True

    def _count_items(self, start: int, end: int, change: int) -> None:
        """Note an edge that came or went, in both directions."""
        if self.rows[end] >= 0:
            self.near_items[start] += change
        if self.rows[start] >= 0:
            self.near_items[end] += change

    def _node(self, identifier: str) -> int:
        key = item_key(identifier)
        node = self._nodes.get(key)
        if node is None:
            node = self._free.pop() if self._free else len(self._ids)
            if node == len(self._ids):
                self._ids.append(b"")
                self.edges.reach(node)
                if node >= len(self.rows):
                    added = np.full(len(self.edges.degree) - len(self.rows), NO_NODE, np.int32)
                    self.rows = np.concatenate([self.rows, added])
                    self.keys = np.concatenate([self.keys, np.zeros(len(added), np.uint64)])
                    self.near_items = np.concatenate([self.near_items, np.zeros(len(added), np.int32)])
            self._ids[node] = identifier.encode()
            self._nodes[key] = node
            self.keys[node] = key
            self._set_row(node, self._row_of(key))
        return node

    def _place(self, key: int, row: int) -> None:
        node = self._nodes.get(key)
        if node is not None:
            self._set_row(node, row)

    def _set_row(self, node: int, row: int) -> None:
        """Say in which row of the catalogue a node is from now on, if it is in one."""
        old = int(self.rows[node])
        if old == row:
            return
        if old >= 0:
            self._node_of_row[old] = NO_NODE
        if row >= 0:
            self._reach_row(row)
            self._node_of_row[row] = node
        self.rows[node] = row
        if (old >= 0) != (row >= 0):
            np.add.at(self.near_items, self.edges.of(node)[0], 1 if row >= 0 else -1)

    def _reach_row(self, row: int) -> None:
        missing = row + 1 - len(self._node_of_row)
        if missing > 0:
            added = np.full(max(missing, len(self._node_of_row) // 2), NO_NODE, np.int32)
            self._node_of_row = np.concatenate([self._node_of_row, added])

"""What training learns of a knowledge graph: how much each relation tells of what users choose, and a space of nodes.

The space is that of TransE (Bordes et al., NIPS 2013): a relation is a translation, so the vector of a tail is near
that of the head plus that of the relation. A node that came after training is placed where its neighbours say that it
must be. Knows no fit.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from encoders.interest import Vector
from encoders.models.source import ModelUnsupported
from ranker.knowledge.graph import KnowledgeGraph
from ranker.knowledge.walk import MAX_FAN_OUT

_LEAST_LENGTH = np.float32(1e-12)
Floats = npt.NDArray[np.float64]


class KnowledgeSpace:
    """Relations with their weights and translations, and nodes with their vectors.

    Parameters
    ----------
    relations : sequence of str
    weights : (relations,) float32
        From 0 to 1.
    translations : (relations, dim) float32
    keys : (nodes,) uint64
        Ascending.
    vectors : (nodes, dim) float16
        Unit length.
    """

    def __init__(
        self,
        relations: Sequence[str],
        weights: Vector,
        translations: Vector,
        keys: npt.NDArray[np.uint64],
        vectors: npt.NDArray[np.float16],
    ) -> None:
        self.relations = tuple(relations)
        self.weights, self.translations = weights, translations
        self.keys, self.vectors = keys, vectors
        self._number = {name: number for number, name in enumerate(self.relations)}
        self._numbers_in_graph = np.empty(0, np.intp)

    def of_relations(self, graph: KnowledgeGraph) -> Floats:
        """Return the weight of each relation of a graph, by its number there; 0 for one that is new."""
        return np.append(self.weights, 0.0)[self._numbers(graph)]

    def place(self, graph: KnowledgeGraph, nodes: npt.NDArray[np.integer]) -> Vector:
        """Return the vectors of nodes, (n, dim) float32, of unit length; 0 for -1 and for one that nothing places."""
        placed = np.zeros((len(nodes), self.vectors.shape[1]), np.float32)
        known = np.flatnonzero(nodes >= 0)
        index = self._index(graph.keys[nodes[known]])
        placed[known[index >= 0]] = self.vectors[index[index >= 0]]
        new = known[index < 0]
        if len(new):
            placed[new] = self._from_neighbours(graph, nodes[new])
        return placed

    def save(self, file: Path) -> None:
        """Write all into a file."""
        arrays = {
            "weights": self.weights,
            "translations": self.translations,
            "keys": self.keys,
            "vectors": self.vectors,
        }
        metadata = {"relations": json.dumps(self.relations)}
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, file, metadata)

    def _from_neighbours(self, graph: KnowledgeGraph, nodes: npt.NDArray[np.integer]) -> Vector:
        """The mean of where a node's known neighbours say that it is."""
        narrow = np.flatnonzero(graph.edges.degree[nodes] <= MAX_FAN_OUT)
        edges = graph.edges.gather(nodes[narrow])
        index = self._index(graph.keys[edges.targets])
        relation = self._numbers(graph)[edges.codes // 2]
        usable = np.flatnonzero((index >= 0) & (relation < len(self.relations)))
        relation, is_tail = relation[usable], edges.codes[usable] % 2 == 1
        signs = np.where(is_tail, np.float32(1), np.float32(-1))[:, None]
        places = self.vectors[index[usable]].astype(np.float32) + signs * self.translations[relation]
        placed = np.zeros((len(nodes), self.vectors.shape[1]), np.float32)
        np.add.at(placed, narrow[edges.origin[usable]], places)
        unit: Vector = placed / np.maximum(np.linalg.norm(placed, axis=1, keepdims=True), _LEAST_LENGTH)
        return unit

    def _index(self, keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.intp]:
        index = np.minimum(np.searchsorted(self.keys, keys), max(0, len(self.keys) - 1))
        return np.where(self.keys[index] == keys, index, -1) if len(self.keys) else np.full(len(keys), -1)

    def _numbers(self, graph: KnowledgeGraph) -> npt.NDArray[np.intp]:
        """The number here of each relation there; `len(self.relations)` for one that is new."""
        if len(self._numbers_in_graph) != len(graph.relations):
            numbers = [self._number.get(name, len(self.relations)) for name in graph.relations]
            self._numbers_in_graph = np.array(numbers, np.intp)
        return self._numbers_in_graph


def read(file: Path) -> KnowledgeSpace:
    """Read what `save` wrote.

    Raises
    ------
    ModelUnsupported
        The file is damaged.
    """
    try:
        with safe_open(file, "numpy") as stored:
            arrays: dict[str, Any] = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            space = KnowledgeSpace(json.loads((stored.metadata() or {})["relations"]), **arrays)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ModelUnsupported(
            f"{file}: got no space of a knowledge graph ({error}), expected the file that `afterclick train` wrote"
        ) from error
    if not _is_whole(space):
        raise ModelUnsupported(
            f"{file}: got a space of a knowledge graph whose parts do not fit together, expected the file that "
            "`afterclick train` wrote"
        )
    return space


def _is_whole(space: KnowledgeSpace) -> bool:
    arrays = (space.weights, space.translations, space.vectors)
    return bool(
        all(isinstance(name, str) for name in space.relations)
        and space.weights.shape == (len(space.relations),)
        and space.translations.ndim == space.vectors.ndim == 2
        and space.translations.shape == (len(space.relations), space.vectors.shape[1])
        and space.keys.shape == (len(space.vectors),)
        and [array.dtype for array in arrays] == [np.float32, np.float32, np.float16]
        and space.keys.dtype == np.uint64
        and all(np.isfinite(array).all() for array in arrays)
        and ((space.weights >= 0) & (space.weights <= 1)).all()
        and (np.diff(space.keys.astype(object)) > 0).all()
    )

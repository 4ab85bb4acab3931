"""The source of candidates that knows which relations of the knowledge graph tell, and its features. Knows no fit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np

from encoders.interest import Vector
from ranker.knowledge import space
from ranker.knowledge.space import KnowledgeSpace
from ranker.recall.candidates import Proposals
from ranker.recall.catalogue import Catalogue
from ranker.recall.item_columns import ItemColumns
from ranker.recall.user_view import UserView

_MIN_SHARE = 2.0**-16
"""Added to a probability before the logarithm."""


class LearntKnowledge:
    """Items to which relations lead that users follow, and how near they are in the space of the graph.

    Parameters
    ----------
    knowledge : KnowledgeSpace

    Attributes
    ----------
    file : str
        Its name in a model's folder.
    """

    file = "knowledge.safetensors"
    name = "learnt-knowledge"
    columns: ClassVar[tuple[str, ...]] = (
        "knowledge_known",  # 1 if the graph knows the candidate
        "knowledge_overlap",  # nodes that it has in common with an item of the user, by the weights of the relations
        "knowledge_one_step",  # log2 of the probability of a walk by these weights, for paths of one, two, three steps
        "knowledge_two_steps",
        "knowledge_three_steps",
        "knowledge_cosine",  # in the graph's space, with the mean of the user's recent items
        "knowledge_newest",  # with the newest
        "knowledge_nearest",  # with the nearest
    )

    def __init__(self, knowledge: KnowledgeSpace) -> None:
        self.knowledge = knowledge

    @classmethod
    def read(cls, path: Path) -> LearntKnowledge:
        """See `LearntSource`."""
        return cls(space.read(path))

    def save(self, path: Path) -> None:
        """See `LearntSource`."""
        self.knowledge.save(path)

    def enter(self, catalogue: Catalogue) -> Iterator[None]:
        """See `LearntSource`: the graph knows its items, and a node is placed when it is asked for."""
        return iter(())

    def find(self, user: UserView, limit: int) -> Proposals:
        """See `Source`."""
        walk = user.walk_by(self.knowledge)
        return Proposals(walk.items(limit, user.catalogue.available))

    def features(self, user: UserView, items: ItemColumns) -> Vector:
        """Return `columns` of each item, (n, 8) float32; see `LearntSource`."""
        graph, walk = user.catalogue.knowledge, user.walk_by(self.knowledge)
        nodes = items.nodes
        values = np.zeros((len(nodes), len(self.columns)), np.float32)
        values[:, 0] = nodes >= 0
        if walk.is_empty:
            return values
        values[:, 1] = walk.overlap(nodes)
        values[:, 2:5] = np.log2(walk.reach(nodes) + _MIN_SHARE) - np.log2(_MIN_SHARE)
        placed, recent = self.knowledge.place(graph, nodes), self.knowledge.place(graph, walk.starts)
        cosines = placed @ recent.T
        mean = walk.weights.astype(np.float32) @ recent
        values[:, 5] = placed @ mean / max(float(np.linalg.norm(mean)), 1e-6)
        values[:, 6], values[:, 7] = cosines[:, 0], cosines.max(axis=1)
        return values

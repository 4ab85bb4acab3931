"""A space that an adapter makes of items' vectors: its source of candidates, and its features. Knows no fit.

Which vectors of an item the adapter reads, a subclass says: those of the texts, or those that the items bring. An item
without a vector has none in the space: no search finds it, and its features read 0. An event about it is not read.
"""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from encoders.interest import Vector
from ranker.recall.candidates import Proposals
from ranker.recall.catalogue import Catalogue, CatalogueItem
from ranker.recall.item_columns import ItemColumns
from ranker.recall.space import Placed
from ranker.recall.user_view import UserView
from ranker.spaces import adapter
from ranker.spaces.adapter import Adapter

EXACT = 32_768
"""Items up to which the search is a product with all of them: 17 MB for one query, some 2 ms. The texts' own space
needs a graph earlier, because its queries are several and its vectors three times as long."""
CORE_COLUMNS = 3
"""The columns of every space: the score, and the cosines with the newest and with the nearest item of the history."""


class SpaceHistory(NamedTuple):
    """A user's events about items that a space knows, oldest first.

    Attributes
    ----------
    rows : (n,) intp
        Of the items.
    vectors : (n, `Adapter.text_dim`) float32
        Of the items, as the adapter reads them.
    is_purchase : (n,) bool
    """

    rows: npt.NDArray[np.intp]
    vectors: Vector
    is_purchase: npt.NDArray[np.bool_]


class AdaptedSpace(ABC):
    """Items whose adapted vector is nearest to what the user's events lead to (`ranker.spaces.adapter`).

    Parameters
    ----------
    adapter : Adapter

    Attributes
    ----------
    file : str
        Its name in a model's folder.
    """

    file: str
    name: str
    columns: ClassVar[tuple[str, ...]]
    exact = EXACT
    may_lack = False

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter
        self._last: tuple[weakref.ref[UserView], SpaceHistory, Vector] | None = None

    @property
    def dim(self) -> int:
        """Length of an adapted vector."""
        return self.adapter.dim

    @classmethod
    def read(cls, path: Path) -> AdaptedSpace:
        """See `LearntSource`."""
        return cls(adapter.read(path))

    def save(self, path: Path) -> None:
        """See `LearntSource`."""
        self.adapter.save(path)

    @abstractmethod
    def check(self, catalogue: Catalogue) -> None:
        """Make sure that the catalogue has the vectors that the adapter reads.

        Raises
        ------
        ModelUnsupported
        """

    @abstractmethod
    def place(self, items: Sequence[Placed], vectors: Vector) -> Vector:
        """See `Placing`."""

    @abstractmethod
    def history(self, user: UserView) -> SpaceHistory:
        """Return the user's events about items that the space knows."""

    def enter(self, catalogue: Catalogue) -> Iterator[None]:
        """See `LearntSource`: place all items.

        Raises
        ------
        ModelUnsupported
            The catalogue has no such vectors.
        """
        self.check(catalogue)
        return catalogue.place(self)

    def find(self, user: UserView, limit: int) -> Proposals:
        """See `Source`."""
        _, query = self._read(user)
        length = np.linalg.norm(query)
        if not length > 0:
            return Proposals(np.empty(0, np.intp))
        return Proposals(user.catalogue.space(self).nearest(query[None] / length, limit)[0])

    def features(self, user: UserView, items: ItemColumns) -> Vector:
        """Return `columns` of each item, (n, len(columns)) float32; see `LearntSource`."""
        values = np.zeros((len(items.keys), len(self.columns)), np.float32)
        history, query = self._read(user)
        placed = self._placed(user.catalogue, items)
        past = user.catalogue.space(self).vectors(history.rows) if len(history.rows) else placed[:0]
        if len(past):
            values[:, 0] = self.adapter.scale * (placed @ query)
            cosines = placed @ past.T
            values[:, 1], values[:, 2] = cosines[:, -1], cosines.max(axis=1)
        values[:, CORE_COLUMNS:] = self.gates(placed, past)
        return values

    def gates(self, placed: Vector, history: Vector) -> Vector:
        """Return the columns after the first three, which say what those are worth, (n, columns). By default none.

        Parameters
        ----------
        placed : (n, dim) float32
            Of the candidates.
        history : (h, dim) float32
            Of the items of the user's events, oldest first.
        """
        return np.empty((len(placed), 0), np.float32)

    def _placed(self, catalogue: Catalogue, items: ItemColumns) -> Vector:
        """The adapted vectors of items; of those that the catalogue does not have, what is known of them."""
        rows, space = catalogue.rows(items.keys.tolist()), catalogue.space(self)
        placed = space.vectors(np.maximum(rows, 0)) if len(catalogue) else np.empty((len(rows), self.dim), np.float32)
        if (unknown := rows < 0).any():
            placed[unknown] = self.place_new(items.vectors[unknown])
        return placed

    def place_new(self, vectors: Vector) -> Vector:
        """Return the adapted vectors of items of which only the texts' vectors are known, as `place` does."""
        return self.place([CatalogueItem("", "", "")] * len(vectors), vectors)

    def _read(self, user: UserView) -> tuple[SpaceHistory, Vector]:
        """The user's history, and what they look for, (dim,) float32: not of unit length, and 0 without events.

        Both are kept for the user who was asked about last: the features of candidates follow the search for them.
        """
        if self._last is None or self._last[0]() is not user:
            history, query = self.history(user), np.zeros(self.dim, np.float32)
            if len(history.rows):
                query = self.adapter.query(history.vectors[::-1], history.is_purchase[::-1])
            self._last = weakref.ref(user), history, query
        return self._last[1:]

"""The spaces of the vectors that items bring, such as `image`, each adapted to the shop.

A shop's items may lack the vector: one without it has the features of an item of which nothing is known there.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from encoders.events.types import PURCHASE
from encoders.interest import Vector
from encoders.models.source import ModelUnsupported
from ranker.recall.adapted_space import AdaptedSpace, SpaceHistory
from ranker.recall.catalogue import Catalogue
from ranker.recall.space import Placed
from ranker.recall.user_view import UserView

_COMPONENT = np.dtype("<f2")
_PREFIX, _SUFFIX = "space-", ".safetensors"
FILES = f"{_PREFIX}*{_SUFFIX}"
"""The files of such spaces in a model's folder, as a pattern."""
OF_ITEM = ("score", "newest", "nearest", "known")
COLUMNS = (*OF_ITEM, "in_history")
"""Of each space. `known` is 1 for an item that has a vector; `in_history` says how near the vectors of successive items
of the history are to each other."""


class EmbeddingSpace(AdaptedSpace):
    """See `AdaptedSpace`. Each space is a class of its own, from `embedding_space`.

    Attributes
    ----------
    embedding : str
        The name of the vectors.
    """

    embedding: ClassVar[str]
    may_lack = True

    def check(self, catalogue: Catalogue) -> None:
        """See `AdaptedSpace`: the catalogue must keep vectors of this name."""
        if self.embedding not in catalogue.embedding_names:
            raise ModelUnsupported(
                f"{self.file}: got a model that reads the items' vectors {self.embedding!r}, which this process does "
                f"not keep; add {self.embedding}:{self.adapter.text_dim} to AFTERCLICK_CANDIDATES__SPACES"
            )

    def place(self, items: Sequence[Placed], vectors: Vector) -> Vector:
        """See `Placing`."""
        placed = np.zeros((len(items), self.dim), np.float32)
        known, read = self._brought(items)
        placed[known] = self.adapter.place(read)
        return placed

    def history(self, user: UserView) -> SpaceHistory:
        """See `AdaptedSpace`."""
        events, rows, _ = user.known_history
        known, read = self._brought([user.catalogue.at(row) for row in rows.tolist()])
        return SpaceHistory(rows[known], read, (events["type"] == PURCHASE)[known])

    def lacks(self, user: UserView, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
        """See `KnowsSome`."""
        return np.asarray(~user.catalogue.space(self).vectors(rows).any(axis=1))

    def _brought(self, items: Sequence[Placed]) -> tuple[npt.NDArray[np.bool_], Vector]:
        """Which items have a vector of the adapter's length, (n,) bool, and their vectors, (known, dim) float32."""
        dim = self.adapter.text_dim
        vectors = [item.embedding(self.embedding) for item in items]
        known = np.array([len(vector) == dim * _COMPONENT.itemsize for vector in vectors], bool)
        read = b"".join(vector for vector, is_known in zip(vectors, known, strict=True) if is_known)
        return known, np.frombuffer(read, _COMPONENT).astype(np.float32).reshape(-1, dim)

    def gates(self, placed: Vector, history: Vector) -> Vector:
        """See `AdaptedSpace`: whether the item is known, and how near successive items of the history are."""
        values = np.zeros((len(placed), 2), np.float32)
        values[:, 0] = placed.any(axis=1)
        if len(history) > 1:
            values[:, 1] = (history[1:] * history[:-1]).sum(axis=1).mean()
        return values


@cache
def embedding_space(name: str) -> type[EmbeddingSpace]:
    """Return the class of the space of the vectors of this name.

    >>> embedding_space("image").file, embedding_space("image").columns[0]
    ('space-image.safetensors', 'space_image_score')
    """
    return type(
        f"EmbeddingSpace_{name}",
        (EmbeddingSpace,),
        {
            "embedding": name,
            "file": f"{_PREFIX}{name}{_SUFFIX}",
            "name": f"nearest-{name}",
            "columns": tuple(f"space_{name}_{column}" for column in COLUMNS),
        },
    )


def spaces_of(columns: Sequence[str]) -> list[str]:
    """Return the names of the spaces that have features among these.

    >>> spaces_of(["age", "nearest_image_place", "space_image_score", "space_image_known"])
    ['image']
    """
    ending = f"_{OF_ITEM[-1]}"
    return [
        name[len("space_") : -len(ending)] for name in columns if name.startswith("space_") and name.endswith(ending)
    ]


def of_one_item(columns: Sequence[str]) -> list[list[int]]:
    """Return, for each space that has features among these, the indices of those that read 0 for an unknown item.

    >>> of_one_item(["age", "nearest_image_place", "space_image_score", "space_image_known", "space_image_in_history"])
    [[1, 2, 3]]
    """
    found = []
    for space in spaces_of(columns):
        of_item = {f"nearest_{space}_place", *(f"space_{space}_{column}" for column in OF_ITEM)}
        found.append([index for index, name in enumerate(columns) if name in of_item])
    return found


def name_of(file: str) -> str:
    """Return the name of the vectors whose space has this file.

    >>> name_of("space-image.safetensors")
    'image'
    """
    return file.removeprefix(_PREFIX).removesuffix(_SUFFIX)

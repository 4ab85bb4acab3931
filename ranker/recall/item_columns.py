"""Items in columns: what the features read of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from encoders.interest import Vector
from ranker.recall.nearest_items import Rows

NO_NUMBER = -1


class ItemColumns(NamedTuple):
    """Items in columns, one entry each: what the features read. The fields are those of `Catalogue`.

    Attributes
    ----------
    vectors : (n, dim) float32
        The vectors of the texts.
    nodes : (n,) intp
        In the knowledge graph; -1 for an item that it does not know.
    """

    keys: npt.NDArray[np.uint64]
    vectors: Vector
    time_ms: npt.NDArray[np.int64]
    log_price: Vector
    category: npt.NDArray[np.int32]
    brand: npt.NDArray[np.int32]
    nodes: npt.NDArray[np.intp]

    def followed_by(self, others: ItemColumns, order: Rows) -> ItemColumns:
        """Return these items and the others, together in this order."""
        return ItemColumns(*(np.concatenate([ours, theirs])[order] for ours, theirs in zip(self, others, strict=True)))

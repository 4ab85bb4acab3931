"""The items that a list may have: all that are available, or those of one domain. Knows no user."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from encoders.interest import Vector
from ranker.recall.catalogue import Catalogue
from ranker.recall.nearest_items import Rows


class Shelf(NamedTuple):
    """What sources look through.

    Attributes
    ----------
    catalogue : Catalogue
    domain : str
        Empty: all items.
    """

    catalogue: Catalogue
    domain: str = ""

    def has(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """Return which of these rows may be recommended, (n,) bool."""
        available = self.catalogue.available[rows]
        return available & self.catalogue.domains.of(self.domain, rows) if self.domain else available

    def all(self) -> npt.NDArray[np.bool_]:
        """Return which of all rows may be recommended, (rows,) bool."""
        available = self.catalogue.available
        return self.has(np.arange(len(available))) if self.domain else available

    def recommendable(self, keys: Sequence[int]) -> tuple[Rows, Rows]:
        """Return those of these items that may be recommended: their indices among the keys, and their rows."""
        indices, rows = self.catalogue.recommendable(keys)
        if not self.domain:
            return indices, rows
        wanted = self.catalogue.domains.of(self.domain, rows)
        return indices[wanted], rows[wanted]

    def nearest(self, queries: Vector, count: int) -> Rows:
        """Return the rows that may be recommended whose texts are nearest to any of the queries, best first."""
        if self.domain:
            return self.catalogue.domains.nearest(self.domain, queries, count)
        return self.catalogue.text.nearest(queries, count)[0]

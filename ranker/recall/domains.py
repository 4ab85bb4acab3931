"""Several catalogues in one: which items are of which domain, and the search for the texts of one domain alone.

A user has one state for all of them, so an interest carries over by its text. Knows no item beyond its domain.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

import numpy as np
import numpy.typing as npt

from encoders.interest import Vector
from ranker.recall.nearest_items import NearestItems, Rows

NO_DOMAIN = -1


class Domains:
    """The declared domains, and the items of each.

    Parameters
    ----------
    names : collection of str
        The domains that lists may be of. Items of others are of none.
    dim : int
        Length of a text vector.
    rows : callable
        Returns the rows of keys; -1 for a key that must not be found.
    vectors : callable
        Returns the text vectors of rows.
    """

    def __init__(
        self,
        names: Collection[str],
        dim: int,
        rows: Callable[[Iterable[int]], Rows],
        vectors: Callable[[Rows], Vector],
    ) -> None:
        self._number = {name: number for number, name in enumerate(names)}
        self._texts = [NearestItems(dim, rows, vectors) for _ in names]
        self._of_row = np.zeros(0, np.int16)

    def put(self, row: int, key: int, domain: str, vector: Vector, available: bool, changed: bool) -> None:
        """Note the domain of the item in a row.

        Parameters
        ----------
        row, key : int
        domain : str
        vector : (dim,) float32
        available : bool
            Whether the item may be found.
        changed : bool
            Whether its vector is another than before, or was not to be found.
        """
        if not self._texts:
            return
        if row >= len(self._of_row):
            added = np.full(max(256, row + 1), NO_DOMAIN, np.int16)
            self._of_row = np.concatenate([self._of_row, added])
        before, now = int(self._of_row[row]), self._number.get(domain, NO_DOMAIN)
        self._of_row[row] = now
        if before not in (now, NO_DOMAIN):
            self._texts[before].remove(key)
        if now == NO_DOMAIN:
            return
        if not available:
            self._texts[now].remove(key)
        elif changed or before != now:
            self._texts[now].put(key, vector)

    def delete(self, row: int, key: int) -> None:
        """Remove the item in a row."""
        if row < len(self._of_row) and (domain := int(self._of_row[row])) != NO_DOMAIN:
            self._texts[domain].remove(key)
            self._of_row[row] = NO_DOMAIN

    def of(self, domain: str, rows: Rows) -> npt.NDArray[np.bool_]:
        """Return which of these rows are of a domain, (n,) bool."""
        number = self._number.get(domain, NO_DOMAIN)
        if number == NO_DOMAIN or not len(self._of_row):
            return np.zeros(len(rows), bool)
        return np.asarray(self._of_row[rows] == number)

    def nearest(self, domain: str, queries: Vector, count: int) -> Rows:
        """Return the rows of a domain whose texts are nearest to any of the queries, best first: see `Space`."""
        number = self._number.get(domain, NO_DOMAIN)
        return np.empty(0, np.intp) if number == NO_DOMAIN else self._texts[number].search(queries, count)[0]

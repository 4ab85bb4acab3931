"""What recall finds of the items that users chose next: by the merge, by each source, and by one source alone.

Knows no source and no catalogue.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import numpy as np

from ranker.recall.candidates import MergedProposals
from ranker.recall.merge import first
from ranker.recall.nearest_items import Rows, top

DEPTHS = (100, 500)
"""Numbers of candidates at which recall is measured."""
MERGED = "merged"
"""The name of the merge among those of the sources."""


class SourceRecall(NamedTuple):
    """Mean shares, over the cases, of the relevant items.

    Attributes
    ----------
    found : float
        Among the best candidates.
    added : float, optional
        Among the best candidates of this source and of no other; None for the merge.
    """

    found: float
    added: float | None


class RecallTally:
    """Sums over the cases, by depth and source."""

    def __init__(self) -> None:
        self._cases: dict[int, int] = dict.fromkeys(DEPTHS, 0)
        self._found: defaultdict[tuple[int, str], float] = defaultdict(float)
        self._added: defaultdict[tuple[int, str], float] = defaultdict(float)
        self._sources: list[str] = []

    def note(self, depth: int, proposals: MergedProposals, relevant: Rows, relevant_count: int) -> None:
        """Count one case.

        Parameters
        ----------
        depth : int
            One of `DEPTHS`.
        proposals : MergedProposals
            What the sources propose for a recall of `depth` candidates.
        relevant : (n,) intp
            The rows of the relevant items that the catalogue has.
        relevant_count : int
            How many items are relevant; at least 1.
        """
        self._sources = [*proposals.sources]
        self._cases[depth] += 1
        merged = np.isin(relevant, proposals.rows[top(proposals.scores, depth)])
        self._found[depth, MERGED] += merged.sum() / relevant_count
        by_source = [
            np.isin(relevant, proposals.rows[first(proposals.ranks[:, number], depth)])
            for number in range(len(self._sources))
        ]
        sources_with_it = np.sum(by_source, axis=0)
        for name, found in zip(self._sources, by_source, strict=True):
            self._found[depth, name] += found.sum() / relevant_count
            self._added[depth, name] += (found & (sources_with_it == 1)).sum() / relevant_count

    def figures(self) -> dict[str, dict[int, SourceRecall]]:
        """The shares by source, the merge first, and by depth; nothing without a case."""
        return {
            name: {
                depth: SourceRecall(
                    self._found[depth, name] / cases, None if name == MERGED else self._added[depth, name] / cases
                )
                for depth, cases in self._cases.items()
            }
            for name in ([MERGED, *self._sources] if all(self._cases.values()) else [])
        }

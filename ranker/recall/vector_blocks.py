"""Vectors by row, in blocks: one more never copies the others. Knows no item; used by `ranker.recall.catalogue`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from encoders.interest import Vector

BLOCK_ROWS = 65_536
"""Chosen by us: 16 blocks in a million, so a read touches few. Of a block's memory only what is written is real."""


class VectorBlocks:
    """Rows of `dim` float32, zero until they are written.

    Memory that doubled would be copied: half a second, and three times as much at once, for a million of 384.
    """

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self._blocks: list[Vector] = []

    def reach(self, row: int) -> None:
        """Make sure that there is such a row."""
        while row >= len(self._blocks) * BLOCK_ROWS:
            self._blocks.append(np.zeros((BLOCK_ROWS, self.dim), np.float32))

    def row(self, row: int) -> Vector:
        """(dim,) float32, the row itself: what is written to it stays."""
        vector: Vector = self._blocks[row // BLOCK_ROWS][row % BLOCK_ROWS]
        return vector

    def take(self, rows: npt.NDArray[np.intp]) -> Vector:
        """(n, dim) float32, a copy of these rows."""
        blocks, places = np.divmod(rows, BLOCK_ROWS)
        taken = np.empty((len(rows), self.dim), np.float32)
        for block in np.flatnonzero(np.bincount(blocks)).tolist():
            here = blocks == block
            taken[here] = self._blocks[block][places[here]]
        return taken

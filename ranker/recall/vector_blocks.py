"""Vectors by row, in blocks: adding one never copies the others. Knows no item."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from encoders.interest import Vector

BLOCK_ROWS = 65_536
"""Chosen by us: a million rows are 16 blocks, so a read touches few. The system gives memory only to written pages."""


class VectorBlocks:
    """Rows of `dim` float32, zero until they are written.

    One array that doubles would be copied: half a second, and three times the memory, for a million rows of 384.
    """

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self._blocks: list[Vector] = []

    def reach(self, row: int) -> None:
        """Make sure that the row exists."""
        while row >= len(self._blocks) * BLOCK_ROWS:
            self._blocks.append(np.zeros((BLOCK_ROWS, self.dim), np.float32))

    def row(self, row: int) -> Vector:
        """Return the row itself, (dim,) float32: writing to it changes the stored vector."""
        vector: Vector = self._blocks[row // BLOCK_ROWS][row % BLOCK_ROWS]
        return vector

    def take(self, rows: npt.NDArray[np.intp]) -> Vector:
        """Return a copy of these rows, (n, dim) float32."""
        if len(self._blocks) == 1:
            return self._blocks[0].take(rows, axis=0)
        blocks, offsets = np.divmod(rows, BLOCK_ROWS)
        copies = np.empty((len(rows), self.dim), np.float32)
        for block in np.flatnonzero(np.bincount(blocks)).tolist():
            in_block = blocks == block
            copies[in_block] = self._blocks[block][offsets[in_block]]
        return copies

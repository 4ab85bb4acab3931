"""The vectors of a fixed set of items, encoded once for all pipelines that run over them. Knows no pipeline."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from encoders.describe import describe_item
from encoders.text.vector_store import Encoder
from streams.contracts import Item


class ItemVectors:
    """An encoder that knows the texts of some items, and no other text.

    Parameters
    ----------
    encoder : Encoder
    items : iterable of Item

    Attributes
    ----------
    dim : int
        Of the vectors.
    """

    def __init__(self, encoder: Encoder, items: Iterable[Item]) -> None:
        texts = list(dict.fromkeys(map(describe_item, items)))
        self.dim = encoder.dim
        self._vectors = dict(zip(texts, encoder.encode(texts), strict=True))

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return the vectors of items' texts, (n, dim) float32."""
        return np.array([self._vectors[text] for text in texts], np.float32)

    def encode_events(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return the vectors of texts of events that are texts of items, (n, dim) float32."""
        return self.encode(texts)

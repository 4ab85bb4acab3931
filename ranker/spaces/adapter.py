"""The adapter of texts' vectors to one shop, as it is served: from a text to an item, and from a history to a query.

With `x` the vector of an item's text less the mean, and `v(i) = x(i) A` at unit length, a user's score of an item is
`scale v(i) . q` with `q = sum over k of m(k) B(k)`. Here `m(k)` is the mean of `x` over the user's events, newest
first: the event at rank r weighs `exp(-r / decay(k))`, and a purchase as much as several clicks. The texts' vectors
stay as they are, so an item without events has a place as good as any. Knows no fit and no catalogue.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from encoders.interest import Vector
from encoders.models.source import ModelUnsupported

MAX_HISTORY = 50
"""Events of a user that are read, at most: as many as a state remembers."""
_LEAST_LENGTH = 1e-12
"""A vector as short as this has no direction."""


@dataclass(frozen=True, eq=False)
class Adapter:
    """A linear map from texts' vectors to a space in which items are near that are chosen one after the other.

    Attributes
    ----------
    mean : (text dim,) float32
        Of the vectors of the catalogue that it was fitted on.
    items : (text dim, dim) float32
        A.
    queries : (decays, text dim, dim) float32
        B.
    decays : (decays,) float32
        Numbers of events after which the weight of an event has fallen to 1 / e.
    purchase_weight : float
        Of a purchase, in clicks.
    scale : float
        From the product of item and query to a logit.
    """

    mean: Vector
    items: Vector
    queries: Vector
    decays: Vector
    purchase_weight: float
    scale: float

    @property
    def text_dim(self) -> int:
        """Length of a text's vector."""
        return len(self.mean)

    @property
    def dim(self) -> int:
        """Length of an adapted vector."""
        return int(self.items.shape[1])

    def place(self, vectors: Vector) -> Vector:
        """Adapt texts' vectors, (n, text dim) to (n, dim), at unit length; 0 for a vector that is the mean."""
        adapted = (vectors - self.mean) @ self.items
        placed: Vector = adapted / np.maximum(np.linalg.norm(adapted, axis=1, keepdims=True), _LEAST_LENGTH)
        return placed

    def query(self, history: Vector, is_purchase: npt.NDArray[np.bool_]) -> Vector:
        """Return what a user looks for, (dim,) float32; not of unit length.

        Parameters
        ----------
        history : (n, text dim) float32
            Texts' vectors of the items of the user's events, newest first; n >= 1. `MAX_HISTORY` are read.
        is_purchase : (n,) bool
        """
        history = history[:MAX_HISTORY]
        weights = self.event_weights(is_purchase[:MAX_HISTORY])
        means = weights @ history - self.mean
        query: Vector = np.einsum("kt,ktd->d", means, self.queries)
        return query

    def event_weights(self, is_purchase: npt.NDArray[np.bool_]) -> Vector:
        """Return the share of each event in each mean, (decays, n) float32; each row has the sum 1."""
        ranks = np.arange(len(is_purchase), dtype=np.float32)
        weights = np.exp(-ranks / self.decays[:, None]) * np.where(is_purchase, np.float32(self.purchase_weight), 1)
        shares: Vector = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
        return shares

    def save(self, file: Path) -> None:
        """Write the adapter into a file."""
        arrays = {"mean": self.mean, "items": self.items, "queries": self.queries, "decays": self.decays}
        numbers = {"purchase_weight": repr(self.purchase_weight), "scale": repr(self.scale)}
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, file, numbers)


def read(file: Path) -> Adapter:
    """Read what `save` wrote.

    Raises
    ------
    ModelUnsupported
        The file is damaged.
    """
    try:
        with safe_open(file, "numpy") as stored:
            arrays: dict[str, Any] = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            arrays |= {name: float(value) for name, value in (stored.metadata() or {}).items()}
            adapter = Adapter(**arrays)
    except (OSError, SafetensorError, TypeError, ValueError) as error:
        raise ModelUnsupported(
            f"{file}: got no adapter ({error}), expected the file that `afterclick train` wrote"
        ) from error
    if not _is_whole(adapter):
        raise ModelUnsupported(
            f"{file}: got an adapter whose parts do not fit together, expected the file that `afterclick train` wrote"
        )
    return adapter


def _is_whole(adapter: Adapter) -> bool:
    """Whether no vector and no history can lead to a score that is not finite."""
    parts = (adapter.mean, adapter.items, adapter.queries, adapter.decays)
    return bool(
        [part.ndim for part in parts] == [1, 2, 3, 1]
        and adapter.items.shape[0] == len(adapter.mean)
        and adapter.queries.shape == (len(adapter.decays), *adapter.items.shape)
        and all(part.dtype == np.float32 and np.isfinite(part).all() for part in parts)
        and (adapter.decays > 0).all()
        and 0 < adapter.purchase_weight < np.inf
        and 0 < adapter.scale < np.inf
    )

"""A user's newest searches as a state keeps them: the text, its vector, and the first results that were shown.

They are a function of the set of searches, like the rest of the state. Knows no encoder.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from encoders.events.entries import Event

Vector = npt.NDArray[np.float32]
MAX_SEARCHES = 5
"""Of a user, the newest. Chosen by us: a history has ten times as many events."""
MAX_TEXT, MAX_RESULTS = 200, 10
"""Characters of a text and results that a state keeps. With the vector of MiniLM a search takes 0.7 KB at most."""
_SCALE = 127


class Searched(NamedTuple):
    """One search.

    Attributes
    ----------
    time_ms : int
        Event time, milliseconds since the epoch.
    text : str
        The first `MAX_TEXT` characters.
    vector : bytes
        int8: of the text, at unit length.
    results : tuple of int
        Keys of the first `MAX_RESULTS` items that were shown.
    """

    time_ms: int
    text: str
    vector: bytes
    results: tuple[int, ...] = ()


def searches_of(events: Iterable[Event], vectors: Iterable[Vector | None]) -> list[Searched]:
    """Return the searches among events."""
    return [
        Searched(
            event.time_ms,
            event.query.text[:MAX_TEXT],
            np.rint(vector * np.float32(_SCALE)).astype(np.int8).tobytes(),
            event.query.results[:MAX_RESULTS],
        )
        for event, vector in zip(events, vectors, strict=True)
        if event.query is not None and vector is not None
    ]


def newest_searches(*groups: Sequence[Searched]) -> tuple[Searched, ...]:
    """Return the newest of all searches, at most `MAX_SEARCHES`, newest last."""
    return tuple(sorted({search for group in groups for search in group})[-MAX_SEARCHES:])


def vectors_of(searches: Sequence[Searched], dim: int) -> Vector:
    """Return the vectors of searches, (n, dim) float32, at unit length."""
    stored = np.frombuffer(b"".join(search.vector for search in searches), np.int8).reshape(-1, dim)
    vectors = stored.astype(np.float32)
    unit: Vector = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit

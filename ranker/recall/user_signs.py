"""What a user's events of all types, and searches, say about each candidate: features that a head may learn from.

A model's folder has this part if its log had such events and its lists are better with it. What an event weighs is a
setting, and how much it counts is what the head learns; the part itself holds what is chosen in which context. Knows no
transport.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import cos, pi, sin
from pathlib import Path
from typing import Annotated, ClassVar

import msgspec
import numpy as np

from encoders.events.entries import item_key
from encoders.events.searches import vectors_of
from encoders.interest import Vector
from encoders.models.source import ModelUnsupported
from ranker.recall.candidates import Proposals
from ranker.recall.catalogue import Catalogue
from ranker.recall.item_columns import ItemColumns
from ranker.recall.pull import attraction, aversion
from ranker.recall.user_view import KnownHistory, UserView

STRONG = 1.5
"""The weight from which an event says more than a look, in clicks."""
MAX_CONTEXT_KEYS = 3
"""Chosen by us: each is three columns, also of a shop that names none."""
Choices = Mapping[str, Mapping[str, Vector]]
"""By key and value of the context: the mean text vector of what is chosen there, less that of all that is chosen."""

NO_CHOICES: Choices = {}


class _Content(msgspec.Struct):
    context_keys: Annotated[tuple[str, ...], msgspec.Meta(max_length=MAX_CONTEXT_KEYS)]
    choices: dict[str, dict[str, bytes]]


class UserSigns:
    """Items nearest to what the user liked strongly or searched for, and what all signs say about each item.

    Parameters
    ----------
    context_keys : sequence of str
        The keys of the context that are features, at most `MAX_CONTEXT_KEYS`: each value is a point on a circle, which
        its hash gives, and 0 stands for none.
    choices : Choices
        Vectors are (dim,) float32. A value without one matches nothing.
    """

    file = "signs.json"
    name = "strongly-liked"
    columns: ClassVar[tuple[str, ...]] = (
        "search_match",  # how well it matches a search of the session, 0 to 1
        "disliked_match",  # how much it is like what the user disliked, 0 to 1
        "strong_cosine",  # cosine with the nearest item that the user did more with than look at it
        "own_weight",  # signed log2 of 1 + the weight of the user's events about it
        *(f"context_{number}_{what}" for number in range(MAX_CONTEXT_KEYS) for what in ("x", "y", "match")),
    )

    def __init__(self, context_keys: Sequence[str] = (), choices: Choices = NO_CHOICES) -> None:
        self.context_keys, self.choices = tuple(context_keys), choices

    @classmethod
    def read(cls, path: Path) -> UserSigns:
        """See `LearntSource`."""
        try:
            content = msgspec.json.decode(path.read_bytes(), type=_Content)
            choices = {
                key: {value: np.frombuffer(vector, "<f2").astype(np.float32) for value, vector in of_key.items()}
                for key, of_key in content.choices.items()
            }
        except (OSError, msgspec.DecodeError, ValueError) as error:
            raise ModelUnsupported(
                f"{path}: got {error}, expected context_keys and choices; train the model again"
            ) from error
        return cls(content.context_keys, choices)

    def save(self, path: Path) -> None:
        """See `LearntSource`."""
        choices = {
            key: {value: vector.astype("<f2").tobytes() for value, vector in of_key.items()}
            for key, of_key in self.choices.items()
        }
        path.write_bytes(msgspec.json.encode(_Content(self.context_keys, choices)))

    def enter(self, catalogue: Catalogue) -> Iterator[None]:
        """See `LearntSource`: nothing is kept of items, whose texts need the encoder of the training.

        Raises
        ------
        ModelUnsupported
        """
        dims = {len(vector) for of_key in self.choices.values() for vector in of_key.values()}
        if dims - {catalogue.dim}:
            raise ModelUnsupported(
                f"{self.file}: got what is chosen in a context with {max(dims)} numbers, expected {catalogue.dim}; "
                "set the encoder that the model was trained with, or train the model again"
            )
        return iter(())

    def find(self, user: UserView, limit: int) -> Proposals:
        """See `Source`: of a user who only looked at items, all count."""
        strong, searches = _strong(user), user.recent_searches
        if not len(strong.rows) and not searches:
            strong = user.known_history
        first = np.unique(strong.rows, return_index=True)[1]
        queries = np.concatenate([strong.vectors[first], vectors_of(searches, user.catalogue.dim)])
        return Proposals(user.catalogue.text.nearest(queries, limit)[0] if len(queries) else np.empty(0, np.intp))

    def features(self, user: UserView, items: ItemColumns) -> Vector:
        """Return `columns` of each item, (n, len(columns)) float32; see `LearntSource`."""
        values = np.zeros((len(items.keys), len(self.columns)), np.float32)
        values[:, 0], values[:, 1] = attraction(user, items), aversion(user, items)
        strong = _strong(user).vectors
        if len(strong):
            values[:, 2] = (items.vectors @ strong.T).max(axis=1)
        history = user.state.history
        own = (items.keys[:, None] == history["item"]) @ user.decay.entry_weights(history)
        values[:, 3] = np.sign(own) * np.log2(1 + np.abs(own))
        for number, key in enumerate(self.context_keys):
            if (value := user.context.get(key)) is not None:
                first = 4 + 3 * number
                values[:, first : first + 2] = _point(value)
                if (chosen := self.choices.get(key, {}).get(value)) is not None:
                    values[:, first + 2] = items.vectors @ chosen
        return values


def _strong(user: UserView) -> KnownHistory:
    """The events of the known history that say more than a look."""
    events, rows, vectors = user.known_history
    strong = user.decay.entry_weights(events) >= STRONG
    return KnownHistory(events[strong], rows[strong], vectors[strong])


def _point(value: str) -> tuple[float, float]:
    """The point of a value of the context, on a circle."""
    angle = 2 * pi * item_key(value) / 2**64
    return cos(angle), sin(angle)

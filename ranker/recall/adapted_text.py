"""The space of the texts' vectors, adapted to the shop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from encoders.events.types import PURCHASE
from encoders.interest import Vector
from encoders.models.source import ModelUnsupported
from ranker.recall.adapted_space import AdaptedSpace, SpaceHistory
from ranker.recall.catalogue import Catalogue
from ranker.recall.space import Placed
from ranker.recall.user_view import UserView


class AdaptedText(AdaptedSpace):
    """See `AdaptedSpace`. Every item has a text."""

    file = "adapted-text.safetensors"
    name = "adapted-text"
    columns: ClassVar[tuple[str, ...]] = (
        "adapted_text_score",  # logit: scale times the product of item and query
        "adapted_text_newest",  # cosine with the newest item of the history
        "adapted_text_nearest",  # with the nearest item of the history
    )

    def check(self, catalogue: Catalogue) -> None:
        """See `AdaptedSpace`: the texts' vectors must be of this length, so of the same encoder."""
        if catalogue.dim != self.adapter.text_dim:
            raise ModelUnsupported(
                f"{self.file}: got an adapter of text vectors with {self.adapter.text_dim} numbers, expected "
                f"{catalogue.dim}, as AFTERCLICK_ENCODER__MODEL makes; train the model again with this encoder"
            )

    def place(self, items: Sequence[Placed], vectors: Vector) -> Vector:
        """See `Placing`."""
        return self.adapter.place(vectors)

    def history(self, user: UserView) -> SpaceHistory:
        """See `AdaptedSpace`."""
        events, rows, vectors = user.known_history
        return SpaceHistory(rows, vectors, events["type"] == PURCHASE)

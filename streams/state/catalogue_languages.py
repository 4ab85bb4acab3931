"""Whether the encoder reads the languages of the catalogue: looks at a sample of it, and says once if it does not.

To a model that knows no letter of a script all titles in that script are alike: their vectors are nearly the same, so
nothing that is built on them tells one item from another. Nobody would see why. Knows no Kafka.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from encoders.interest import Vector
from encoders.models.files import MULTILINGUAL
from ranker.recall.catalogue import Catalogue
from streams.models.process import TokenCount
from streams.settings import PREFIX
from streams.state import catalogue_metrics

MAX_UNKNOWN = 0.05
"""Share of the tokens of the catalogue."""
SAME, MAX_SAME = 0.999, 0.01
"""Cosine of two items from which the first head sees no difference, and the share of the pairs of items."""
SAMPLE, MIN_ITEMS = 200, 50
"""Items that are looked at (19,900 pairs), and fewer than which say nothing of a catalogue."""
EVERY_S = 5.0

logger = logging.getLogger(__name__)


class TokenCounter(Protocol):
    """Counts the tokens that an encoder makes of texts.

    Attributes
    ----------
    name : str
        The encoder's model.
    """

    name: str

    def count_tokens(self, texts: Sequence[str]) -> TokenCount: ...


@dataclass(frozen=True)
class Readability:
    """How well an encoder reads a sample of items.

    Attributes
    ----------
    unknown : float
        Share of their tokens that its vocabulary does not have.
    same : float
        Share of their pairs, of different texts, whose vectors have a cosine above `SAME`.
    """

    unknown: float
    same: float

    @property
    def advice(self) -> str:
        """What to do; '' if the encoder reads the items."""
        if self.unknown <= MAX_UNKNOWN and self.same <= MAX_SAME:
            return ""
        return (
            "items in a language that it was not made for look alike to it, and events alone tell them apart; choose a "
            f"model for your languages ({PREFIX}ENCODER__MODEL), such as {MULTILINGUAL}"
        )

    def __str__(self) -> str:
        return (
            f"does not know {self.unknown:.1%} of the tokens of the catalogue, and gives {self.same:.1%} of the pairs "
            "of its items nearly the same vector"
        )


def readability(tokens: TokenCount, vectors: Vector) -> Readability:
    """Return how well an encoder reads items.

    Parameters
    ----------
    tokens : TokenCount
        Of their texts.
    vectors : (n, dim) float32
        Of their texts, which are different from each other; unit length.
    """
    cosines = (vectors @ vectors.T)[np.triu_indices(len(vectors), 1)]
    same = float((cosines > SAME).mean()) if len(cosines) else 0.0
    return Readability(tokens.unknown / max(1, tokens.tokens), same)


class CatalogueLanguages:
    """Looks at the catalogue when it has `MIN_ITEMS` items, and again whenever it has twice as many.

    Parameters
    ----------
    catalogue : Catalogue
    encoder : TokenCounter
        The encoder of its vectors.
    """

    def __init__(self, catalogue: Catalogue, encoder: TokenCounter) -> None:
        self._catalogue = catalogue
        self._encoder = encoder
        self._next_items = MIN_ITEMS
        self._warned = False

    async def follow(self) -> None:
        """Look at the catalogue as it grows."""
        while True:
            if len(self._catalogue) >= self._next_items:
                with suppress(BrokenProcessPool):  # the next time
                    await self.look()
            await asyncio.sleep(EVERY_S)

    async def look(self) -> None:
        """Look at a sample, set the metrics, and log what is wrong, once."""
        items = len(self._catalogue)
        texts, vectors = self._sample()
        tokens = await asyncio.to_thread(self._encoder.count_tokens, texts)
        found = readability(tokens, vectors)
        self._next_items = 2 * items
        catalogue_metrics.unknown_tokens.set(found.unknown)
        catalogue_metrics.same_vectors.set(found.same)
        if found.advice and not self._warned:
            self._warned = True
            logger.warning("%s %s: %s", self._encoder.name, found, found.advice)

    def _sample(self) -> tuple[list[str], Vector]:
        """Up to `SAMPLE` different texts of items, drawn at random, and their vectors."""
        keys = self._catalogue.keys
        drawn = np.random.default_rng(1).permutation(len(keys))
        vectors: dict[str, Vector] = {}
        for key in keys[drawn].tolist():
            item, vector = self._catalogue.get(key), self._catalogue.vector(key)
            if item is not None and vector is not None:
                vectors[item.text] = vector
            if len(vectors) == SAMPLE:
                break
        return list(vectors), np.stack([*vectors.values()])

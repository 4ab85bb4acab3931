"""An encoder and a scorer that work in the child process, as their callers in the worker see them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from encoders.interest import Vector
from encoders.models.source import ModelUnsupported
from encoders.models.usage import Usage
from ranker.score import LearningTotals, ListFeedback, ScoreRequest
from streams.models import process as model_process
from streams.models.process import Encoded, EncoderFacts, Scored, ScorerFacts, TokenCount
from streams.models.vocabulary import Vocabulary, count_tokens

if TYPE_CHECKING:
    from streams.models.client import Models

AT_ONCE = 32
"""Items' texts in one call: a list waits for no more of them while a catalogue is uploaded. Chosen by us: a tenth of a
second of MiniLM on two cores."""


class ChildEncoder:
    """An `ItemEncoder` in the child process.

    Attributes
    ----------
    identity : str
        What its vectors depend on.
    """

    def __init__(self, models: Models, name: str, facts: EncoderFacts) -> None:
        self.name = name
        self.dim = facts.dim
        self.placement = facts.placement
        self.identity = facts.identity
        self._models = models

    def encode(self, texts: Sequence[str]) -> Vector:
        """Return the vectors of texts, (n, dim) float32.

        A call that fails is repeated once: an item must not be missing because another call broke the process.

        Raises
        ------
        ModelUnsupported
            The process was restarted and found another model, whose vectors are in another space.
        """
        return self._encoded(texts, are_events=False)

    def encode_events(self, texts: Sequence[str]) -> Vector:
        """Return the vectors of what users say or do, as `encode`."""
        return self._encoded(texts, are_events=True)

    def _encoded(self, texts: Sequence[str], are_events: bool) -> Vector:
        parts = [self._encode(texts[begin : begin + AT_ONCE], are_events) for begin in range(0, len(texts), AT_ONCE)]
        return np.concatenate([np.empty((0, self.dim), np.float32), *parts])

    def _encode(self, texts: Sequence[str], are_events: bool) -> Vector:
        try:
            encoded: Encoded = self._models.call(model_process.encode, list(texts), are_events)
        except BrokenProcessPool:
            encoded = self._models.call(model_process.encode, list(texts), are_events)
        if encoded.identity != self.identity:
            raise ModelUnsupported(
                f"encoder: got another model than at the start for {self.name!r}, expected the same as long as the "
                "worker runs; restart it, and it encodes all items again"
            )
        count_tokens("encoder", *encoded.read)
        return encoded.vectors

    def count_tokens(self, texts: Sequence[str]) -> TokenCount:
        """Return how many tokens some texts have, and how many of them the encoder's vocabulary does not know."""
        counted: TokenCount = self._models.call(model_process.count_tokens, list(texts))
        return counted


class ChildScorer:
    """A `Scorer` in the child process."""

    def __init__(self, models: Models, facts: ScorerFacts) -> None:
        self.name = facts.name
        self.placement = facts.placement
        self.usage = Usage()
        self.feature_set = facts.feature_set
        self.reads_events = facts.reads_events
        self.learning = LearningTotals() if facts.learns else None
        self._vocabulary = Vocabulary(facts.name)
        self._models = models
        self._draws: dict[str, NDArray[np.float32] | None] = {}  # by list id, until they are taken

    def prepare(self, texts: Sequence[str], events: Sequence[str] = ()) -> None:
        """See `Scorer.prepare`."""
        for begin in range(0, max(len(texts), len(events)), AT_ONCE):
            part = slice(begin, begin + AT_ONCE)
            self._vocabulary.note(*self._models.call(model_process.prepare, list(texts[part]), list(events[part])))

    def score(self, requests: Sequence[ScoreRequest]) -> list[NDArray[np.float32]]:
        """See `Scorer.score`."""
        scored: Scored = self._models.call(model_process.score, list(requests))
        self.usage = scored.usage
        self._vocabulary.note(*scored.read)
        self._draws.update(scored.draws)
        return scored.scores

    def take_draws(self, list_ids: Sequence[str]) -> list[NDArray[np.float32] | None]:
        """See `Explorer.take_draws`."""
        return [self._draws.pop(list_id, None) for list_id in list_ids]

    def learn(self, feedback: Sequence[ListFeedback]) -> None:
        """See `Learner.learn`. If the process dies, what it has learnt is lost."""
        if self.learning is not None:
            with suppress(BrokenProcessPool):
                self.learning = self._models.call(model_process.learn, list(feedback)) or self.learning

    def forget(self, users: Collection[str] | None) -> None:
        """See `Scorer.forget`. If the process dies, it has forgotten everything anyway."""
        with suppress(BrokenProcessPool):
            self._models.call(model_process.forget, None if users is None else list(users))

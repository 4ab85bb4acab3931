"""What a model processed and what it cost: counters that the text encoder and every scorer add to.

Knows no model and no metrics library.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal


@dataclass
class Usage:
    """Running totals since the model was loaded.

    Attributes
    ----------
    requests, candidates : int
        Score requests, and the candidates in them.
    context_tokens, candidate_tokens : int
        Tokens that went through the model, template and special tokens included. A cross-encoder counts a context
        once for each of its candidates; a cached embedding counts nothing.
    context_tokens_reused : int
        Context tokens that were not computed again because their results were cached.
    context_hits, context_misses : int
        Contexts of which some tokens, or none, were cached.
    context_bytes : int
        Current memory of cached contexts; the only field that can fall.
    vector_hits, vector_misses : int
        Texts of events and candidates in score requests whose vector was cached, or had to be computed first. Only a
        scorer that caches vectors by text counts them.
    vectors_read, vectors_computed : int
        Texts whose vector was not cached: it was read from disk, or computed; 0 where none are on disk.
    padding_tokens : int
        Tokens computed only because the rows of a batch differ in length.
    text_tokens, unknown_tokens : int
        Tokens of all texts before they were cut, and how many of them the vocabulary does not know. To a model, texts
        in an unknown script all look alike.
    truncated_contexts, truncated_context_tokens : int
        Contexts that were too long, and the tokens cut from them.
    truncated_candidates : int
        Item texts that were too long and lost their end. A vector that is cached counts when it is computed.
    tokenise_seconds, inference_seconds : float
        Time by a monotonic clock.
    """

    requests: int = 0
    candidates: int = 0
    context_tokens: int = 0
    context_tokens_reused: int = 0
    context_hits: int = 0
    context_misses: int = 0
    context_bytes: int = 0
    vector_hits: int = 0
    vector_misses: int = 0
    vectors_read: int = 0
    vectors_computed: int = 0
    candidate_tokens: int = 0
    padding_tokens: int = 0
    text_tokens: int = 0
    unknown_tokens: int = 0
    truncated_contexts: int = 0
    truncated_context_tokens: int = 0
    truncated_candidates: int = 0
    tokenise_seconds: float = 0.0
    inference_seconds: float = 0.0

    def clear(self) -> None:
        """Set all counters to 0, as after the checks at load."""
        vars(self).update(vars(Usage()))

    @contextmanager
    def timing(self, counter: Literal["tokenise_seconds", "inference_seconds"]) -> Iterator[None]:
        """Add the time that the block takes to `counter`."""
        start = time.monotonic()
        try:
            yield
        finally:
            setattr(self, counter, getattr(self, counter) + time.monotonic() - start)

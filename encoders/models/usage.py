"""What a model was given and what it cost: counters that `TextEncoder` and every scorer add to.

Knows no model and no metrics library; the rank tier reads the fields and publishes the differences.
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
        Score requests answered, and the candidates in them.
    context_tokens, candidate_tokens : int
        Tokens that went through the model, template and special tokens included: a cross-encoder counts a
        context once for each of its candidates, an embedding that was still known counts nothing.
    context_tokens_reused : int
        Tokens of contexts that were not computed again, because what the model made of them was kept.
    context_hits, context_misses : int
        Contexts of which some tokens, or none, were still kept.
    context_bytes : int
        Memory that kept contexts take now; the one field that falls too.
    padding_tokens : int
        Tokens computed only because the rows of a batch differ in length.
    text_tokens, unknown_tokens : int
        Tokens that texts became before they were cut, and those of them that stand for what the vocabulary does not
        know: texts in another script than the model's look all alike to it.
    truncated_contexts, truncated_context_tokens : int
        Contexts that were too long, and the tokens cut from them. Where events are embedded one by one, an event
        that is too long counts when it is embedded, not when its vector is used again.
    truncated_candidates : int
        Item texts that were too long; their beginning was kept.
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
        """Begin anew: what was asked until now was nobody's request."""
        vars(self).update(vars(Usage()))

    @contextmanager
    def timing(self, counter: Literal["tokenise_seconds", "inference_seconds"]) -> Iterator[None]:
        """Add the time that the block takes to `counter`."""
        start = time.monotonic()
        try:
            yield
        finally:
            setattr(self, counter, getattr(self, counter) + time.monotonic() - start)

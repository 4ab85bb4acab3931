"""The functions of the child process that holds the models: it loads models, and answers calls one after the other.

The first argument of every call says which models it needs. The process loads those that it does not hold yet.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from encoders.interest import Vector
from encoders.models.device import Placement
from encoders.models.source import ModelUnsupported
from encoders.models.usage import Usage
from encoders.text.vector_store import identity
from ranker import version
from ranker.load import load_scorer
from ranker.score import Learner, LearningTotals, ListFeedback, Scorer, ScoreRequest
from streams.settings import EncoderSettings, RankerSettings

LOAD_TRIES = 3

Arguments = TypeVar("Arguments")
Result = TypeVar("Result")


class ItemEncoder(Protocol):
    """Encodes item texts: a `TextEncoder`, or a bi-encoder that keeps the vectors for scoring."""

    dim: int
    placement: Placement
    usage: Usage

    def encode(self, texts: Sequence[str]) -> Vector: ...


ModelChoice: TypeAlias = "tuple[EncoderSettings | None, RankerSettings | None]"
"""The settings of the encoder and of the ranker; None for a model that is not needed."""


class EncoderFacts(NamedTuple):
    """What a worker needs to know of the items' encoder.

    Attributes
    ----------
    dim : int
        The length of a vector.
    placement : Placement
        The device and dtype of the model.
    identity : str
        What the vectors depend on; see `encoders.text.vector_store`.
    """

    dim: int
    placement: Placement
    identity: str


class ScorerFacts(NamedTuple):
    """What a worker needs to know of the scorer.

    Attributes
    ----------
    name : str
        The model, with the version of its folder that was loaded.
    placement : Placement
        The device and dtype of the model.
    needs_features : bool
        Whether requests need candidates' features.
    learns : bool
        Whether the scorer learns from feedback.
    """

    name: str
    placement: Placement
    needs_features: bool
    learns: bool


@dataclass(frozen=True)
class Loaded:
    """The models of a process and their facts; None for a model that is not needed."""

    items: ItemEncoder | None
    scorer: Scorer | None
    encoder_facts: EncoderFacts | None
    scorer_facts: ScorerFacts | None


class TokenCount(NamedTuple):
    """How many tokens some texts have, and how many of them the vocabulary does not know."""

    tokens: int
    unknown: int


class Encoded(NamedTuple):
    """Vectors of texts, (n, dim) float32, the identity of their encoder, and the tokens that were read."""

    vectors: Vector
    identity: str
    read: TokenCount


class Scored(NamedTuple):
    """Scores of requests, the scorer's usage so far, and the tokens that were read."""

    scores: list[NDArray[np.float32]]
    usage: Usage
    read: TokenCount


_loaded: dict[ModelChoice, Loaded] = {}


def start() -> None:
    """Initialise the process: it ends with its parent, however that ends, ignores signals, and has one BLAS thread."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    threadpool_limits(1, "blas")


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(0)


def _models(choice: ModelChoice) -> Loaded:
    """Return the models; the first call loads them."""
    if choice not in _loaded:
        _loaded[choice] = _load_unchanged(choice)
    return _loaded[choice]


def drop_scorer(choice: ModelChoice, ranker: RankerSettings) -> None:
    """Free the scorer with these settings; `choice` is what stays."""
    encoder, _ = choice
    both = _loaded.pop((encoder, ranker), None)
    if both is not None:
        _loaded[choice] = replace(both, scorer=None, scorer_facts=None)
    gc.collect()


def _load_unchanged(choice: ModelChoice) -> Loaded:
    """Load models whose files do not change meanwhile. Otherwise the name could belong to other weights."""
    for _ in range(LOAD_TRIES):
        before = _fingerprints(choice)
        items, scorer = _load(choice)
        encoder, _ranker = choice
        encoder_facts = scorer_facts = None
        if items and encoder:
            encoder_facts = EncoderFacts(items.dim, items.placement, identity(encoder.model, items.placement.dtype))
        if scorer:
            name = version.version(scorer.name)
            learns = _learning_totals(scorer) is not None
            scorer_facts = ScorerFacts(name, scorer.placement, scorer.needs_features, learns)
        if _fingerprints(choice) == before:
            return Loaded(items, scorer, encoder_facts, scorer_facts)
    names = ", ".join(model.model for model in choice if model)
    raise ModelUnsupported(
        f"model: got files of {names} that changed each of {LOAD_TRIES} times while they were loaded, expected "
        "complete ones; write a model elsewhere, and rename its folder into place"
    )


def _fingerprints(choice: ModelChoice) -> list[object]:
    encoder, ranker = choice
    return [version.fingerprint(ranker.model) if ranker else (), identity(encoder.model, "") if encoder else ""]


def _load(choice: ModelChoice) -> tuple[ItemEncoder | None, Scorer | None]:
    """Load the models. Where both are the same model, it is loaded once and reads each text once."""
    from encoders.text.encoder import TextEncoder
    from ranker.fusion.fused import FusedScorer
    from ranker.scorers.bi_encoder import BiEncoder

    encoder, ranker = choice
    scorer = None
    if ranker:
        cache_bytes = None if ranker.cache_mb is None else ranker.cache_mb * 2**20
        scorer = load_scorer(ranker.model, ranker.device, ranker.dtype, cache_bytes)
    items: ItemEncoder | None = None
    if ranker and ranker.learn and isinstance(scorer, FusedScorer):
        scorer.start_learning()
    reader = scorer.base if isinstance(scorer, FusedScorer) else scorer
    if encoder and ranker and isinstance(reader, BiEncoder):
        same = (encoder.model, encoder.device, encoder.dtype) == (reader.name, ranker.device, ranker.dtype)
        items = reader if same else None
    if encoder and items is None:
        items = TextEncoder(encoder.model, encoder.device, encoder.dtype)
    gc.collect()
    gc.freeze()  # they stay in memory: a full garbage collection of them would hold lists up
    return items, scorer


def facts(choice: ModelChoice) -> tuple[EncoderFacts | None, ScorerFacts | None]:
    """Load the models, and return their facts."""
    loaded = _models(choice)
    return loaded.encoder_facts, loaded.scorer_facts


def encode(choice: ModelChoice, texts: list[str]) -> Encoded:
    """Encode item texts."""
    loaded = _models(choice)
    if loaded.items is None or loaded.encoder_facts is None:
        raise TypeError("this process has no encoder")
    vectors, read = _count_tokens(loaded.items.usage, loaded.items.encode, texts)
    return Encoded(vectors, loaded.encoder_facts.identity, read)


def prepare(choice: ModelChoice, texts: list[str]) -> TokenCount:
    """See `Scorer.prepare`."""
    scorer = _scorer(choice)
    _, read = _count_tokens(scorer.usage, scorer.prepare, texts)
    return read


def score(choice: ModelChoice, requests: list[ScoreRequest]) -> Scored:
    """See `Scorer.score`."""
    scorer = _scorer(choice)
    scores, read = _count_tokens(scorer.usage, scorer.score, requests)
    return Scored(scores, scorer.usage, read)


def learn(choice: ModelChoice, feedback: list[ListFeedback]) -> LearningTotals | None:
    """See `Learner.learn`; return the totals so far, None for a scorer that does not learn."""
    scorer = _scorer(choice)
    if isinstance(scorer, Learner):
        scorer.learn(feedback)
    return _learning_totals(scorer)


def _learning_totals(scorer: Scorer | None) -> LearningTotals | None:
    return scorer.learning if isinstance(scorer, Learner) else None


def forget(choice: ModelChoice, users: list[str] | None) -> None:
    """See `Scorer.forget`."""
    _scorer(choice).forget(users)


def _count_tokens(usage: Usage, work: Callable[[Arguments], Result], arguments: Arguments) -> tuple[Result, TokenCount]:
    tokens, unknown = usage.text_tokens, usage.unknown_tokens
    result = work(arguments)
    return result, TokenCount(usage.text_tokens - tokens, usage.unknown_tokens - unknown)


def _scorer(choice: ModelChoice) -> Scorer:
    scorer = _models(choice).scorer
    if scorer is None:
        raise TypeError("this process has no scorer")
    return scorer

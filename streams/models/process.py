"""The functions of the child process that holds the models: it loads models, and answers calls one after the other.

The first argument of every call says which models it needs. The process loads those that it does not hold yet.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, ParamSpec, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from encoders.interest import Vector
from encoders.models.device import Placement
from encoders.models.source import ModelUnsupported
from encoders.models.usage import Usage
from encoders.text.tokens import PlainTokens
from encoders.text.vector_store import identity
from ranker import version
from ranker.load import load_scorer
from ranker.score import Explorer, FeatureSet, Learner, LearningTotals, ListFeedback, Scorer, ScoreRequest
from streams.models import child
from streams.settings import EncoderSettings, RankerSettings

LOAD_TRIES = 3

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class ItemEncoder(Protocol):
    """Encodes item texts: a `TextEncoder`, or a bi-encoder that keeps the vectors for scoring."""

    dim: int
    placement: Placement
    usage: Usage
    tokens: PlainTokens

    def encode(self, texts: Sequence[str]) -> Vector: ...

    def encode_events(self, texts: Sequence[str]) -> Vector: ...


class ModelChoice(NamedTuple):
    """The models that are needed.

    Attributes
    ----------
    encoder : EncoderSettings or None
    ranker : RankerSettings or None
        None for a model that is not needed.
    vectors : Path or None
        The file where a scorer finds the vectors of items, and stores them; None for none.
    """

    encoder: EncoderSettings | None
    ranker: RankerSettings | None
    vectors: Path | None = None


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
    feature_set : FeatureSet, optional
        The features that requests need; None for none.
    reads_events : bool
        Whether it reads requests' events, and not their contexts.
    learns : bool
        Whether the scorer learns from feedback.
    """

    name: str
    placement: Placement
    feature_set: FeatureSet | None
    reads_events: bool
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
    """Scores of requests, the scorer's usage so far, the tokens that were read, and draws of lists with a seed."""

    scores: list[NDArray[np.float32]]
    usage: Usage
    read: TokenCount
    draws: dict[str, NDArray[np.float32] | None]


_loaded: dict[ModelChoice, Loaded] = {}
_steps: dict[str, float] = {}


def _models(choice: ModelChoice) -> Loaded:
    """Return the models; the first call loads them."""
    if choice not in _loaded:
        _loaded[choice] = _load_unchanged(choice)
    return _loaded[choice]


def drop_scorer(choice: ModelChoice, ranker: RankerSettings) -> None:
    """Free the scorer with these settings; `choice` is what stays."""
    both = _loaded.pop(choice._replace(ranker=ranker), None)
    if both is not None:
        _loaded[choice] = replace(both, scorer=None, scorer_facts=None)
    gc.collect()


def _load_unchanged(choice: ModelChoice) -> Loaded:
    """Load models whose files do not change meanwhile. Otherwise the name could belong to other weights."""
    for _ in range(LOAD_TRIES):
        before = _fingerprints(choice)
        items, scorer = _load(choice)
        encoder = choice.encoder
        encoder_facts = scorer_facts = None
        if items and encoder:
            encoder_facts = EncoderFacts(items.dim, items.placement, identity(encoder.model, items.placement.dtype))
        if scorer:
            name = version.version(scorer.name)
            learns = _learning_totals(scorer) is not None
            features, events = scorer.feature_set, scorer.reads_events
            scorer_facts = ScorerFacts(name, scorer.placement, features, events, learns)
        if _fingerprints(choice) == before:
            return Loaded(items, scorer, encoder_facts, scorer_facts)
    names = ", ".join(model.model for model in (choice.encoder, choice.ranker) if model)
    raise ModelUnsupported(
        f"model: got files of {names} that changed each of {LOAD_TRIES} times while they were loaded, expected "
        "complete ones; write a model elsewhere, and rename its folder into place"
    )


def _fingerprints(choice: ModelChoice) -> list[object]:
    encoder, ranker, _ = choice
    return [version.fingerprint(ranker.model) if ranker else (), identity(encoder.model, "") if encoder else ""]


def _load(choice: ModelChoice) -> tuple[ItemEncoder | None, Scorer | None]:
    """Load the models. Where both are the same model, it is loaded once and reads each text once."""
    encoder, ranker, vectors = choice
    if encoder is None and ranker is None:
        return None, None  # without torch
    from encoders.text.encoder import TextEncoder
    from ranker.fusion.fused import FusedScorer
    from ranker.scorers.bi_encoder import BiEncoder

    scorer = None
    if ranker:
        cache_bytes = None if ranker.cache_mb is None else ranker.cache_mb * 2**20
        scorer = load_scorer(ranker.model, ranker.device, ranker.dtype, cache_bytes, require_sane=ranker.require_sane)
        _steps["scorer"] = time.monotonic()
    items: ItemEncoder | None = None
    if ranker and isinstance(scorer, FusedScorer):
        scorer.start(learning=ranker.learn, exploring=ranker.explore > 0)
    reader = scorer.base if isinstance(scorer, FusedScorer) else scorer
    if vectors is not None and isinstance(reader, BiEncoder):
        reader.keep_vectors(vectors)
    if encoder and ranker and isinstance(reader, BiEncoder):
        same = (encoder.model, encoder.device, encoder.dtype) == (reader.name, ranker.device, ranker.dtype)
        items = reader if same else None
    if encoder and items is None:
        items = TextEncoder(encoder.model, encoder.device, encoder.dtype)
    _steps["encoder"] = time.monotonic()
    gc.freeze()  # they stay in memory: a full garbage collection of them would hold lists up
    gc.enable()
    return items, scorer


def facts(choice: ModelChoice) -> tuple[EncoderFacts | None, ScorerFacts | None]:
    """Load the models, and return their facts."""
    loaded = _models(choice)
    return loaded.encoder_facts, loaded.scorer_facts


def steps(_: ModelChoice) -> dict[str, float]:
    """Return when each step of the latest load ended, by the monotonic clock."""
    return {"libraries": child.imported_s, **_steps} if child.imported_s else _steps


def encode(choice: ModelChoice, texts: list[str], are_events: bool = False) -> Encoded:
    """Encode item texts, or what users say or do."""
    loaded = _models(choice)
    if loaded.items is None or loaded.encoder_facts is None:
        raise TypeError("this process has no encoder")
    vectors, read = _with_tokens(
        loaded.items.usage, loaded.items.encode_events if are_events else loaded.items.encode, texts
    )
    return Encoded(vectors, loaded.encoder_facts.identity, read)


def count_tokens(choice: ModelChoice, texts: list[str]) -> TokenCount:
    """Count tokens of texts as the encoder would read them; encodes nothing."""
    loaded = _models(choice)
    if loaded.items is None:
        raise TypeError("this process has no encoder")
    return TokenCount(*loaded.items.tokens.count(texts))


def prepare(choice: ModelChoice, texts: list[str], events: list[str]) -> TokenCount:
    """See `Scorer.prepare`."""
    scorer = _scorer(choice)
    _, read = _with_tokens(scorer.usage, scorer.prepare, texts, events)
    return read


def score(choice: ModelChoice, requests: list[ScoreRequest]) -> Scored:
    """See `Scorer.score`."""
    scorer = _scorer(choice)
    scores, read = _with_tokens(scorer.usage, scorer.score, requests)
    seeded = [request.list_id for request in requests if request.seed is not None]
    draws = scorer.take_draws(seeded) if isinstance(scorer, Explorer) else []
    return Scored(scores, scorer.usage, read, dict(zip(seeded, draws, strict=False)))


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


def _with_tokens(
    usage: Usage, work: Callable[Arguments, Result], *arguments: Arguments.args, **named: Arguments.kwargs
) -> tuple[Result, TokenCount]:
    tokens, unknown = usage.text_tokens, usage.unknown_tokens
    result = work(*arguments, **named)
    return result, TokenCount(usage.text_tokens - tokens, usage.unknown_tokens - unknown)


def _scorer(choice: ModelChoice) -> Scorer:
    scorer = _models(choice).scorer
    if scorer is None:
        raise TypeError("this process has no scorer")
    return scorer

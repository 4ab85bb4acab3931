"""What the models' process does: it loads models, and answers calls one after the other.

Runs in the child that `streams.models.client` starts. Every function that the client calls names the models that it
needs first; the child loads those that are not there.
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
from streams.settings import Encoder, Ranker

LOAD_TRIES = 3

Asked = TypeVar("Asked")
Result = TypeVar("Result")


class ItemEncoder(Protocol):
    """What puts item texts into vectors: a `TextEncoder`, or a bi-encoder that keeps them for scoring."""

    dim: int
    placement: Placement
    usage: Usage

    def encode(self, texts: Sequence[str]) -> Vector: ...


Wanted: TypeAlias = "tuple[Encoder | None, Ranker | None]"
"""Which models, each None where it is not needed."""


class EncoderFacts(NamedTuple):
    """Of the items' encoder; `identity` is what its vectors depend on, see `encoders.text.vector_store`."""

    dim: int
    placement: Placement
    identity: str


class ScorerFacts(NamedTuple):
    """Of the scorer; `name` says which version of its folder was loaded."""

    name: str
    placement: Placement
    needs_features: bool
    learns: bool


@dataclass(frozen=True)
class Loaded:
    """The models of a process, each None where it is not needed, and what is to be known of them."""

    items: ItemEncoder | None
    scorer: Scorer | None
    of_items: EncoderFacts | None
    of_scorer: ScorerFacts | None


class Read(NamedTuple):
    """How many tokens some texts took, and how many of them are unknown."""

    tokens: int
    unknown: int


class Encoded(NamedTuple):
    """Vectors of texts, (n, dim) float32, and what they depend on."""

    vectors: Vector
    identity: str
    read: Read


class Scored(NamedTuple):
    """Scores of requests, and the scorer's usage so far."""

    scores: list[NDArray[np.float32]]
    usage: Usage
    read: Read


_loaded: dict[Wanted, Loaded] = {}


def begin() -> None:
    """First: end with the parent, however it ends, and not before; one BLAS thread, as in the worker."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    threadpool_limits(1, "blas")


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(0)


def _served(wanted: Wanted) -> Loaded:
    """The models, loaded at the first call."""
    if wanted not in _loaded:
        _loaded[wanted] = _load_whole(wanted)
    return _loaded[wanted]


def drop_scorer(wanted: Wanted, ranker: Ranker) -> None:
    encoder, _ = wanted
    both = _loaded.pop((encoder, ranker), None)
    if both is not None:
        _loaded[wanted] = replace(both, scorer=None, of_scorer=None)
    gc.collect()


def _load_whole(wanted: Wanted) -> Loaded:
    """Load what stays as it is meanwhile: else the name would be of one model, and the weights of another."""
    for _ in range(LOAD_TRIES):
        before = _stamps(wanted)
        items, scorer = _load(wanted)
        encoder, _ranker = wanted
        of_items = of_scorer = None
        if items and encoder:
            of_items = EncoderFacts(items.dim, items.placement, identity(encoder.model, items.placement.dtype))
        if scorer:
            named = version.version(scorer.name)
            learns = _lessons(scorer) is not None
            of_scorer = ScorerFacts(named, scorer.placement, scorer.needs_features, learns)
        if _stamps(wanted) == before:
            return Loaded(items, scorer, of_items, of_scorer)
    names = ", ".join(model.model for model in wanted if model)
    raise ModelUnsupported(
        f"model: got files of {names} that changed each of {LOAD_TRIES} times while they were loaded, expected whole "
        "ones; write a model elsewhere, and rename its folder into place"
    )


def _stamps(wanted: Wanted) -> list[object]:
    encoder, ranker = wanted
    return [version.fingerprint(ranker.model) if ranker else (), identity(encoder.model, "") if encoder else ""]


def _load(wanted: Wanted) -> tuple[ItemEncoder | None, Scorer | None]:
    """Where both models are the same one, each text is read once."""
    from encoders.text.encoder import TextEncoder
    from ranker.fusion.fused import FusedScorer
    from ranker.scorers.bi_encoder import BiEncoder

    encoder, ranker = wanted
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
    gc.freeze()  # they stay: walking them in every full collection would hold lists up
    return items, scorer


def facts(wanted: Wanted) -> tuple[EncoderFacts | None, ScorerFacts | None]:
    loaded = _served(wanted)
    return loaded.of_items, loaded.of_scorer


def encode(wanted: Wanted, texts: list[str]) -> Encoded:
    loaded = _served(wanted)
    if loaded.items is None or loaded.of_items is None:
        raise TypeError("this process has no encoder")
    vectors, read = _counted(loaded.items.usage, loaded.items.encode, texts)
    return Encoded(vectors, loaded.of_items.identity, read)


def prepare(wanted: Wanted, texts: list[str]) -> Read:
    scorer = _scorer(wanted)
    _, read = _counted(scorer.usage, scorer.prepare, texts)
    return read


def score(wanted: Wanted, requests: list[ScoreRequest]) -> Scored:
    scorer = _scorer(wanted)
    scores, read = _counted(scorer.usage, scorer.score, requests)
    return Scored(scores, scorer.usage, read)


def learn(wanted: Wanted, feedback: list[ListFeedback]) -> LearningTotals | None:
    scorer = _scorer(wanted)
    if isinstance(scorer, Learner):
        scorer.learn(feedback)
    return _lessons(scorer)


def _lessons(scorer: Scorer | None) -> LearningTotals | None:
    return scorer.learning if isinstance(scorer, Learner) else None


def forget(wanted: Wanted, users: list[str] | None) -> None:
    _scorer(wanted).forget(users)


def _counted(usage: Usage, work: Callable[[Asked], Result], asked: Asked) -> tuple[Result, Read]:
    tokens, unknown = usage.text_tokens, usage.unknown_tokens
    result = work(asked)
    return result, Read(usage.text_tokens - tokens, usage.unknown_tokens - unknown)


def _scorer(wanted: Wanted) -> Scorer:
    scorer = _served(wanted).scorer
    if scorer is None:
        raise TypeError("this process has no scorer")
    return scorer

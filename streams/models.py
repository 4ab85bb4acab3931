"""A worker's models, in a process of their own.

Between two steps of a model Python takes the interpreter's lock, and an event loop at work holds it: in one process a
busy loop slowed the model ninefold. So texts go over and vectors and scores come back; the loop's process has no torch.
A model that takes its process down, or does not come back, is loaded anew.
"""

from __future__ import annotations

import fcntl
import gc
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent import futures
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from encoders.device import Placement
from encoders.interest import Vector
from encoders.model_source import ModelUnsupported
from encoders.usage import Usage
from encoders.vector_store import identity
from ranker import Answer, Learner, Lessons, Scorer, ScoreRequest, load_scorer, version
from streams import metrics
from streams.settings import PREFIX, Encoder, Ranker
from streams.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

PIPE_BYTES = 1 << 20
"""Of requests that wait for the process: two batches of 32 lists; Linux' default is 64 KiB."""
LOAD_TRIES = 3
HUNG_S = 300.0
"""A call that takes longer will not come back: far beyond any batch, and loading after a restart."""


class ItemEncoder(Protocol):
    """What puts item texts into vectors: a `TextEncoder`, or a bi-encoder that keeps them for scoring."""

    dim: int
    placement: Placement
    usage: Usage

    def encode(self, texts: Sequence[str]) -> Vector: ...


Wanted: TypeAlias = "tuple[Encoder | None, Ranker | None]"
"""Which models, each None where it is not needed."""


class EncoderFacts(NamedTuple):
    """Of the items' encoder; `identity` is what its vectors depend on, see `encoders.vector_store`."""

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


class Models:
    """The process, which begins to load at once. What it is asked blocks; it does one thing at a time, whoever asks.

    Attributes
    ----------
    encoder : puts items' texts into vectors; None if not asked for, or before `load`.
    scorer : None if not asked for, if `ranker.model` is `none`, or before `load`.
    loaded : whether the process has them in memory; not after a death, until the next call has loaded them again.
    """

    def __init__(self, encoder: Encoder | None, ranker: Ranker | None) -> None:
        self._lock = threading.Lock()
        self._wanted: Wanted = encoder, ranker if ranker and ranker.model != "none" else None
        self.encoder: RemoteEncoder | None = None
        self.scorer: RemoteScorer | None = None
        self.loaded = False
        self._start()
        self._pool.submit(_facts, self._wanted)

    def load(self) -> None:
        """Wait until they are loaded.

        Raises
        ------
        ModelNotFound, DeviceUnavailable
        ModelUnsupported
            It cannot be run here, or does not give its known answers.
        """
        of_items, of_scorer = self.call(_facts)
        encoder, _ = self._wanted
        if encoder and of_items:
            self.encoder = RemoteEncoder(self, version.name(encoder.model), of_items)
            _log(version.name(encoder.model), of_items.placement)
        if of_scorer:
            self.scorer = RemoteScorer(self, of_scorer)
            _log(of_scorer.name, of_scorer.placement)

    def drop_scorer(self) -> None:
        """Let go of it, and of its memory; the encoder stays."""
        self.scorer = None
        encoder, ranker = self._wanted
        self._wanted = encoder, None
        self.call(_drop_scorer, ranker)

    def call(self, function: Callable[..., Any], *arguments: object) -> Any:
        """Have the process do something with its models.

        Raises
        ------
        BrokenProcessPool
            The process died, or was killed because it was hung; the next call loads the models again.
        """
        pool = self._pool
        try:
            answer = pool.submit(function, self._wanted, *arguments)
        except BrokenProcessPool:  # since the last call
            self._replace(pool, "died")
            pool = self._pool
            answer = pool.submit(function, self._wanted, *arguments)
        try:
            done = answer.result(None if function is _facts else HUNG_S)  # a first load may be a download
            self.loaded = True
            return done
        except BrokenProcessPool:
            self._replace(pool, "died")
            raise
        except futures.TimeoutError:
            if answer.done():
                raise  # the model's own
            self._replace(pool, "is hung")
            raise BrokenProcessPool("the models' process was hung") from None

    def close(self) -> None:
        """End the process: once it has done what it is at, or at once if it is still loading."""
        if not self.loaded:
            self._kill()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _replace(self, pool: ProcessPoolExecutor, what: str) -> None:
        with self._lock:
            if pool is not self._pool:
                return  # another call of that process was told first
            logger.error("the models' process %s; the next call loads them again", what)
            self.loaded = False
            metrics.models_restarted.inc()
            self._kill()
            pool.shutdown(wait=False)
            self._start()

    def _kill(self) -> None:
        with suppress(ProcessLookupError, BrokenProcessPool):
            os.kill(self._pid.result(), signal.SIGKILL)

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would copy threads' locks as they happen to be
        self._pool = ProcessPoolExecutor(1, context, _begin)
        _widen(cast(Any, self._pool)._call_queue._writer.fileno())
        self._pid = self._pool.submit(os.getpid)


class RemoteEncoder:
    """An `ItemEncoder` over there.

    Attributes
    ----------
    identity : what its vectors depend on.
    """

    def __init__(self, models: Models, name: str, facts: EncoderFacts) -> None:
        self.name = name
        self.dim = facts.dim
        self.placement = facts.placement
        self.identity = facts.identity
        self._vocabulary = Vocabulary("encoder", name, f"{PREFIX}ENCODER__MODEL")
        self._models = models

    def encode(self, texts: Sequence[str]) -> Vector:
        """(n, dim) float32. Tried twice: an item must not be missing because something else broke the process.

        Raises
        ------
        ModelUnsupported
            The process began anew, and found another model: its vectors are in another space.
        """
        try:
            encoded: Encoded = self._models.call(_encode, list(texts))
        except BrokenProcessPool:
            encoded = self._models.call(_encode, list(texts))
        if encoded.identity != self.identity:
            raise ModelUnsupported(
                f"encoder: got another model than at the start in the place of {self.name!r}, expected the same as "
                "long as the worker runs; restart it, and it encodes all items again"
            )
        self._vocabulary.note(encoded.tokens, encoded.unknown_tokens)
        return encoded.vectors


class RemoteScorer:
    """A `Scorer` over there."""

    def __init__(self, models: Models, facts: ScorerFacts) -> None:
        self.name = facts.name
        self.placement = facts.placement
        self.usage = Usage()
        self.needs_features = facts.needs_features
        self.lessons = Lessons() if facts.learns else None
        self._vocabulary = Vocabulary("ranker", facts.name, f"{PREFIX}RANKER__MODEL")
        self._models = models

    def prepare(self, texts: Sequence[str]) -> None:
        """See `Scorer.prepare`."""
        self._models.call(_prepare, list(texts))

    def score(self, requests: Sequence[ScoreRequest]) -> list[NDArray[np.float32]]:
        """See `Scorer.score`."""
        scores: list[NDArray[np.float32]]
        before = self.usage
        scores, self.usage = self._models.call(_score, list(requests))
        if self.usage.requests < before.requests:  # its process began anew
            before = Usage()
        self._vocabulary.note(
            self.usage.text_tokens - before.text_tokens, self.usage.unknown_tokens - before.unknown_tokens
        )
        return scores

    def learn(self, answers: Sequence[Answer]) -> None:
        """See `Learner.learn`. A process that dies over it has forgotten what it learnt."""
        if self.lessons is not None:
            with suppress(BrokenProcessPool):
                self.lessons = self._models.call(_learn, list(answers)) or self.lessons

    def forget(self, users: Collection[str] | None) -> None:
        """See `Scorer.forget`. A process that dies instead has forgotten everything."""
        with suppress(BrokenProcessPool):
            self._models.call(_forget, None if users is None else list(users))


class Encoded(NamedTuple):
    """Vectors of texts, (n, dim) float32, the tokens that the texts took, and what the vectors depend on."""

    vectors: Vector
    tokens: int
    unknown_tokens: int
    identity: str


_loaded: dict[Wanted, Loaded] = {}
"""Over there."""


def _log(name: str, placement: Placement) -> None:
    logger.info("%s runs in %s on %s: %s", name, placement.dtype, placement.device, placement.reason)


def _widen(pipe: int) -> None:
    """Let a whole batch lie ready in the pipe; else the model waits for its rest, and that for the loop's lock."""
    size = getattr(fcntl, "F_SETPIPE_SZ", None)  # Linux has it
    if size is not None:
        with suppress(PermissionError):  # over what an ordinary user's pipes may hold together
            fcntl.fcntl(pipe, size, PIPE_BYTES)


def _begin() -> None:
    """Over there, first: end with the parent, however it ends, and not before; one BLAS thread, as in the worker."""
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


def _drop_scorer(wanted: Wanted, ranker: Ranker) -> None:
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
    return [version.stamp(ranker.model) if ranker else (), identity(encoder.model, "") if encoder else ""]


def _load(wanted: Wanted) -> tuple[ItemEncoder | None, Scorer | None]:
    """Where both models are the same one, each text is read once."""
    from encoders.text import TextEncoder
    from ranker.bi_encoder import BiEncoder
    from ranker.fusion import FusedScorer

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


def _facts(wanted: Wanted) -> tuple[EncoderFacts | None, ScorerFacts | None]:
    loaded = _served(wanted)
    return loaded.of_items, loaded.of_scorer


def _encode(wanted: Wanted, texts: list[str]) -> Encoded:
    loaded = _served(wanted)
    if loaded.items is None or loaded.of_items is None:
        raise TypeError("this process has no encoder")
    usage = loaded.items.usage
    tokens, unknown = usage.text_tokens, usage.unknown_tokens
    vectors = loaded.items.encode(texts)
    return Encoded(vectors, usage.text_tokens - tokens, usage.unknown_tokens - unknown, loaded.of_items.identity)


def _prepare(wanted: Wanted, texts: list[str]) -> None:
    _scorer(wanted).prepare(texts)


def _score(wanted: Wanted, requests: list[ScoreRequest]) -> tuple[list[NDArray[np.float32]], Usage]:
    scorer = _scorer(wanted)
    return scorer.score(requests), scorer.usage


def _learn(wanted: Wanted, answers: list[Answer]) -> Lessons | None:
    scorer = _scorer(wanted)
    if isinstance(scorer, Learner):
        scorer.learn(answers)
    return _lessons(scorer)


def _lessons(scorer: Scorer | None) -> Lessons | None:
    return scorer.lessons if isinstance(scorer, Learner) else None


def _forget(wanted: Wanted, users: list[str] | None) -> None:
    _scorer(wanted).forget(users)


def _scorer(wanted: Wanted) -> Scorer:
    scorer = _served(wanted).scorer
    if scorer is None:
        raise TypeError("this process has no scorer")
    return scorer

"""A worker's models, in a process of their own.

Between two steps of a model Python takes the interpreter's lock, and an event loop at work holds it: in one process a
busy loop slowed the model ninefold. So texts go over and vectors and scores come back; the loop's process has no torch.
A model that takes its process down, or does not come back, is loaded anew. Called by `worker`.
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
from typing import Any, Protocol, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from encoders.device import Placement
from encoders.interest import Vector
from encoders.usage import Usage
from ranker import Answer, Learner, Lessons, Scorer, ScoreRequest, load_scorer
from ranker.version import version
from streams import metrics
from streams.settings import Encoder, Ranker

logger = logging.getLogger(__name__)

PIPE_BYTES = 1 << 20
"""Of requests that wait for the process: two batches of 32 lists; Linux' default is 64 KiB."""
HUNG_S = 300.0
"""A call that takes longer will not come back: far beyond any batch, and loading after a restart."""


class ItemEncoder(Protocol):
    """What puts item texts into vectors: a `TextEncoder`, or a bi-encoder that keeps them for scoring."""

    name: str
    dim: int
    placement: Placement

    def encode(self, texts: Sequence[str]) -> Vector: ...


Wanted: TypeAlias = "tuple[Encoder | None, Ranker | None]"
"""Which models, each None where it is not needed."""


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
        dim, placements, named, needs_features, learns = self.call(_facts)
        for name, placement in placements.items():
            logger.info("%s runs in %s on %s: %s", name, placement.dtype, placement.device, placement.reason)
        encoder, ranker = self._wanted
        if encoder:
            self.encoder = RemoteEncoder(self, dim)
        if ranker:
            self.scorer = RemoteScorer(self, named, placements[ranker.model], needs_features, learns)

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
    """An `ItemEncoder` over there."""

    def __init__(self, models: Models, dim: int) -> None:
        self.dim = dim
        self._models = models

    def encode(self, texts: Sequence[str]) -> Vector:
        """(n, dim) float32. Tried twice: an item must not be missing because something else broke the process."""
        try:
            vectors: Vector = self._models.call(_encode, list(texts))
        except BrokenProcessPool:
            vectors = self._models.call(_encode, list(texts))
        return vectors


class RemoteScorer:
    """A `Scorer` over there."""

    def __init__(self, models: Models, name: str, placement: Placement, needs_features: bool, learns: bool) -> None:
        self.name = name
        self.placement = placement
        self.usage = Usage()
        self.needs_features = needs_features
        self.lessons = Lessons() if learns else None
        self._models = models

    def prepare(self, texts: Sequence[str]) -> None:
        """See `Scorer.prepare`."""
        self._models.call(_prepare, list(texts))

    def score(self, requests: Sequence[ScoreRequest]) -> list[NDArray[np.float32]]:
        """See `Scorer.score`."""
        scores: list[NDArray[np.float32]]
        scores, self.usage = self._models.call(_score, list(requests))
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


_loaded: dict[Wanted, tuple[ItemEncoder | None, Scorer | None]] = {}
"""Over there."""


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


def _served(wanted: Wanted) -> tuple[ItemEncoder | None, Scorer | None]:
    """The models, loaded at the first call."""
    if wanted not in _loaded:
        _loaded[wanted] = _load(wanted)
    return _loaded[wanted]


def _drop_scorer(wanted: Wanted, ranker: Ranker) -> None:
    encoder, _ = wanted
    items, _ = _loaded.pop((encoder, ranker), (None, None))
    if items is not None:
        _loaded[wanted] = items, None
    gc.collect()


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


def _facts(wanted: Wanted) -> tuple[int, dict[str, Placement], str, bool, bool]:
    items, scorer = _served(wanted)
    placements = {model.name: model.placement for model in (items, scorer) if model}
    named = version(scorer.name) if scorer else ""
    learns = _lessons(scorer) is not None
    return items.dim if items else 0, placements, named, scorer is not None and scorer.needs_features, learns


def _encode(wanted: Wanted, texts: list[str]) -> Vector:
    items, _ = _served(wanted)
    if items is None:
        raise TypeError("this process has no encoder")
    return items.encode(texts)


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
    _, scorer = _served(wanted)
    if scorer is None:
        raise TypeError("this process has no scorer")
    return scorer

"""A worker's models, in a process of their own.

Between two steps of a model Python takes the interpreter's lock, and an event loop at work holds it: in one process a
busy loop slowed the model ninefold. So texts go over and vectors and scores come back; the loop's process has no torch.
A model that takes its process down, or does not come back, is loaded anew.
"""

from __future__ import annotations

import fcntl
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
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from encoders.interest import Vector
from encoders.models.device import Placement
from encoders.models.source import ModelUnsupported
from encoders.models.usage import Usage
from ranker import version
from ranker.score import LearningTotals, ListFeedback, ScoreRequest
from streams import metrics
from streams.models import process as model_process
from streams.models.process import Encoded, EncoderFacts, Scored, ScorerFacts, Wanted
from streams.models.vocabulary import Vocabulary
from streams.settings import PREFIX, Encoder, Ranker

logger = logging.getLogger(__name__)

PIPE_BYTES = 1 << 20
"""Of requests that wait for the process: two batches of 32 lists; Linux' default is 64 KiB."""
HUNG_S = 300.0
"""A call that takes longer will not come back: far beyond any batch, and loading after a restart."""


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
        self._pool.submit(model_process.facts, self._wanted)

    def load(self) -> None:
        """Wait until they are loaded.

        Raises
        ------
        ModelNotFound, DeviceUnavailable
        ModelUnsupported
            It cannot be run here, or does not give its known answers.
        """
        of_items, of_scorer = self.call(model_process.facts)
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
        self.call(model_process.drop_scorer, ranker)

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
            done = answer.result(None if function is model_process.facts else HUNG_S)  # a first load may be a download
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
        # Of a process that is killed the pool's thread ends at once; left alone, it may complain at the very end.
        self._pool.shutdown(wait=not self.loaded, cancel_futures=True)

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
        self._pool = ProcessPoolExecutor(1, context, model_process.begin)
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
            encoded: Encoded = self._models.call(model_process.encode, list(texts))
        except BrokenProcessPool:
            encoded = self._models.call(model_process.encode, list(texts))
        if encoded.identity != self.identity:
            raise ModelUnsupported(
                f"encoder: got another model than at the start in the place of {self.name!r}, expected the same as "
                "long as the worker runs; restart it, and it encodes all items again"
            )
        self._vocabulary.note(*encoded.read)
        return encoded.vectors


class RemoteScorer:
    """A `Scorer` over there."""

    def __init__(self, models: Models, facts: ScorerFacts) -> None:
        self.name = facts.name
        self.placement = facts.placement
        self.usage = Usage()
        self.needs_features = facts.needs_features
        self.learning = LearningTotals() if facts.learns else None
        self._vocabulary = Vocabulary("ranker", facts.name, f"{PREFIX}RANKER__MODEL")
        self._models = models

    def prepare(self, texts: Sequence[str]) -> None:
        """See `Scorer.prepare`."""
        self._vocabulary.note(*self._models.call(model_process.prepare, list(texts)))

    def score(self, requests: Sequence[ScoreRequest]) -> list[NDArray[np.float32]]:
        """See `Scorer.score`."""
        scored: Scored = self._models.call(model_process.score, list(requests))
        self.usage = scored.usage
        self._vocabulary.note(*scored.read)
        return scored.scores

    def learn(self, feedback: Sequence[ListFeedback]) -> None:
        """See `Learner.learn`. A process that dies over it has forgotten what it learnt."""
        if self.learning is not None:
            with suppress(BrokenProcessPool):
                self.learning = self._models.call(model_process.learn, list(feedback)) or self.learning

    def forget(self, users: Collection[str] | None) -> None:
        """See `Scorer.forget`. A process that dies instead has forgotten everything."""
        with suppress(BrokenProcessPool):
            self._models.call(model_process.forget, None if users is None else list(users))


def _log(name: str, placement: Placement) -> None:
    logger.info("%s runs in %s on %s: %s", name, placement.dtype, placement.device, placement.reason)


def _widen(pipe: int) -> None:
    """Let a whole batch lie ready in the pipe; else the model waits for its rest, and that for the loop's lock."""
    size = getattr(fcntl, "F_SETPIPE_SZ", None)  # Linux has it
    if size is not None:
        with suppress(PermissionError):  # over what an ordinary user's pipes may hold together
            fcntl.fcntl(pipe, size, PIPE_BYTES)

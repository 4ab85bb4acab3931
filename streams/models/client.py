"""Start and call the child process that holds a worker's models.

Between two steps of a model Python takes the interpreter's lock, and a busy event loop holds it: in one process such a
loop made the model nine times slower. So the worker sends texts, and gets vectors and scores back; it does not import
torch. If the process dies or hangs, a new one loads the models again.
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
from streams.models.process import Encoded, EncoderFacts, ModelChoice, Scored, ScorerFacts
from streams.models.vocabulary import Vocabulary
from streams.settings import PREFIX, EncoderSettings, RankerSettings

logger = logging.getLogger(__name__)

PIPE_BYTES = 1 << 20
"""The size of the pipe to the process: two batches of 32 lists. Linux' default is 64 KiB."""
HUNG_S = 300.0
"""Seconds after which a call counts as hung: far longer than any batch, and than loading after a restart."""


class Models:
    """A child process that holds the models. Loading starts at once. Calls block, and run one at a time.

    Attributes
    ----------
    encoder : RemoteEncoder or None
        Encodes item texts; None without encoder settings, or before `load`.
    scorer : RemoteScorer or None
        None without ranker settings, if `ranker.model` is `none`, or before `load`.
    loaded : bool
        Whether the process has the models in memory. False after its death, until the next call has loaded them again.
    """

    def __init__(self, encoder: EncoderSettings | None, ranker: RankerSettings | None) -> None:
        self._lock = threading.Lock()
        self._choice: ModelChoice = encoder, ranker if ranker and ranker.model != "none" else None
        self.encoder: RemoteEncoder | None = None
        self.scorer: RemoteScorer | None = None
        self.loaded = False
        self._start()
        self._pool.submit(model_process.facts, self._choice)

    def load(self) -> None:
        """Wait until the models are loaded.

        Raises
        ------
        ModelNotFound, DeviceUnavailable
        ModelUnsupported
            A model cannot run here, or does not give its reference scores.
        """
        encoder_facts, scorer_facts = self.call(model_process.facts)
        encoder, _ = self._choice
        if encoder and encoder_facts:
            self.encoder = RemoteEncoder(self, version.name(encoder.model), encoder_facts)
            _log(version.name(encoder.model), encoder_facts.placement)
        if scorer_facts:
            self.scorer = RemoteScorer(self, scorer_facts)
            _log(scorer_facts.name, scorer_facts.placement)

    def drop_scorer(self) -> None:
        """Free the scorer's memory. The encoder stays."""
        self.scorer = None
        encoder, ranker = self._choice
        self._choice = encoder, None
        self.call(model_process.drop_scorer, ranker)

    def call(self, function: Callable[..., Any], *arguments: object) -> Any:
        """Call a function of `streams.models.process` there, and return its result.

        Raises
        ------
        BrokenProcessPool
            The process died, or was killed because it hung. The next call loads the models again.
        """
        pool = self._pool
        try:
            future = pool.submit(function, self._choice, *arguments)
        except BrokenProcessPool:  # since the last call
            self._replace(pool, "died")
            pool = self._pool
            future = pool.submit(function, self._choice, *arguments)
        try:
            result = future.result(
                None if function is model_process.facts else HUNG_S
            )  # a first load may be a download
            self.loaded = True
            return result
        except BrokenProcessPool:
            self._replace(pool, "died")
            raise
        except futures.TimeoutError:
            if future.done():
                raise  # the model raised it
            self._replace(pool, "is hung")
            raise BrokenProcessPool("the models' process was hung") from None

    def close(self) -> None:
        """End the process: after its current call, or at once if it is still loading."""
        if not self.loaded:
            self._kill()
        # The pool's thread ends at once with a killed process. Without the wait it may log an error at exit.
        self._pool.shutdown(wait=not self.loaded, cancel_futures=True)

    def _replace(self, pool: ProcessPoolExecutor, state: str) -> None:
        with self._lock:
            if pool is not self._pool:
                return  # another call has replaced it already
            logger.error("the models' process %s; the next call loads them again", state)
            self.loaded = False
            metrics.models_restarted.inc()
            self._kill()
            pool.shutdown(wait=False)
            self._start()

    def _kill(self) -> None:
        with suppress(ProcessLookupError, BrokenProcessPool):
            os.kill(self._pid.result(), signal.SIGKILL)

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would copy the locks that other threads hold
        self._pool = ProcessPoolExecutor(1, context, model_process.start)
        _widen(cast(Any, self._pool)._call_queue._writer.fileno())
        self._pid = self._pool.submit(os.getpid)


class RemoteEncoder:
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
        self._vocabulary = Vocabulary("encoder", name, f"{PREFIX}ENCODER__MODEL")
        self._models = models

    def encode(self, texts: Sequence[str]) -> Vector:
        """Return the vectors of texts, (n, dim) float32.

        A call that fails is repeated once: an item must not be missing because another call broke the process.

        Raises
        ------
        ModelUnsupported
            The process was restarted and found another model, whose vectors are in another space.
        """
        try:
            encoded: Encoded = self._models.call(model_process.encode, list(texts))
        except BrokenProcessPool:
            encoded = self._models.call(model_process.encode, list(texts))
        if encoded.identity != self.identity:
            raise ModelUnsupported(
                f"encoder: got another model than at the start for {self.name!r}, expected the same as long as the "
                "worker runs; restart it, and it encodes all items again"
            )
        self._vocabulary.note(*encoded.read)
        return encoded.vectors


class RemoteScorer:
    """A `Scorer` in the child process."""

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
        """See `Learner.learn`. If the process dies, what it has learnt is lost."""
        if self.learning is not None:
            with suppress(BrokenProcessPool):
                self.learning = self._models.call(model_process.learn, list(feedback)) or self.learning

    def forget(self, users: Collection[str] | None) -> None:
        """See `Scorer.forget`. If the process dies, it has forgotten everything anyway."""
        with suppress(BrokenProcessPool):
            self._models.call(model_process.forget, None if users is None else list(users))


def _log(name: str, placement: Placement) -> None:
    logger.info("%s runs in %s on %s: %s", name, placement.dtype, placement.device, placement.reason)


def _widen(pipe: int) -> None:
    """Make room in the pipe for a whole batch. Otherwise the model waits for its rest, and so for the loop's lock."""
    size = getattr(fcntl, "F_SETPIPE_SZ", None)  # Linux has it
    if size is not None:
        with suppress(PermissionError):  # more than the pipes of an ordinary user may hold together
            fcntl.fcntl(pipe, size, PIPE_BYTES)

"""Start and call the child process that holds a worker's models.

Between two steps of a model Python takes the interpreter's lock, and a busy event loop holds it: in one process such a
loop made the model nine times slower. So the worker sends texts, and gets vectors and scores back; it does not import
torch. If the process dies or hangs, a new one loads the models again. The model of a server is asked from the worker
itself.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path
from typing import Any

from encoders.models.device import Placement
from ranker import version
from ranker.fusion.fused import FusedScorer
from ranker.load import base_of, load_scorer
from ranker.score import Scorer
from ranker.version import is_url
from streams import metrics
from streams.models import process as model_process
from streams.models.child import ChildProcess, NoAnswer
from streams.models.child_models import ChildEncoder, ChildScorer
from streams.models.process import ModelChoice
from streams.models.remote.servers import RerankServers
from streams.settings import EncoderSettings, RankerSettings

logger = logging.getLogger(__name__)

HUNG_S = 300.0
"""Seconds after which a call counts as hung: far longer than any batch, and than loading after a restart."""


class Models:
    """A child process that holds the models. Loading starts at once. Calls block, and run one at a time.

    Parameters
    ----------
    encoder, ranker : settings, optional
        Of the models that are needed.
    process : ChildProcess, optional
        If the process was started before.
    vectors : Path, optional
        See `ModelChoice`.

    Attributes
    ----------
    encoder : ChildEncoder or None
        Encodes item texts; None without encoder settings, or before `load`.
    scorer : Scorer or None
        None without ranker settings, if `ranker.model` is `none`, or before `load`.
    servers : RerankServers
        The connections to a reranker on a server.
    loaded : bool
        Whether the process has the models in memory. False after its death, until the next call has loaded them again.
    """

    def __init__(
        self,
        encoder: EncoderSettings | None,
        ranker: RankerSettings | None,
        process: ChildProcess | None = None,
        vectors: Path | None = None,
    ) -> None:
        self._lock = threading.Lock()
        self._on_server = ranker if ranker and is_url(base_of(ranker.model)) else None
        loaded = ranker if ranker and ranker.is_loaded and not self._on_server else None
        self._choice = ModelChoice(encoder, loaded, vectors)
        self.encoder: ChildEncoder | None = None
        self.scorer: Scorer | None = None
        self.servers = RerankServers(ranker or RankerSettings())
        self.loaded = False
        self._died_s: float | None = None
        self._closed = False
        self._start(process)
        self._process.begin(model_process.facts, self._choice)

    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    def load(self) -> None:
        """Wait until the models are loaded.

        Raises
        ------
        ModelNotFound, DeviceUnavailable
        ModelUnsupported
            A model cannot run here, or does not give its reference scores.
        """
        encoder_facts, scorer_facts = self.call(model_process.facts)
        encoder = self._choice.encoder
        if encoder and encoder_facts:
            self.encoder = ChildEncoder(self, version.name(encoder.model), encoder_facts)
            _log(version.name(encoder.model), encoder_facts.placement)
        if scorer_facts:
            self.scorer = ChildScorer(self, scorer_facts)
            _log(scorer_facts.name, scorer_facts.placement)
        if self._on_server:
            self._connect(self._on_server)

    def _connect(self, ranker: RankerSettings) -> None:
        scorer = load_scorer(ranker.model, require_sane=ranker.require_sane, connect=self.servers)
        if isinstance(scorer, FusedScorer):
            scorer.name = version.version(ranker.model)
            scorer.start(learning=ranker.learn, exploring=ranker.explore > 0)
        self.scorer = scorer
        logger.info("%s scores candidates: %s", scorer.name, scorer.placement.reason)

    def steps(self) -> dict[str, float]:
        """Return when each step of loading ended, by the monotonic clock; nothing if the process has died since."""
        found: dict[str, float] = {}
        with suppress(BrokenProcessPool):
            found = self.call(model_process.steps)
        return found

    def drop_scorer(self) -> None:
        """Free the scorer's memory. The encoder stays."""
        self.scorer = None
        self.servers.close()
        ranker = self._choice.ranker
        if ranker:
            self._choice = self._choice._replace(ranker=None)
            self.call(model_process.drop_scorer, ranker)

    def call(self, function: Callable[..., Any], *arguments: object) -> Any:
        """Call a function of `streams.models.process` there, and return its result.

        Raises
        ------
        BrokenProcessPool
            The process died, or was killed because it hung. The next call loads the models again.
        """
        if not self._process.is_alive():  # it died since the last call
            self._replace(self._process, "died")
        process = self._process
        timeout_s = None if function is model_process.facts else HUNG_S  # a first load may be a download
        try:
            result = process.call(function, self._choice, *arguments, timeout_s=timeout_s)
        except BrokenProcessPool:
            self._replace(process, "died")
            raise
        except NoAnswer:
            self._replace(process, "is hung")
            raise BrokenProcessPool("the models' process was hung") from None
        if self._died_s is not None and not self.loaded:
            logger.info("the models are loaded again, after %.0f s", time.monotonic() - self._died_s)
        self.loaded = True
        return result

    def close(self) -> None:
        """End the process, after its current call, or at once if it is still loading; wait for the end."""
        self._closed = True
        self.servers.close()
        if not self.loaded:
            self._process.kill()
        self._process.close()

    def _replace(self, process: ChildProcess, state: str) -> None:
        with self._lock:
            if process is not self._process or self._closed:
                return  # another call has replaced it already, or nobody needs another
            logger.error("the models' process %s; the next call loads them again", state)
            self.loaded, self._died_s = False, time.monotonic()
            metrics.models_restarted.inc()
            process.kill()
            self._start()

    def _start(self, process: ChildProcess | None = None) -> None:
        self._process = process or ChildProcess(with_models=bool(self._choice.encoder or self._choice.ranker))


def _log(name: str, placement: Placement) -> None:
    logger.info("%s runs in %s on %s: %s", name, placement.dtype, placement.device, placement.reason)

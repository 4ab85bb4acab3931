"""A language model that writes, in a child process of its own: what ranks lists never waits for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol

from ranker import version
from streams import metrics
from streams.models import text_process
from streams.models.child import ChildProcess
from streams.models.text_process import Choice

logger = logging.getLogger(__name__)


class Writes(Protocol):
    """A language model that writes, as those who ask it know it. See `TextModel`."""

    def load(self) -> None: ...
    def write(self, prompts: Sequence[str]) -> list[str]: ...
    def close(self) -> None: ...


class TextModel:
    """A child process with the model. Loading starts at once. Calls block, and run one at a time.

    If the process dies, the next call starts another one.

    Parameters
    ----------
    settings : Choice
        Of the model.
    work : str
        What it does, for the log: "words reasons".
    """

    def __init__(self, settings: Choice, work: str) -> None:
        self._settings = settings
        self._work = work
        self._lock = threading.Lock()
        self._closed = False
        self._start()

    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    def load(self) -> None:
        """Wait until the model is loaded.

        Raises
        ------
        ModelNotFound, ModelUnsupported, DeviceUnavailable
        """
        placement = self._call(text_process.load)
        name = version.name(self._settings.model or "")
        logger.info("%s %s, in %s on %s", name, self._work, placement.dtype, placement.device)

    def write(self, prompts: Sequence[str]) -> list[str]:
        """Return the model's answers to prompts, one line each.

        Raises
        ------
        BrokenProcessPool
            The process died.
        """
        answers: list[str] = self._call(text_process.write, list(prompts))
        return answers

    def close(self) -> None:
        """End the process at once, without its current answer."""
        self._closed = True
        self._process.kill()

    def _call(self, function: Callable[..., Any], *arguments: object) -> Any:
        with self._lock:
            try:
                return self._process.call(function, self._settings, *arguments)
            except BrokenProcessPool:
                if not self._closed:
                    logger.error("the process of the model that %s died; the next call loads it again", self._work)
                    metrics.models_restarted.inc()
                    self._start()
                raise

    def _start(self) -> None:
        self._process = ChildProcess(with_models=True)

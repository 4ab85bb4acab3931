"""The child process that holds models, before it knows them: how it starts, answers calls and ends.

Imports nothing large itself, so that a command can start the process first of all and go on with its own imports.
"""

from __future__ import annotations

import fcntl
import gc
import importlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.pool import ExceptionWithTraceback  # type: ignore[attr-defined]
from multiprocessing.util import Finalize
from typing import Any

from streams import log

PIPE_BYTES = 1 << 20
"""The size of the pipe to the process: two batches of 32 lists. Linux' default is 64 KiB."""

LIBRARIES = ("torch", "transformers.models.auto.tokenization_auto", "streams.models.process")
"""Imported at once: what every model needs. It is two thirds of the time of a start."""
UNUSED = ("accelerate", "scipy", "sklearn")
"""transformers imports these where they are installed, for training, object detection and assisted generation. A worker
does not depend on them. Without them the import takes 1.3 s less."""

imported_s = 0.0
"""When the libraries were imported, by the monotonic clock; 0 before. One clock serves all processes of a machine."""


class ChildProcess:
    """A process that calls functions, one after the other, in the order in which any thread asks for them.

    Between the caller and the process there is a pipe and no thread. `ProcessPoolExecutor` has two threads there, which
    wait for each other and for the interpreter's lock: a call took 0.5 ms and 0.5 core-ms with it, and 0.05 ms and 0.03
    to 0.15 core-ms without.

    Parameters
    ----------
    with_models : bool
        Whether it will have models; then it imports `LIBRARIES` at once.

    Attributes
    ----------
    pid : int
        The id of the process.
    """

    def __init__(self, with_models: bool) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would copy the locks that other threads hold
        calls, self._calls = context.Pipe(duplex=False)
        self._answers, answers = context.Pipe(duplex=False)
        _widen(self._calls.fileno())
        self._process = context.Process(target=_serve, args=(calls, answers, with_models, log.chosen))
        self._process.start()
        calls.close()
        answers.close()
        self.pid = self._process.pid or 0
        self._sending = threading.Lock()
        self._sent = self._read = 0  # how many calls, and how many of their answers
        self._last = threading.Event()  # set when the answer to the last call was read
        self._last.set()
        Finalize(self, self._calls.close, exitpriority=0)  # at its end Python waits for its children

    def begin(self, function: Callable[..., Any], *arguments: object) -> None:
        """Have a function called. Whatever it returns or raises is dropped."""
        with self._sending, suppress(OSError):  # if the process has died, the next call says so
            self._calls.send_bytes(pickle.dumps((function, arguments)))
            self._sent += 1

    def call(self, function: Callable[..., Any], *arguments: object, timeout_s: float | None = None) -> Any:
        """Call a function that the process can import, and return or raise what it returns or raises. Blocks.

        Raises
        ------
        BrokenProcessPool
            The process died, or was killed.
        NoAnswer
            There was no answer in time. Kill the process then.
        """
        message, answered = pickle.dumps((function, arguments)), threading.Event()
        try:
            with self._sending:
                self._calls.send_bytes(message)
                self._sent += 1
                number, (before, self._last) = self._sent, (self._last, answered)
            try:
                answer = self._answer(number, before, timeout_s)
            finally:
                answered.set()
        except (EOFError, OSError) as error:
            raise BrokenProcessPool("the process died") from error
        is_result, value = pickle.loads(answer)
        if not is_result:
            raise value
        return value

    def _answer(self, number: int, before: threading.Event, timeout_s: float | None) -> bytes:
        """Read the answer to a call, once that to the call before was read. Answers to `begin` are skipped."""
        if not before.wait(timeout_s):
            raise NoAnswer
        answer = b""
        while self._read < number:
            if not self._answers.poll(timeout_s):
                raise NoAnswer
            answer = self._answers.recv_bytes()
            self._read += 1
        return answer

    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process.is_alive()

    def kill(self) -> None:
        """End the process at once, whatever it does."""
        self._process.kill()
        self._process.join()

    def close(self) -> None:
        """Let the process finish its calls, and wait for its end."""
        with self._sending:
            self._calls.close()
        self._process.join()


class NoAnswer(Exception):
    """The process did not answer in time."""


def _serve(calls: Connection, answers: Connection, with_models: bool, log_choice: log.LogChoice | None) -> None:
    """Answer calls until the other end of the pipe is closed."""
    _start(with_models, log_choice)
    with suppress(EOFError, BrokenPipeError):
        while True:
            answers.send_bytes(_answer(calls.recv_bytes()))


def _answer(message: bytes) -> bytes:
    try:
        function, arguments = pickle.loads(message)
        return pickle.dumps((True, function(*arguments)))
    except BaseException as error:  # noqa: BLE001  # the caller handles it
        with suppress(Exception):
            return pickle.dumps((False, ExceptionWithTraceback(error, error.__traceback__)))
        return pickle.dumps((False, RuntimeError(repr(error))))  # an error that pickle does not take


def _widen(pipe: int) -> None:
    """Make room in the pipe for a whole batch. Otherwise the model waits for its rest, and so for the loop's lock."""
    size = getattr(fcntl, "F_SETPIPE_SZ", None)  # Linux has it
    if size is not None:
        with suppress(PermissionError):  # more than the pipes of an ordinary user may hold together
            fcntl.fcntl(pipe, size, PIPE_BYTES)


def _start(with_models: bool, log_choice: log.LogChoice | None) -> None:
    """Initialise the process: it ends with its parent, however that ends, ignores signals, and has one BLAS thread.

    It logs as its parent does.
    """
    if log_choice:
        log.configure(log_choice)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if with_models:
        _import_libraries()
    from threadpoolctl import threadpool_limits

    threadpool_limits(1, "blas")


def _import_libraries() -> None:
    global imported_s
    gc.disable()  # until the models are loaded: nothing that is imported is garbage, and each collection reads it all
    for name in UNUSED:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # Python's way to say: not to be imported
    for name in LIBRARIES:
        importlib.import_module(name)
    if log.chosen:
        lines = importlib.import_module("transformers.utils.logging")
        lines.disable_default_handler()
        lines.enable_propagation()
    imported_s = time.monotonic()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(0)

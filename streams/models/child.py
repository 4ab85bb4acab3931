"""The child process that holds models, before it knows them: how it starts, how it ends, and what it imports at once.

Imports nothing large itself, so that a command can start the process first of all and go on with its own imports.
"""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor

from streams import log

LIBRARIES = ("torch", "transformers.models.auto.tokenization_auto", "streams.models.process")
"""Imported at once: what every model needs. It is two thirds of the time of a start."""
UNUSED = ("accelerate", "scipy", "sklearn")
"""transformers imports these where they are installed, for training, object detection and assisted generation. A worker
does not depend on them. Without them the import takes 1.3 s less."""

imported_s = 0.0
"""When the libraries were imported, by the monotonic clock; 0 before. One clock serves all processes of a machine."""


def spawn(with_models: bool) -> ProcessPoolExecutor:
    """Start a process; it imports `LIBRARIES` at once if it will have models."""
    context = multiprocessing.get_context("spawn")  # a fork would copy the locks that other threads hold
    process = ProcessPoolExecutor(1, context, start, (with_models, log.chosen))
    process.submit(os.getpid)  # the executor starts its process with the first call
    return process


def start(with_models: bool, log_choice: log.LogChoice | None) -> None:
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

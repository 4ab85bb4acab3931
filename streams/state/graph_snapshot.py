"""When the catalogue's search graph goes to disk: once all items are known, then at intervals, and at the end.

usearch writes with Python's lock held, half a second for a million items. So a forked child writes, from its own copy
of the memory, as Redis does: the worker stands still for the fork alone, about 10 ms for each GB of small objects.
Called by `worker`.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import signal
import sys
import time
import warnings
from contextlib import suppress
from multiprocessing.context import ForkProcess
from pathlib import Path

from usearch.index import Index

from ranker.recall import graph_file
from ranker.recall.catalogue import Catalogue
from streams import metrics

logger = logging.getLogger(__name__)

FILE = "item-graph.usearch"
EVERY_S = 600.0
"""Chosen by us: what changes in ten minutes is inserted again in seconds."""
PATIENCE_S = 120.0
"""A million items take a few seconds; a child that hangs is ended after this time."""


def load(path: Path, dim: int, model: str) -> Index | None:
    """The graph of the last life, or None to begin anew: never an error."""
    started = time.monotonic()
    try:
        graph = graph_file.read(path, dim, model)
    except graph_file.GraphFileError as error:
        logger.warning("%s; items enter a new graph", error)
        metrics.graph_loads.labels(error.reason).inc()
        return None
    except OSError as error:
        logger.warning("%s: %s; items enter a new graph", path, error)
        metrics.graph_loads.labels("unreadable").inc()
        return None
    metrics.graph_loads.labels("none" if graph is None else "loaded").inc()
    if graph is not None:
        logger.info("%s: %d items in %.1f s", path, len(graph), time.monotonic() - started)
    return graph


class GraphSnapshot:
    """The file of one catalogue's graph.

    Parameters
    ----------
    model : what the vectors depend on, see `encoders.text.vector_store.identity`.
    """

    def __init__(self, catalogue: Catalogue, path: Path, model: str) -> None:
        self._index = catalogue.index
        self._path = path
        self._model = model
        self._saved_changes = 0
        self._saving = False

    async def run(self, caught_up: asyncio.Event) -> None:
        """Run for ever: save once all items are known, then at intervals."""
        await caught_up.wait()
        for _ in self._index.forget_unknown():
            await asyncio.sleep(0)
        while True:
            await self.save(PATIENCE_S)
            await asyncio.sleep(EVERY_S)

    async def save(self, patience_s: float) -> None:
        """Write the graph if it changed and is not being written. A failure is counted; the file stays as it was."""
        changes, started = self._index.changes, time.monotonic()
        if changes == self._saved_changes or self._saving:
            return
        self._saving = True
        child = multiprocessing.get_context("fork").Process(
            target=_write, args=(self._index.graph, self._path, self._model), daemon=True
        )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12, of threads; the child needs none
                child.start()
            await _ended(child, patience_s)
        finally:
            self._saving = False
        if child.exitcode == 0:
            self._saved_changes = changes
            metrics.graph_saves.labels("saved").inc()
            logger.info("%s: saved in %.1f s", self._path, time.monotonic() - started)
        else:
            metrics.graph_saves.labels("failed").inc()
            logger.warning("%s: not saved; a restart will insert again what changed since the last time", self._path)


async def _ended(child: ForkProcess, patience_s: float) -> None:
    """Wait for the child, and end it if that takes too long or is of no use any more."""
    ended, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_reader(child.sentinel, ended.set)
    try:
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(ended.wait(), patience_s)
    finally:
        loop.remove_reader(child.sentinel)
        if not ended.is_set():
            child.kill()
        child.join()  # at once


def _write(graph: Index, path: Path, model: str) -> None:
    """In the child: a signal to the worker's group is no business of the worker's loop here."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    try:
        graph_file.write(graph, path, model)
    except (OSError, RuntimeError) as error:
        logger.warning("%s: %s", path, error)
        sys.exit(1)

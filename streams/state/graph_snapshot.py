"""Save the catalogue's search graph to disk: once all items are in it, then at intervals, and at the end.

usearch holds Python's lock while it writes, half a second for a million items. So a forked child process writes, from
its own copy of the memory, as Redis does. The worker stops only for the fork, about 10 ms for each GB of small objects.
Knows no Kafka.
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
"""Chosen by us: a worker that restarts inserts the changes of ten minutes again within seconds."""
PATIENCE_S = 120.0
"""A million items take a few seconds. A child that takes longer than this time is killed."""


def load(path: Path, dim: int, model: str) -> Index | None:
    """Read the saved graph. Without a usable file, log why, count it and return None: items enter a new graph.

    Parameters
    ----------
    path : Path
        The file.
    dim : int
        Length of the vectors.
    model : str
        Identity of the encoder that made the vectors.
    """
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
    """Saves the graph of a catalogue.

    Parameters
    ----------
    catalogue : Catalogue
        Has the graph.
    path : Path
        The file.
    model : str
        Identity of the encoder that made the vectors, see `encoders.text.vector_store.identity`.
    """

    def __init__(self, catalogue: Catalogue, path: Path, model: str) -> None:
        self._index = catalogue.text.index
        self._path = path
        self._model = model
        self._saved_changes = 0
        self._saving = False

    async def run(self, caught_up: asyncio.Event) -> None:
        """Save the graph once all items are in it, then at intervals, until cancelled."""
        await caught_up.wait()
        for _ in self._index.forget_unknown():
            await asyncio.sleep(0)
        while True:
            await self.save(PATIENCE_S)
            await asyncio.sleep(EVERY_S)

    async def save(self, patience_s: float) -> None:
        """Write the graph if it has changed and is not being written. A failure is counted, and the old file stays."""
        changes, started = self._index.changes, time.monotonic()
        if changes == self._saved_changes or self._saving:
            return
        self._saving = True
        child = multiprocessing.get_context("fork").Process(
            target=_write, args=(self._index.graph, self._path, self._model), daemon=True
        )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of threads, which the child does not need
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
            logger.warning("%s: not saved; a restart will insert the items again that changed since", self._path)


async def _ended(child: ForkProcess, patience_s: float) -> None:
    """Wait for the child. Kill it if it takes too long, or if the wait is cancelled."""
    ended, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_reader(child.sentinel, ended.set)
    try:
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(ended.wait(), patience_s)
    finally:
        loop.remove_reader(child.sentinel)
        if not ended.is_set():
            child.kill()
        child.join()  # returns at once


def _write(graph: Index, path: Path, model: str) -> None:
    """Write the file, in the child. A signal to the process group ends the child and leaves the worker's loop alone."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    try:
        graph_file.write(graph, path, model)
    except (OSError, RuntimeError) as error:
        logger.warning("%s: %s", path, error)
        sys.exit(1)

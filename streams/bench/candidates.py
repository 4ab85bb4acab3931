"""Measure the search for candidates by text in a large catalogue against an exact search, at rest and under changes.

The peer is what one would write with numpy: all inner products, then the best. It runs in turns with ours, on the same
queries. The cost of a restart is measured too. Vectors and queries are synthetic. Knows no Kafka.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median

import numpy as np
from threadpoolctl import threadpool_limits
from usearch.index import Index

from encoders.interest import Vector
from ranker.progress import StageProgress
from ranker.recall import graph_file
from ranker.recall.catalogue import Catalogue, CatalogueItem
from ranker.recall.nearest_items import top
from streams.bench.measurement import Measurement, Target, percentile
from streams.bench.synthetic_vectors import interests_in, text_like
from streams.bench.timing import seconds, timed
from streams.state.graph_snapshot import PATIENCE_S, GraphSnapshot
from streams.terminal.progress_bar import track

DIM, SEED, LIMIT = 384, 7, 100
ROUNDS, SEARCHES, EXACT_SEARCHES = 5, 100, 8
FULL_SIZE = 1_000_000
"""From so many items on, ours must be 30 times as fast as the exact search."""
TICK_S = 0.001
EXACT, EXACT_ALL = "exact search with numpy, one thread", "exact search with numpy, all threads"


class SearchSpace:
    """A catalogue, and the same vectors as one matrix for exact search.

    Attributes
    ----------
    items : int
    matrix : ndarray of float32, shape (items, DIM)
        Unit vectors; zero for a deleted item.
    catalogue : Catalogue
        Its items' ids are the rows of the matrix.
    """

    def __init__(self, items: int) -> None:
        self.items = items
        self.matrix = text_like(items, DIM, SEED)
        self.catalogue = Catalogue(DIM)
        self._rng = np.random.default_rng(SEED)
        draw = interests_in(self.matrix, SEED)
        self._queries = [draw() for _ in range(ROUNDS * SEARCHES)]  # drawn before any item is deleted

    def fill(self, graph: Index | None, stage: StageProgress) -> float:
        """Put all items into a new catalogue; return the seconds that it took.

        Parameters
        ----------
        graph : Index or None
            A graph that already has the items; None to build a new one.
        stage : StageProgress
        """
        self.catalogue = Catalogue(DIM, graph=graph)
        text = f"{self.items:,} items {'into a new graph' if graph is None else 'beside their graph'}"
        begin_s = time.perf_counter()
        for row in track(range(self.items), text, stage):
            self.put(row)
        return time.perf_counter() - begin_s

    def put(self, row: int) -> None:
        """Put the item of a row of the matrix into the catalogue."""
        self.catalogue.put(CatalogueItem(str(row), "title", "text"), self.matrix[row])

    def queries(self) -> Vector:
        """Return the queries of a random user; float32 of shape (6, DIM)."""
        return self._queries[int(self._rng.integers(len(self._queries)))]

    def search(self, queries: Vector) -> set[int]:
        """Search as a request does; return the rows of the matrix that were found."""
        return {
            int(self.catalogue.at(index).item_id) for index in self.catalogue.text.nearest(queries, LIMIT)[0].tolist()
        }

    def exact(self, queries: Vector) -> set[int]:
        """Search with numpy; return the rows of the matrix that were found."""
        rows: list[int] = top((queries @ self.matrix.T).max(axis=0), LIMIT).tolist()
        return set(rows)

    def move_one(self) -> float:
        """Move a random item near another one, as a change of its text does; return the seconds of the insert."""
        row, other = (int(number) for number in self._rng.integers(0, self.items, 2))
        moved = self.matrix[other] + np.float32(0.02) * self._rng.standard_normal(DIM, np.float32)
        self.matrix[row] = moved / np.linalg.norm(moved)
        return seconds(self.put, row)

    def delete_one(self) -> float:
        """Delete a random item; return the seconds of the deletion."""
        row = int(self._rng.integers(0, self.items))
        self.matrix[row] = 0
        return seconds(self.catalogue.delete, str(row))


@dataclass
class SearchRound:
    """The figures of one round.

    Attributes
    ----------
    search_s, insert_s, delete_s : list of float
        Seconds of each search, insert and deletion.
    exact_s, exact_all_s : list of float
        Seconds of each exact search, with one thread and with all threads.
    recall : list of float
        The share of the exact results that our search found, of each compared search.
    """

    search_s: list[float] = field(default_factory=list)
    insert_s: list[float] = field(default_factory=list)
    delete_s: list[float] = field(default_factory=list)
    exact_s: list[float] = field(default_factory=list)
    exact_all_s: list[float] = field(default_factory=list)
    recall: list[float] = field(default_factory=list)


def measure(items: int, keep: Path | None, stage: StageProgress) -> list[Measurement]:
    """Fill a catalogue, search it beside exact search, change it between searches, write its graph and load it again.

    Parameters
    ----------
    items : int
        Enough items that the catalogue has a graph.
    keep : Path, optional
        A folder for the graph, which the next run need not build again.
    stage : StageProgress

    Raises
    ------
    ValueError
        So few items have no graph.
    """
    space = SearchSpace(items)
    with tempfile.TemporaryDirectory(prefix="afterclick-bench-", ignore_cleanup_errors=True) as name:
        path = (keep or Path(name)) / f"bench-{items}.usearch"
        with threadpool_limits(1, "blas"):  # as in a worker
            kept_graph = graph_file.read(path, DIM, _model(items))
            fill_s = space.fill(kept_graph, stage)
            if not len(space.catalogue.text.index.graph):
                raise ValueError(f"got {items} items, expected so many that there is a graph")
            write_s, stall_s = asyncio.run(_save(space.catalogue, path, _model(items)))
            at_rest = [_round(space, False) for _ in track(range(ROUNDS), "Searching", stage)]
            restart_s = _restart_s(space, path, stage) if kept_graph is None else fill_s
            changing = [_round(space, True) for _ in track(range(ROUNDS), "Searching and changing", stage)]
    restart = Measurement(
        "items into a catalogue whose graph was kept",
        "items/s",
        [items / restart_s],
        "" if kept_graph else "into a new graph",
        [] if kept_graph else [items / fill_s],
        note="The graph's file is read and each vector compared with it; the vectors are in memory before.",
    )
    writing = [
        Measurement("the graph, written to disk", "s", [write_s]),
        Measurement("longest wait of the event loop meanwhile", "ms", [stall_s * 1e3]),
    ]
    return [
        *_at_rest(space, at_rest),
        *_under_changes(space, changing),
        restart,
        *([] if kept_graph else writing),
    ]


def _at_rest(space: SearchSpace, rounds: list[SearchRound]) -> list[Measurement]:
    name = f"candidates for one user by text, {space.items:,} items"
    per_s = [1 / median(r.search_s) for r in rounds]
    exact = [1 / median(r.exact_s) for r in rounds]
    exact_all = [1 / median(r.exact_all_s) for r in rounds]
    target = Target(30, at_most=False, of="ratio") if space.items >= FULL_SIZE else None
    note = (
        f"Text-like vectors of {DIM}; 6 queries a user (4 prototypes, 2 means), the best {LIMIT}; ours on one thread."
    )
    return [
        Measurement(name, "users/s", per_s, EXACT, exact, target, note),
        Measurement(name, "users/s", per_s, EXACT_ALL, exact_all),
        *_latencies(name, rounds),
    ]


def _under_changes(space: SearchSpace, rounds: list[SearchRound]) -> list[Measurement]:
    return [
        *_latencies(f"the same, an insert or a delete after each search, {space.items:,} items", rounds),
        Measurement("inserts while it serves", "items/s", [1 / mean(r.insert_s) for r in rounds]),
        Measurement("longest insert while it serves", "ms", [max(r.insert_s) * 1e3 for r in rounds]),
        Measurement("deletes while it serves", "items/s", [1 / mean(r.delete_s) for r in rounds]),
    ]


def _latencies(name: str, rounds: list[SearchRound]) -> list[Measurement]:
    p50, p99 = ([percentile(r.search_s, percent) * 1e3 for r in rounds] for percent in (50, 99))
    return [
        Measurement(f"{name}, p50", "ms", p50),
        Measurement(f"{name}, p99", "ms", p99, target=Target(10, at_most=True)),
        Measurement(
            f"{name}, recall@{LIMIT}",
            "of exact",
            [mean(r.recall) for r in rounds],
            target=Target(0.95, at_most=False),
        ),
    ]


def _round(space: SearchSpace, changing: bool) -> SearchRound:
    """Search; then compare some searches with exact ones. `changing` inserts or deletes an item after each search."""
    figures = SearchRound()
    for number in range(SEARCHES):
        figures.search_s.append(seconds(space.search, space.queries()))
        if changing and number % 2:
            figures.delete_s.append(space.delete_one())
        elif changing:
            figures.insert_s.append(space.move_one())
    for _ in range(EXACT_SEARCHES):
        queries = space.queries()
        results = space.search(queries)
        exact_s, exact = timed(space.exact, queries)
        with threadpool_limits(os.cpu_count(), "blas"):
            exact_all_s = seconds(space.exact, queries)
        figures.exact_s.append(exact_s)
        figures.exact_all_s.append(exact_all_s)
        figures.recall.append(len(results & exact) / LIMIT)
    return figures


async def _save(catalogue: Catalogue, path: Path, model: str) -> tuple[float, float]:
    """Write the graph as a worker does; return the seconds that it took, and the event loop's longest stall."""
    saving = asyncio.create_task(GraphSnapshot(catalogue, path, model).save(PATIENCE_S))
    begin_s = last_s = time.perf_counter()
    longest_s = 0.0
    while not saving.done():
        await asyncio.sleep(TICK_S)
        longest_s, last_s = max(longest_s, time.perf_counter() - last_s - TICK_S), time.perf_counter()
    return last_s - begin_s, longest_s


def _restart_s(space: SearchSpace, path: Path, stage: StageProgress) -> float:
    """Read the graph's file and put all items beside the graph, as a restart does; return the seconds."""
    catalogue = space.catalogue
    read_s, graph = timed(graph_file.read, path, DIM, _model(space.items))
    restart_s = read_s + space.fill(graph, stage)
    space.catalogue = catalogue
    return restart_s


def _model(items: int) -> str:
    """Return the name under which the graph of these vectors is kept."""
    return f"bench {SEED}, {items}"

"""Candidates by text in a large catalogue: its search against an exact one, at rest and while items come and go.

The peer is what one would write with numpy: all inner products, then the best; in turns with ours, on the same
queries. Also what a restart costs. Vectors and queries are drawn (`vectors`). Called by `bench`; knows no Kafka.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median
from typing import ParamSpec, TypeVar

import numpy as np
from rich.progress import Progress
from threadpoolctl import threadpool_limits
from usearch.index import Index

from encoders.interest import Vector
from ranker.recall import graph_file
from ranker.recall.catalogue import Catalogue, CatalogueItem
from ranker.recall.nearest_items import top
from streams.bench.rows import Row, Target, percentile
from streams.bench.vectors import interests_in, text_like
from streams.state.graph_snapshot import PATIENCE_S, GraphSnapshot

DIM, SEED, LIMIT = 384, 7, 100
ROUNDS, SEARCHES, EXACT_SEARCHES = 5, 100, 8
FULL_SIZE = 1_000_000
"""From so many items on, ours must be 30 times as fast; exact search of fewer takes less."""
TICK_S = 0.001
EXACT, EXACT_ALL = "exact search with numpy, one thread", "exact search with numpy, all threads"

P = ParamSpec("P")
T = TypeVar("T")


class Space:
    """A catalogue, and the same vectors as one matrix for exact search; what is deleted is zero there.

    Attributes
    ----------
    catalogue : its items' ids are rows of the matrix.
    """

    def __init__(self, items: int) -> None:
        self.items = items
        self.matrix = text_like(items, DIM, SEED)
        self.catalogue = Catalogue(DIM)
        self._rng = np.random.default_rng(SEED)
        draw = interests_in(self.matrix, SEED)
        self._queries = [draw() for _ in range(ROUNDS * SEARCHES)]  # now, before anything is deleted

    def fill(self, graph: Index | None, progress: Progress) -> float:
        """Put all items, beside a graph that has them or None; the seconds that it took."""
        self.catalogue = Catalogue(DIM, graph=graph)
        how = "into a new graph" if graph is None else "beside their graph"
        begin = time.perf_counter()
        for number in progress.track(range(self.items), description=f"{self.items:,} items {how}"):
            self.put(number)
        return time.perf_counter() - begin

    def put(self, number: int) -> None:
        self.catalogue.put(CatalogueItem(str(number), "title", "text"), self.matrix[number])

    def queries(self) -> Vector:
        """One user's, (6, dim)."""
        return self._queries[int(self._rng.integers(len(self._queries)))]

    def search(self, queries: Vector) -> set[int]:
        """What a request does, and the ids of what it found."""
        return {int(self.catalogue.at(row).item_id) for row in self.catalogue.nearest(queries, LIMIT)[0].tolist()}

    def exact(self, queries: Vector) -> set[int]:
        found: list[int] = top((queries @ self.matrix.T).max(axis=0), LIMIT).tolist()
        return set(found)

    def move_one(self) -> float:
        """An item's text changes: it lies near another one now. Seconds of the insert."""
        number, other = (int(n) for n in self._rng.integers(0, self.items, 2))
        moved = self.matrix[other] + np.float32(0.02) * self._rng.standard_normal(DIM, np.float32)
        self.matrix[number] = moved / np.linalg.norm(moved)
        return _timed(self.put, number)[0]

    def delete_one(self) -> float:
        """Seconds of the delete of some item that is there."""
        number = int(self._rng.integers(0, self.items))
        self.matrix[number] = 0
        return _timed(self.catalogue.delete, str(number))[0]


@dataclass
class Round:
    """Figures of one round.

    Attributes
    ----------
    search_s, insert_s, delete_s : of each.
    exact_s, exact_all_s : of each exact search, with one thread and with all.
    recall : share of the exact answer that was found, of each.
    """

    search_s: list[float] = field(default_factory=list)
    insert_s: list[float] = field(default_factory=list)
    delete_s: list[float] = field(default_factory=list)
    exact_s: list[float] = field(default_factory=list)
    exact_all_s: list[float] = field(default_factory=list)
    recall: list[float] = field(default_factory=list)


def measure(items: int, keep: Path | None, progress: Progress) -> list[Row]:
    """Fill a catalogue, search it beside exact search, change it between searches, write its graph and load it again.

    Parameters
    ----------
    keep : a folder where the graph stays, so that the next run need not build it.
    """
    space = Space(items)
    with tempfile.TemporaryDirectory(prefix="afterclick-bench-", ignore_cleanup_errors=True) as name:
        path = (keep or Path(name)) / f"bench-{items}.usearch"
        with threadpool_limits(1, "blas"):  # as in a worker
            kept = graph_file.read(path, DIM, _model(items))
            fill_s = space.fill(kept, progress)
            if not len(space.catalogue.index.graph):
                raise ValueError(f"got {items} items, expected so many that there is a graph")
            write_s, stall_s = asyncio.run(_save(space.catalogue, path, _model(items)))
            rests = [_round(space, False) for _ in progress.track(range(ROUNDS), description="Searching")]
            restart_s = _restart_s(space, path, progress) if kept is None else fill_s
            busy = [_round(space, True) for _ in progress.track(range(ROUNDS), description="Searching and changing")]
    return [
        *_search_rows(space, rests),
        *_busy_rows(space, busy),
        Row(
            "items into a catalogue whose graph was kept",
            "items/s",
            [items / restart_s],
            "" if kept else "into a new graph",
            [] if kept else [items / fill_s],
            note="The file is read and each vector compared with it; vectors are at hand.",
        ),
        *([] if kept else [Row("the graph, written to disk", "s", [write_s])]),
        *([] if kept else [Row("longest wait of the event loop meanwhile", "ms", [stall_s * 1e3])]),
    ]


def _search_rows(space: Space, rounds: list[Round]) -> list[Row]:
    what = f"candidates for one user by text, {space.items:,} items"
    per_s = [1 / median(r.search_s) for r in rounds]
    exact = [1 / median(r.exact_s) for r in rounds]
    exact_all = [1 / median(r.exact_all_s) for r in rounds]
    target = Target(30, at_most=False, of="ratio") if space.items >= FULL_SIZE else None
    note = (
        f"Text-like vectors of {DIM}; 6 queries a user (4 prototypes, 2 means), the best {LIMIT}; ours on one thread."
    )
    return [
        Row(what, "users/s", per_s, EXACT, exact, target, note),
        Row(what, "users/s", per_s, EXACT_ALL, exact_all),
        *_latency_rows(what, rounds),
    ]


def _busy_rows(space: Space, rounds: list[Round]) -> list[Row]:
    what = f"the same, an insert or a delete after each search, {space.items:,} items"
    return [
        *_latency_rows(what, rounds),
        Row("inserts while it serves", "items/s", [1 / mean(r.insert_s) for r in rounds]),
        Row("longest insert while it serves", "ms", [max(r.insert_s) * 1e3 for r in rounds]),
        Row("deletes while it serves", "items/s", [1 / mean(r.delete_s) for r in rounds]),
    ]


def _latency_rows(what: str, rounds: list[Round]) -> list[Row]:
    p50, p99 = ([percentile(r.search_s, percent) * 1e3 for r in rounds] for percent in (50, 99))
    return [
        Row(f"{what}, p50", "ms", p50),
        Row(f"{what}, p99", "ms", p99, target=Target(10, at_most=True)),
        Row(
            f"{what}, recall@{LIMIT}",
            "of exact",
            [mean(r.recall) for r in rounds],
            target=Target(0.95, at_most=False),
        ),
    ]


def _round(space: Space, changing: bool) -> Round:
    """Search, with a change after each search if asked for; then compare some searches with exact ones."""
    done = Round()
    for number in range(SEARCHES):
        done.search_s.append(_timed(space.search, space.queries())[0])
        if changing:
            (done.delete_s if number % 2 else done.insert_s).append(
                space.delete_one() if number % 2 else space.move_one()
            )
    for _ in range(EXACT_SEARCHES):
        queries = space.queries()
        found = space.search(queries)
        one_s, exact = _timed(space.exact, queries)
        with threadpool_limits(os.cpu_count(), "blas"):
            all_s, _ = _timed(space.exact, queries)
        done.exact_s.append(one_s)
        done.exact_all_s.append(all_s)
        done.recall.append(len(found & exact) / LIMIT)
    return done


async def _save(catalogue: Catalogue, path: Path, model: str) -> tuple[float, float]:
    """Write the graph as a worker does; the seconds that it took, and the longest that the loop stood still."""
    saving = asyncio.create_task(GraphSnapshot(catalogue, path, model).save(PATIENCE_S))
    begin = last = time.perf_counter()
    longest_s = 0.0
    while not saving.done():
        await asyncio.sleep(TICK_S)
        longest_s, last = max(longest_s, time.perf_counter() - last - TICK_S), time.perf_counter()
    return last - begin, longest_s


def _restart_s(space: Space, path: Path, progress: Progress) -> float:
    """What the graph's file saves: read it, and put all items beside it."""
    before = space.catalogue
    read_s, graph = _timed(graph_file.read, path, DIM, _model(space.items))
    taken_s = read_s + space.fill(graph, progress)
    space.catalogue = before
    return taken_s


def _model(items: int) -> str:
    return f"bench {SEED}, {items}"


def _timed(action: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> tuple[float, T]:
    begin = time.perf_counter()
    result = action(*args, **kwargs)
    return time.perf_counter() - begin, result

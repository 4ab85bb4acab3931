"""The search graph on disk: it is read as it was written, or not at all."""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import REGISTRY

from encoders.interest import Vector
from ranker.recall import graph_file
from ranker.recall.catalogue import Catalogue, CatalogueItem
from ranker.recall.graph_file import GraphFileError
from streams.state import graph_snapshot
from streams.state.graph_snapshot import GraphSnapshot

DIM, ITEMS, EXACT, MODEL = 16, 1_200, 100, "a model"


def drawn(count: int, seed: int = 0) -> Vector:
    vectors = np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)
    unit: Vector = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def filled(catalogue: Catalogue, vectors: Vector, order: np.ndarray | None = None) -> Catalogue:
    for number in range(len(vectors)) if order is None else order.tolist():
        catalogue.put(CatalogueItem(f"i{number}", "title", "text"), vectors[number])
    return catalogue


def found(catalogue: Catalogue, queries: Vector, count: int = 20) -> list[str]:
    return [catalogue.at(row).item_id for row in catalogue.text.nearest(queries, count)[0].tolist()]


def exact(vectors: dict[str, Vector], query: Vector, count: int = 20) -> list[str]:
    return sorted(vectors, key=lambda item_id: -float(vectors[item_id] @ query[0]))[:count]


def count_of(name: str, outcome: str) -> float:
    return REGISTRY.get_sample_value(f"afterclick_graph_{name}_total", {"outcome": outcome}) or 0.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    vectors = drawn(ITEMS)
    graph_file.write(filled(Catalogue(DIM, EXACT), vectors).text.index.graph, tmp_path / "graph", MODEL)
    return tmp_path / "graph"


def test_a_restart_inserts_only_what_changed(path: Path) -> None:
    graph = graph_file.read(path, DIM, MODEL)
    assert graph is not None
    in_file = len(graph)
    assert in_file > ITEMS // 2
    rng = np.random.default_rng(1)
    vectors = drawn(ITEMS)
    vectors[:50] = drawn(50, seed=2)
    catalogue = filled(Catalogue(DIM, EXACT, graph), vectors, rng.permutation(np.arange(100, ITEMS)))
    assert catalogue.text.index.changes <= ITEMS - in_file, "unchanged items are not inserted again"
    before = catalogue.text.index.changes
    filled(catalogue, vectors[:50])
    for _ in catalogue.text.index.forget_unknown():
        pass
    assert 0 < catalogue.text.index.changes - before <= 50 * 2 + 300
    known = {f"i{number}": vectors[number] for number in [*range(50), *range(100, ITEMS)]}
    shares = []
    for seed in range(20):
        query = drawn(1, seed=100 + seed)
        shares.append(len(set(found(catalogue, query)) & set(exact(known, query))) / 20)
        assert set(found(catalogue, query)) <= known.keys()
    assert np.mean(shares) >= 0.95


def test_items_that_were_deleted_or_sold_out_meanwhile_are_not_found(path: Path) -> None:
    catalogue = Catalogue(DIM, EXACT, graph_file.read(path, DIM, MODEL))
    vectors = drawn(ITEMS)
    assert found(catalogue, vectors[:1]) == [], "the catalogue has no item yet"
    filled(catalogue, vectors[: ITEMS // 2])
    for number in range(100):
        catalogue.put(CatalogueItem(f"i{number}", "title", "text", available=False), vectors[number])
    steps = sum(1 for _ in catalogue.text.index.forget_unknown())
    assert steps > 0
    allowed = {f"i{number}" for number in range(100, ITEMS // 2)}
    for number in range(0, ITEMS, 50):
        got = found(catalogue, vectors[number : number + 1])
        assert set(got) <= allowed
        assert len(got) == 20


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda whole: b"",
    "half": lambda whole: whole[: len(whole) // 2],
    "without its end": lambda whole: whole[:-1],
    "a bit turned": lambda whole: whole[:5_000] + bytes([whole[5_000] ^ 1]) + whole[5_001:],
    "garbage": lambda whole: b"garbage " * 10_000,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_recognised(damage: str, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(GraphFileError) as error:
        graph_file.read(path, DIM, MODEL)
    assert error.value.reason == "damaged"
    before = count_of("loads", "damaged")
    with caplog.at_level(logging.WARNING):
        assert graph_snapshot.load(path, DIM, MODEL) is None
    assert count_of("loads", "damaged") == before + 1
    assert len(caplog.records) == 1


def test_another_models_graph_is_outdated(path: Path) -> None:
    for dim, model in ((DIM, "another model"), (DIM * 2, MODEL)):
        with pytest.raises(GraphFileError) as error:
            graph_file.read(path, dim, model)
        assert error.value.reason == "outdated"
    before = count_of("loads", "outdated")
    assert graph_snapshot.load(path, DIM, "another model") is None
    assert count_of("loads", "outdated") == before + 1


def test_without_a_file_there_is_no_graph(tmp_path: Path) -> None:
    assert graph_snapshot.load(tmp_path / "none", DIM, MODEL) is None
    assert count_of("loads", "none") > 0


KILLED = """
import sys
from pathlib import Path
from ranker.recall import graph_file
from ranker.recall.nearest_items import new_graph
import numpy as np
graph = new_graph(16)
graph.add(np.arange(500), np.zeros((500, 16), np.int8))
graph_file._checksum = lambda path, size: print("written", flush=True) or __import__("time").sleep(60)
graph_file.write(graph, Path(sys.argv[1]), "a model")
"""


def test_a_kill_in_the_middle_of_writing_leaves_the_old_file(path: Path) -> None:
    whole = path.read_bytes()
    writer = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"written\n"
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    assert len(list(path.parent.iterdir())) == 2, "the half-written file lies beside it"
    assert path.read_bytes() == whole
    assert graph_file.read(path, DIM, MODEL) is not None
    assert list(path.parent.iterdir()) == [path]


def test_a_snapshot_is_written_while_the_catalogue_changes(tmp_path: Path) -> None:
    vectors = drawn(ITEMS)
    catalogue = filled(Catalogue(DIM, EXACT), vectors)
    snapshot = GraphSnapshot(catalogue, tmp_path / "graph", MODEL)

    async def save_and_change() -> None:
        saving = asyncio.create_task(snapshot.save(30))
        await asyncio.sleep(0)  # here it forks
        while not saving.done():
            number = int(time.monotonic_ns() % ITEMS)
            catalogue.delete(f"i{number}")
            catalogue.put(CatalogueItem(f"i{number}", "title", "text"), vectors[number])
            await asyncio.sleep(0)

    at_fork = len(catalogue.text.index.graph)
    asyncio.run(save_and_change())
    graph = graph_file.read(tmp_path / "graph", DIM, MODEL)
    assert graph is not None
    assert len(graph) == at_fork


def test_a_snapshot_is_written_once_for_all_changes(tmp_path: Path) -> None:
    catalogue = filled(Catalogue(DIM, EXACT), drawn(ITEMS))
    snapshot = GraphSnapshot(catalogue, tmp_path / "graph", MODEL)
    before = count_of("saves", "saved")
    asyncio.run(snapshot.save(30))
    asyncio.run(snapshot.save(30))
    assert count_of("saves", "saved") == before + 1


def test_a_full_disk_is_counted_and_keeps_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    snapshot = GraphSnapshot(filled(Catalogue(DIM, EXACT), drawn(ITEMS)), tmp_path / "file" / "graph", MODEL)
    before = count_of("saves", "failed")
    asyncio.run(snapshot.save(30))
    assert count_of("saves", "failed") == before + 1


def test_a_small_catalogue_writes_no_file(tmp_path: Path) -> None:
    snapshot = GraphSnapshot(filled(Catalogue(DIM, EXACT), drawn(EXACT)), tmp_path / "graph", MODEL)
    asyncio.run(snapshot.save(30))
    assert list(tmp_path.iterdir()) == []

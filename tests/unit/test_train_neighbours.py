"""`afterclick train` with learnt neighbours: kept where they make lists better, and left out where they do not."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from encoders.events.entries import item_key
from encoders.text.encoder import TextEncoder
from ranker.evaluation.interactions import Interaction, Interactions
from ranker.features import NAMES, place
from ranker.load import load_recall, load_scorer
from ranker.neighbours.table import NeighbourTable
from ranker.progress import silent
from ranker.recall.learnt_neighbours import LearntNeighbours
from ranker.recall.merge import NOT_PROPOSED
from ranker.recall.trained import TrainedRecall
from ranker.train import learnt_sources
from ranker.train.fitted_source import FittedSource
from ranker.train.head_fit import HeadSettings
from ranker.train.learnt_neighbours import available_bytes, fit_neighbours
from ranker.train.learnt_sources import choose
from ranker.train.losses import softmax
from ranker.train.query_groups import QueryGroups
from ranker.train.recalled import RecalledGroups
from ranker.train.training_cases import training_cases
from streams.commands import compress, compression_report
from streams.commands.compression import Compression
from streams.commands.train import Training, run
from streams.contracts import Item
from streams.datasets.event_log import EventLog
from streams.offline.pipeline import Pipeline
from streams.offline.query_group_builder import QueryGroupBuilder
from streams.receive.message import Message
from streams.settings import CandidatesSettings, EncoderSettings, RankerSettings, Settings
from tests import models

DAY_MS, START_MS = 86_400_000, 1_700_000_000_000
NOW_MS = START_MS + 40 * DAY_MS
ITEMS, STEP, USERS, VISITS = 90, 7, 120, 6
GROUPS, WIDTH = 400, 12


def no_stage(_: str) -> Callable[[int, int], None]:
    return lambda *_: None


def shop() -> EventLog:
    """Each user goes from an item to the one `STEP` further: as often visited together with it is the one before."""
    drawn, events = random.Random(1), []
    for user in range(USERS):
        item, start_ms = drawn.randrange(ITEMS), START_MS + drawn.randrange(30 * DAY_MS)
        for visit in range(VISITS):
            events.append(Interaction(f"u{user}", f"i{item}", start_ms + visit * DAY_MS, "click", f"u{user}-{visit}"))
            item = (item + STEP) % ITEMS
    return EventLog([Item(item_id=f"i{number}", title="A thing") for number in range(ITEMS)], events, [], {})


def test_what_follows_an_item_is_learnt_and_served(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings(
        encoder=EncoderSettings(model=str(models.encoder(tmp_path / "encoder")), device="cpu", dtype="float32"),
        ranker=RankerSettings(model=str(tmp_path / "out"), device="cpu", dtype="float32"),
    )
    run(shop(), settings, Training(base="none", out=tmp_path / "out", max_minutes=60), to_json=True)
    printed = json.loads(capsys.readouterr().out)["learnt_neighbours"]
    description = json.loads((tmp_path / "out" / "afterclick.json").read_text(encoding="utf-8"))
    assert printed == description["trained"]["learnt_neighbours"]
    assert printed["kept"]
    assert printed["ndcg_at_10_with"] > 1.1 * printed["ndcg_at_10_without"]
    assert printed["items"] == ITEMS
    assert printed["items_left_out"] == 0
    assert printed["settings"]["kind"] == "slit"
    assert description["fusion"]["features"] == [*NAMES, place("learnt-neighbours"), *LearntNeighbours.columns]
    assert [source.name for source in load_recall(str(tmp_path / "out")).learnt] == ["learnt-neighbours"]
    scorer, encoder = load_scorer(settings.ranker.model), TextEncoder(settings.encoder.model, "cpu", "float32")
    pipeline = Pipeline(settings, encoder, scorer)
    pipeline.put_items(shop().items, 0)
    click = {"event_id": "e1", "user_id": "new", "item_id": "i40", "timestamp": NOW_MS}
    list_ = pipeline.feed(Message("clicks", 0, 0, b"new", json.dumps(click).encode()), NOW_MS)
    assert list_ is not None
    assert list_.degraded is None
    assert list_.items[0].item_id == f"i{40 + STEP}"
    assert "learnt-neighbours" in list_.items[0].sources


def recalled(skill: float) -> RecalledGroups:
    """One of `WIDTH` items is relevant, which a counter sees now and then, and the learnt source ranks first so often.

    The first third of the groups has no learnt source.
    """
    drawn, names = np.random.default_rng(1), (*NAMES, place("learnt-neighbours"), *LearntNeighbours.columns)
    ranks = np.full((GROUPS, WIDTH, 2), NOT_PROPOSED, np.int16)
    features = np.zeros((GROUPS, WIDTH, len(names)), np.float16)
    for group in range(GROUPS):
        ranks[group, : WIDTH - 2, 0] = drawn.permutation(WIDTH - 2)
        features[group, :, names.index("co_visited")] = drawn.normal(size=WIDTH) + 2 * (np.arange(WIDTH) == 0)
        if group >= GROUPS // 3:
            order = np.argsort(-(drawn.random(WIDTH) + (np.arange(WIDTH) == 0) * (drawn.random() < skill)))
            ranks[group, order, 1] = np.arange(WIDTH)
            features[group, order, names.index(place("learnt-neighbours"))] = 1 / (1 + np.arange(WIDTH))
    shape = GROUPS, WIDTH
    groups = QueryGroups(
        texts=[f"item {number}" for number in range(WIDTH)],
        event_texts=[f"item {number}" for number in range(WIDTH)],
        contexts=["Viewed item 1"] * GROUPS,
        events=[np.array([1], np.int32)] * GROUPS,
        candidates=np.tile(np.arange(WIDTH, dtype=np.int32), (GROUPS, 1)),
        labels=np.tile(np.arange(WIDTH) == 0, (GROUPS, 1)),
        relevant_counts=np.ones(GROUPS, np.int32),
        is_cold=np.zeros(shape, bool),
        cold_counts=np.zeros(GROUPS, np.int32),
        users=np.arange(GROUPS, dtype=np.int32),
        retrieval_scores=np.zeros(shape, np.float32),
        features=features,
        feature_names=names,
    )
    return RecalledGroups(groups, ("co-visited", "learnt-neighbours"), ranks)


@pytest.mark.parametrize(("skill", "kept"), [(0.7, True), (0.0, False)])
def test_a_learnt_source_is_kept_only_if_it_makes_lists_better(skill: float, kept: bool) -> None:
    head = HeadSettings(softmax, 1, deadline=time.monotonic() + 3_600)
    chosen = choose(recalled(skill), [LearntNeighbours], WIDTH, head, lambda *_: None)
    assert chosen.kept == ["learnt-neighbours"] * kept
    facts = chosen.judged["learnt-neighbours"]
    assert (facts["difference"] > facts["standard_error"]) == kept
    assert (place("learnt-neighbours") in chosen.groups.feature_names) == kept
    assert len(chosen.groups) == (GROUPS - GROUPS // 3 if kept else GROUPS)
    assert chosen.groups.is_candidate.all() == kept, "the last two items have no other source"
    assert ("learnt-neighbours" in chosen.merge.merge.weights) == kept or chosen.merge.name == "fixed weights"


def test_where_no_group_has_the_source_there_is_nothing_to_judge() -> None:
    """The time was over before the first cut of the log."""
    groups = recalled(0.7)[np.arange(GROUPS // 3)]
    chosen = choose(groups, [LearntNeighbours], WIDTH, HeadSettings(softmax, 1, deadline=0.0), lambda *_: None)
    assert not chosen.kept
    assert chosen.judged == {"learnt-neighbours": {"kept": False}}
    assert chosen.groups.feature_names == NAMES


def in_order(event_log: EventLog) -> Interactions:
    return Interactions.of(sorted(event_log.events, key=lambda event: event.time_ms))


def test_a_group_reads_a_table_that_does_not_know_its_events(tmp_path: Path) -> None:
    """The last events go another way; only the table of the whole log knows it. A checkpoint keeps all tables."""
    event_log = shop()
    last_ms = max(event.time_ms for event in event_log.events)
    turns = [
        Interaction(f"new{user}", f"i{item}", last_ms + step, "click")
        for user in range(20)
        for step, item in enumerate((3, 50))
    ]
    log = Interactions.of([*in_order(event_log), *turns])
    ids = [item.item_id for item in event_log.items]
    fitted = fit_neighbours(log, training_cases(log, "unbought", 1), ids, time.monotonic() + 3_600, no_stage)
    assert fitted is not None
    fitted.save(tmp_path)
    kept = FittedSource.load(tmp_path, LearntNeighbours)
    assert kept is not None
    assert kept.begins == fitted.begins
    assert kept.facts == fitted.facts
    key = np.array([item_key("i50")], np.uint64)
    for sources in ([*fitted.sources, fitted.final], [*kept.sources, kept.final]):
        tables = [source.table for source in sources if isinstance(source, LearntNeighbours)]
        found = [table.scores([item_key("i3")]).scores[table.index(key)[0]] for table in tables]
        assert found[:-1] == [0, 0, 0]
        assert found[-1] > 0
    assert FittedSource.load(tmp_path / "none", LearntNeighbours) is None


def test_a_group_before_the_first_cut_has_no_table_and_each_later_one_the_newest(tmp_path: Path) -> None:
    log = in_order(shop())
    cases = sorted(training_cases(log, "unbought", 1), key=lambda case: (case.log_index, case.user))[::12]
    keys = np.sort(np.array([item_key(f"i{number}") for number in range(ITEMS)], np.uint64))
    cuts, weights = (200, 400), (1.0, 0.25)
    tables = [
        NeighbourTable(
            keys, np.arange(ITEMS + 1), np.roll(np.arange(ITEMS, dtype=np.int32), 1), np.full(ITEMS, w, "f4"), 1
        )
        for w in weights
    ]
    trained = [(cut, TrainedRecall((LearntNeighbours(one),))) for cut, one in zip(cuts, tables, strict=True)]
    encoder = TextEncoder(str(models.encoder(tmp_path)), "cpu", "float32")
    groups = QueryGroupBuilder(Settings(), encoder, shop().items, trained).build(log, cases, float("inf"), silent)
    highest = groups.groups.features[:, :, groups.groups.feature_names.index("learnt_neighbour")].max(axis=1)
    expected = [0.0, *(np.log2(1 + weight * 2**12) for weight in weights)]
    numbers = np.searchsorted(cuts, [case.log_index for case in cases], "right")
    assert set(numbers) == {0, 1, 2}
    assert highest.tolist() == pytest.approx([expected[number] for number in numbers], abs=0.1)
    assert groups.sources[-1] == "learnt-neighbours"
    proposed = (groups.ranks[:, :, -1] != NOT_PROPOSED).any(axis=1)
    assert (proposed == (numbers > 0)).all()


def test_without_enough_cases_or_time_nothing_is_learnt() -> None:
    log = in_order(shop())
    ids, cases = [f"i{number}" for number in range(ITEMS)], training_cases(log, "unbought", 1)
    assert fit_neighbours(log, cases[:20], ids, time.monotonic() + 3_600, no_stage) is None
    assert fit_neighbours(log, cases, ids, time.monotonic() - 1, no_stage) is None


def test_the_available_memory_is_the_least_of_machine_and_control_group(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  9 kB\nMemAvailable:    2000 kB\n", encoding="ascii")
    assert available_bytes(meminfo, tmp_path) == 2_048_000
    (tmp_path / "memory.current").write_text("1000\n", encoding="ascii")
    for most, expected in (("max", 2_048_000), ("501000", 500_000), ("9000000", 2_048_000)):
        (tmp_path / "memory.max").write_text(f"{most}\n", encoding="ascii")
        assert available_bytes(meminfo, tmp_path) == expected
    assert available_bytes(tmp_path / "none", tmp_path / "none") == float("inf")
    assert available_bytes() > 0


def test_compressing_keeps_what_the_teacher_has_for_recall(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Learnt sources and merge are learnt again on the log, so that the student's head reads what its folder holds."""
    monkeypatch.setattr(compression_report, "TIMED_ROUNDS", 1)
    monkeypatch.setattr(learnt_sources, "MIN_ERRORS", -100.0)
    monkeypatch.setattr(learnt_sources, "MIN_JUDGED", 1)
    settings = Settings(
        encoder=EncoderSettings(model=str(models.encoder(tmp_path / "encoder")), device="cpu", dtype="float32"),
        ranker=RankerSettings(device="cpu", dtype="float32", max_candidates=20),
        candidates=CandidatesSettings(limit=20),
    )
    base, teacher, out = str(models.packed(tmp_path / "base")), tmp_path / "teacher", tmp_path / "out"
    of_teacher = Training(base=base, out=teacher, epochs=0, max_query_groups=200)
    run(shop(), settings, of_teacher, to_json=True)
    monkeypatch.setattr(learnt_sources, "MIN_ERRORS", 100.0)  # they stay, however the groups of this run judge them
    of_student = Compression(model=str(teacher), out=out, way="prune", epochs=0, max_query_groups=150)
    compress.run(shop(), settings, of_student, to_json=True)
    assert "got too little time or memory" not in capsys.readouterr().err
    before, after = (json.loads((folder / "afterclick.json").read_text(encoding="utf-8")) for folder in (teacher, out))
    assert after["fusion"] == before["fusion"]
    assert set(LearntNeighbours.columns) <= set(after["fusion"]["features"])
    assert "merge" in after or after["trained"]["query_groups"]
    of_both = [load_recall(str(folder)) for folder in (teacher, out)]
    assert [source.name for recall in of_both for source in recall.learnt] == ["learnt-neighbours", "adapted-text"] * 2
    served = load_scorer(str(out), "cpu", "float32")
    assert served.feature_set is not None
    assert served.feature_set.names == tuple(after["fusion"]["features"])

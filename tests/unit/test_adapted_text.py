"""The adapted space in a state tier: new items, a newer model, a damaged file; and training, which makes it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from encoders.models.source import ModelUnsupported
from encoders.text.encoder import TextEncoder
from ranker.evaluation.interactions import Interaction
from ranker.features import NAMES, place
from ranker.load import load_recall
from ranker.recall.adapted_text import AdaptedText
from ranker.recall.candidates import BUILT_IN
from ranker.recall.catalogue import Catalogue
from ranker.recall.trained import TrainedRecall
from ranker.spaces import fit as fitting
from ranker.spaces.adapter import Adapter
from streams.contracts import Click, Item, RankRequest
from streams.datasets.event_log import EventLog
from streams.offline.pipeline import Pipeline
from streams.offline.training_data import gather, parts, sources_facts
from streams.offline.training_run import TrainingRun
from streams.settings import CandidatesSettings, EncoderSettings, RankerSettings, Settings
from streams.state import recall_metrics
from streams.state.decays import counts_of
from streams.state.model_follower import follow
from streams.state.tier import StateTier
from streams.state.users import Users
from tests import models
from tests.unit.test_rank_again import until

DIM, NOW, DAY_MS = 4, 1_700_000_000_000, 86_400_000
AXES = np.eye(DIM, dtype=np.float32)
GROUPS, OF_A_GROUP = ("red", "blue", "round", "flat", "large", "small", "old", "new"), 15


def no_stage(_: str) -> Callable[[int, int], None]:
    return lambda *_: None


def leading(by: int) -> Adapter:
    """From a text on one axis to the items on the axis so many further."""
    queries = np.roll(AXES, by, axis=1)[None]
    return Adapter(np.zeros(DIM, np.float32), AXES, queries, np.array([1], np.float32), 1.0, 10.0)


def folder(at: Path, adapter: Adapter) -> Path:
    at.mkdir()
    (at / "afterclick.json").write_text('{"base": "none"}', encoding="utf-8")
    AdaptedText(adapter).save(at / AdaptedText.file)
    return at


def put(tier: StateTier, number: int, axis: int) -> None:
    tier.put_item(Item(item_id=f"i{number}", title=f"thing {number}"), AXES[axis], NOW)


def state_tier(model: Path) -> StateTier:
    settings = Settings(ranker=RankerSettings(model=str(model)), candidates=CandidatesSettings(features="always"))
    tier = StateTier(settings, Users({}, DIM), Catalogue(DIM), counts_of(settings), BUILT_IN)
    for number in range(12):
        put(tier, number, number % DIM)
    tier.accept("ann", [Click(event_id="e", user_id="ann", item_id="i0", timestamp=NOW)])
    return tier


def best_of(request: RankRequest, count: int) -> set[str]:
    """The items with the highest score in the adapted space, which the source proposes, too."""
    assert request.features is not None
    rows = np.frombuffer(request.features.values, "<f2").reshape(len(request.candidates), -1)
    assert all("adapted-text" in candidate.sources for candidate in request.candidates)
    best = np.argsort(-rows[:, -len(AdaptedText.columns)], kind="stable")[:count]
    return {request.candidates[index].item_id for index in best.tolist()}


def test_an_item_has_its_place_on_arrival_and_a_newer_model_places_all_again(tmp_path: Path) -> None:
    current = tmp_path / "adapted"
    current.symlink_to(folder(tmp_path / "one", leading(by=1)))
    tier = state_tier(current)
    assert best_of(tier.request("ann", None, None), 3) == {"i1", "i5", "i9"}
    put(tier, 99, axis=1)
    assert best_of(tier.request("ann", None, None), 4) == {"i1", "i5", "i9", "i99"}

    async def swap() -> None:
        following = asyncio.create_task(follow(tier.requests, RankerSettings(model=str(current), follow_s=0.02)))
        await asyncio.sleep(0)
        link = tmp_path / "next"
        link.symlink_to(folder(tmp_path / "two", leading(by=2)))
        link.replace(current)
        await until(lambda: recall_metrics.swaps.labels("adapted", "served")._value.get() == 1)
        following.cancel()

    asyncio.run(swap())
    assert best_of(tier.request("ann", None, None), 3) == {"i2", "i6", "i10"}
    put(tier, 100, axis=2)
    assert best_of(tier.request("ann", None, None), 4) == {"i2", "i6", "i10", "i100"}


def test_an_adapter_of_another_encoder_is_refused(tmp_path: Path) -> None:
    model = folder(tmp_path / "model", leading(by=1))
    settings = Settings(ranker=RankerSettings(model=str(model)))
    with pytest.raises(ModelUnsupported, match="4 numbers, expected 5"):
        StateTier(settings, Users({}, 5), Catalogue(5), counts_of(settings), BUILT_IN)


@pytest.mark.parametrize(
    "wrong",
    [{"mean": np.zeros(3, np.float32)}, {"decays": np.array([0], np.float32)}, {"scale": float("nan")}, None],
)
def test_a_damaged_file_is_refused(tmp_path: Path, wrong: dict[str, Any] | None) -> None:
    model = folder(tmp_path / "model", leading(by=1))
    file = model / AdaptedText.file
    if wrong is None:
        file.write_bytes(file.read_bytes()[:-9])
    else:
        replace(leading(by=1), **wrong).save(file)
    with pytest.raises(ModelUnsupported, match=r"adapted-text.safetensors: got (no|an) adapter"):
        load_recall(str(model))


def shop() -> EventLog:
    """Each user goes on from a group of texts to the next one; an item has some two events."""
    drawn, events = random.Random(1), []
    items = [Item(item_id=f"{group}-{n}", title=f"{group} {group}") for group in GROUPS for n in range(OF_A_GROUP)]
    for user in range(250):
        group, start_ms = drawn.randrange(len(GROUPS)), NOW + drawn.randrange(30 * DAY_MS)
        for visit in range(4):
            item = f"{GROUPS[(group + visit) % len(GROUPS)]}-{drawn.randrange(OF_A_GROUP)}"
            events.append(Interaction(f"u{user}", item, start_ms + visit * DAY_MS, "click", f"u{user}-{visit}"))
    return EventLog(items, events, [], {})


def test_training_adapts_texts_and_a_new_item_is_found_by_its_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second run reads what the first has kept."""
    monkeypatch.setattr(fitting, "LEARNING_RATE", 0.01)
    settings = Settings(
        encoder=EncoderSettings(model=str(models.encoder(tmp_path / "encoder")), device="cpu", dtype="float32"),
        candidates=CandidatesSettings(limit=30),
    )
    of_run = TrainingRun(out=tmp_path / "out", max_query_groups=400)
    data = gather(shop(), settings, of_run)
    checkpoint = data.checkpoint(of_run, settings)
    [fitted] = data.learnt(settings, checkpoint, {AdaptedText: time.monotonic() + 3_600}, no_stage)
    chosen = data.query_groups(settings, checkpoint, time.monotonic() + 3_600, no_stage, [fitted])
    facts = sources_facts([fitted], chosen)["adapted_text"]
    assert facts["kept"]
    assert facts["epochs"][0] > 0
    assert max(facts["recall_alone"][0]) > 1.2 * facts["recall_alone"][0][0]
    assert chosen.groups.feature_names == (*NAMES, place("adapted-text"), *AdaptedText.columns)
    assert parts(checkpoint, chosen) == [checkpoint.folder / "adapted-text" / "adapted-text.safetensors"]
    [again] = data.learnt(settings, checkpoint, {AdaptedText: 0.0}, no_stage)
    assert again.facts == fitted.facts

    trained = TrainedRecall((again.final,), needs_features=True)
    pipeline = Pipeline(settings, TextEncoder(settings.encoder.model, "cpu", "float32"), None, trained)
    pipeline.put_items([*shop().items, Item(item_id="newest", title="flat flat")], 0)
    pipeline.state.accept("new", [Click(event_id="e", user_id="new", item_id="round-3", timestamp=NOW)])
    shopper = pipeline.state.requests.shopper(pipeline.state.users.get("new").interest)
    best = again.final.find(shopper, OF_A_GROUP + 1).rows.tolist()
    found = {pipeline.state.catalogue.at(row).item_id for row in best}
    assert found == {"newest", *(f"flat-{number}" for number in range(OF_A_GROUP))}


def test_without_enough_cases_or_time_nothing_is_adapted(tmp_path: Path) -> None:
    settings = Settings(encoder=EncoderSettings(model=str(models.encoder(tmp_path / "encoder")), device="cpu"))
    for name, groups, deadline in (("few", 40, float("inf")), ("late", 500, time.monotonic())):
        of_run = TrainingRun(out=tmp_path / name, max_query_groups=groups)
        data = gather(shop(), settings, of_run)
        assert data.learnt(settings, data.checkpoint(of_run, settings), {AdaptedText: deadline}, no_stage) == []

"""A head may read how often each candidate was shown without a click; a model without the part has no such column."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest

from encoders.event_time import milliseconds
from encoders.events.shown_lists import ANSWER_MS, MAX_LISTS, seen_list
from encoders.models.source import ModelUnsupported
from encoders.text.encoder import TextEncoder
from ranker import features
from ranker.evaluation.impressions import ShownList, impressions
from ranker.evaluation.interactions import Interaction, Interactions
from ranker.evaluation.signs import Sign
from ranker.recall.fatigue import Fatigue
from ranker.recall.trained import NOTHING, TrainedRecall
from ranker.score import FeatureSet
from streams.contracts import Item
from streams.offline.source_fits import fit_fatigue
from streams.offline.split_pipeline import SplitPipeline
from streams.settings import EncoderSettings, Settings
from tests import models

START, STEP_MS = 1_790_000_000_000, 3_600_000
ITEMS = [f"i{number}" for number in range(12)]


def shop(seed: int) -> tuple[Interactions, list[ShownList]]:
    """Users who are shown five items an hour, and click one of them or none."""
    rng, events, shown = random.Random(seed), list[Interaction](), list[ShownList]()
    for number in range(60):
        user, at = f"u{number % 4}", START + number * STEP_MS
        page = ShownList(f"l{number}", user, tuple(rng.sample(ITEMS, 5)), at)
        shown.append(page)
        if rng.random() < 0.6:
            events.append(Interaction(user, rng.choice(page.items), at + 60_000, list_id=page.list_id))
    log = Interactions.of(events)
    log.signs = [
        Sign(one.time_ms, one.user, shown=seen_list(one.user, one.list_id, one.items, one.time_ms)) for one in shown
    ]
    return log, shown


def test_the_feature_is_what_was_shown_since_the_last_click(tmp_path: Path) -> None:
    settings = Settings(encoder=EncoderSettings(model=str(models.encoder(tmp_path)), device="cpu", dtype="float32"))
    log, shown = shop(1)
    split = impressions(log, shown, 3)
    trained, items = (
        TrainedRecall((Fatigue(),), version="v", needs_features=True),
        [Item(item_id=i, title=i) for i in ITEMS],
    )
    pipeline = SplitPipeline(settings, TextEncoder(settings.encoder.model, "cpu", "float32"), items, split, trained)
    names, counted = features.names(trained.learnt), set[int]()
    for case, request in zip(split.cases, pipeline.all_requests(False, lambda *_: None), strict=True):
        sent = request.features
        assert sent is not None
        values = features.read(sent.schema, sent.version, sent.values, len(request.candidates), FeatureSet(names, "v"))
        assert values is not None
        for candidate, row in zip(request.candidates, values[:, names.index("unclicked")], strict=True):
            clicks = [
                e.time_ms
                for e in log
                if (e.user, e.item) == (case.user, candidate.item_id) and e.time_ms < case.as_of_ms
            ]
            since, as_of_ms = max(clicks, default=0), milliseconds(request.as_of)
            kept = [one for one in shown if one.user == case.user and one.time_ms < case.as_of_ms][-MAX_LISTS:]
            count = sum(candidate.item_id in one.items for one in kept if since < one.time_ms <= as_of_ms - ANSWER_MS)
            assert row == pytest.approx(math.log2(1 + count), abs=1e-3)
            counted.add(count)
    assert max(counted) > 2


def test_a_model_without_the_part_has_no_such_column(tmp_path: Path) -> None:
    assert "unclicked" not in features.names(NOTHING.learnt)
    log, _ = shop(1)
    assert fit_fatigue(log) is not None
    log.signs = []
    assert fit_fatigue(log) is None, "a log without impressions"
    path = tmp_path / Fatigue.file
    Fatigue().save(path)
    assert Fatigue.read(path).columns == ("unclicked",)
    path.write_text("{}")
    with pytest.raises(ModelUnsupported, match=r"fatigue.json: got another content.*; train the model again"):
        Fatigue.read(path)

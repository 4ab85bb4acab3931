"""The model that comes with Afterclick, in shops that it was not trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ranker.load import load_scorer
from ranker.train.head_fit import fused
from ranker.train.scoring import score
from streams.datasets.event_log import synthetic
from streams.offline.training_data import gather
from streams.offline.training_run import TrainingRun
from tests.field.test_known_tastes import MODEL, SETTINGS, of_the_system, shop


def test_the_default_ranker_beats_its_base_in_a_shop_that_it_never_saw(tmp_path: Path) -> None:
    """Cases: 200 moments of visits. Targets: what else their users chose in them."""
    training = TrainingRun(out=tmp_path, max_query_groups=200)
    data = gather(synthetic(77, 3_000), SETTINGS, training)
    checkpoint = data.checkpoint(training, SETTINGS)
    groups = data.query_groups(SETTINGS, checkpoint, float("inf"), lambda _: lambda *_: None).groups
    default: Any = load_scorer("default", "cpu", "float32")
    scored = score(default.base, groups, float("inf"), lambda *_: None)
    assert fused(default._head, scored).ndcg() > 1.1 * scored.ndcg()


def test_where_only_titles_tell_it_is_at_most_a_tenth_worse_than_the_cosines() -> None:
    reached = [of_the_system(shop(seed)[0], "default", MODEL) for seed in (3, 4)]
    default, cosines = map(sum, zip(*reached, strict=True))
    assert default >= 0.9 * cosines

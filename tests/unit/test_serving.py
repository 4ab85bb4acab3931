"""A model's folder changes while lists are made: which model serves, which is refused, and that no list is lost."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import generate_latest

from encoders.models.source import ModelUnsupported
from ranker import version
from ranker.features import NAMES
from ranker.load import load_scorer
from ranker.score import ScoreRequest
from ranker.scorers import known_answers
from streams import metrics
from streams.contracts import Candidate, HistoryEvent, RankRequest, Recommendations
from streams.models.client import Models
from streams.rank.serving import Serving
from streams.rank.tier import RankTier
from streams.settings import RankerSettings, Settings
from tests import models
from tests.unit.test_fusion import folder as fused
from tests.unit.test_known_pairs import fill
from tests.unit.test_rank_worker import Slow

FOLLOW_S = 0.05
NOW = 1_795_000_000_000
PATIENCE_S = 60.0
TEXTS = ["Blue shoes size 42", "Umbrella", "Red tent for two", "Coffee maker", "Wool hat"]
USERS = [f"user-{number}" for number in range(400)]


def request(user_id: str = "ann") -> RankRequest:
    return RankRequest(
        request_id="r",
        user_id=user_id,
        as_of=NOW,
        history=[HistoryEvent(item_id="i", type="click", timestamp=NOW, title="Wool hat")],
        candidates=[Candidate(item_id=f"c{position}", text=text) for position, text in enumerate(TEXTS)],
    )


def settings_of(folder: Path, **more: object) -> Settings:
    ranker = {"model": str(folder), "follow_s": FOLLOW_S, "timeout_ms": 500, "device": "cpu", "dtype": "float32"}
    return Settings(ranker=RankerSettings(**(ranker | more)))


def lists_while(
    settings: Settings, change: Callable[[], object], until: Callable[[Recommendations], bool]
) -> list[str]:
    """Make lists without a pause and change the folder. Returns the models of all lists until `until` holds for one."""

    async def run() -> list[str]:
        made: list[str] = []
        with closing(Serving(None, settings.ranker)) as serving:
            serving.load()
            tier = RankTier(settings, *serving.scorers)
            following = asyncio.create_task(serving.follow(tier))
            deadline = time.monotonic() + PATIENCE_S
            while time.monotonic() < deadline:
                [list_] = await asyncio.to_thread(tier.rank, [request()], NOW)
                assert list_.degraded is None
                made.append(list_.model)
                if len(made) == 4:
                    change()
                elif len(made) > 4 and until(list_):
                    following.cancel()
                    return made
                assert not following.done()
        raise AssertionError(f"still waiting after {PATIENCE_S:g} s: {made[-1]}")

    return asyncio.run(run())


def test_a_model_that_replaces_the_folder_makes_the_lists_and_none_is_lost(tmp_path: Path) -> None:
    shop, newer = models.packed(tmp_path / "shop"), models.decoder(tmp_path / "newer")
    before, after = version.version(str(shop)), f"shop@{version.version(str(newer)).rsplit('@')[-1]}"
    metrics.lists.labels(before).inc()

    def replaced() -> None:
        shutil.rmtree(shop)
        newer.rename(shop)

    def is_over(list_: Recommendations) -> bool:
        return list_.model == after and before not in generate_latest().decode()

    made = lists_while(settings_of(shop), replaced, is_over)
    assert set(made) == {before, after}
    assert str(tmp_path) not in generate_latest().decode(), "a path of this host"
    assert made == sorted(made, key=[before, after].index), "never back"


@pytest.mark.parametrize("fault", ["other answers", "scores that are not finite"])
def test_a_model_with_wrong_scores_is_refused(tmp_path: Path, fault: str, caplog: pytest.LogCaptureFixture) -> None:
    shop, wrong = models.packed(tmp_path / "shop"), models.encoder(tmp_path / "wrong")
    known_answers.write(shop, load_scorer(str(shop), "cpu", "float32"), [ScoreRequest("Viewed Wool hat", TEXTS)])
    if fault == "other answers":
        shutil.copy(shop / known_answers.FILE, wrong)
    else:
        wrong = fill(models.classifier(tmp_path / "wrong"), float("nan"), "classifier")
    before, refused = version.version(str(shop)), metrics.model_swaps.labels("shop", "refused")
    refused_before = refused._value.get()

    def replaced() -> None:
        shutil.rmtree(shop)
        wrong.rename(shop)

    made = lists_while(settings_of(shop), replaced, lambda _: refused._value.get() > refused_before)
    assert set(made) == {before}
    assert ("known answers" if fault == "other answers" else fault) in caplog.text


def test_a_model_must_reproduce_its_known_answers(tmp_path: Path) -> None:
    base = models.encoder(tmp_path / "base")
    folder = fused(tmp_path / "fused", str(base))
    scorer = load_scorer(str(folder), "cpu", "float32")
    features = np.random.default_rng(1).normal(size=(len(TEXTS), len(NAMES))).astype(np.float16)
    known_answers.write(folder, scorer, [ScoreRequest("Viewed Wool hat", TEXTS, features=features)])
    load_scorer(str(folder), "cpu", "float32")
    fused(folder, str(base), seed=2)
    with pytest.raises(ModelUnsupported, match="known answers"):
        load_scorer(str(folder), "cpu", "float32")
    (folder / known_answers.FILE).write_text("[{}]", encoding="utf-8")
    with pytest.raises(ModelUnsupported, match="copy the folder again"):
        load_scorer(str(folder), "cpu", "float32")


def test_two_models_share_the_users(tmp_path: Path) -> None:
    model, challenger = models.packed(tmp_path / "one"), models.encoder(tmp_path / "other")
    settings = settings_of(model, challenger=str(challenger), challenger_share=0.25)
    with closing(Serving(None, settings.ranker)) as serving:
        serving.load()
        tier = RankTier(settings, *serving.scorers)
        variants = [tier.variant(user) for user in USERS]
        assert 0.18 < sum(variants) / len(variants) < 0.32
        assert variants == [tier.variant(user) for user in USERS], "a user stays with a model"
        for variant, folder in enumerate((model, challenger)):
            user = USERS[variants.index(variant)]
            [list_] = tier.rank([request(user)], NOW)
            assert list_.model == version.version(str(folder))
            [list_] = tier.rank_without_model([request(user)], "overload", NOW)
            assert list_.model == version.version(str(folder))


def test_no_model_may_challenge_a_model() -> None:
    tier = RankTier(Settings(ranker=RankerSettings(challenger="none", challenger_share=0.5)), Slow(), None)
    for variant, expected in enumerate((("slow", None), ("none", "no-model"))):
        user = next(user for user in USERS if tier.variant(user) == variant)
        [list_] = tier.rank([request(user)], NOW)
        assert (list_.model, list_.degraded) == expected


def test_the_encoder_stays_when_the_scorer_goes(tmp_path: Path) -> None:
    encoder = Settings().encoder.model_copy(update={"model": str(models.encoder(tmp_path / "encoder"))})
    ranker = settings_of(models.packed(tmp_path / "shop")).ranker
    with closing(Models(encoder, ranker)) as running:
        running.load()
        assert running.encoder is not None
        before = running.encoder.encode(TEXTS)
        running.drop_scorer()
        assert running.scorer is None
        assert (running.encoder.encode(TEXTS) == before).all()

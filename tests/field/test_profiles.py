"""Each profile of settings is better in a world of its kind than that of shops, by a tenth of NDCG@10 at least."""

from __future__ import annotations

import pytest

from encoders.text.encoder import TextEncoder
from ranker.load import load_scorer
from ranker.score import Scorer
from streams.bench import profiles
from streams.settings import EncoderSettings, Settings

PEOPLE, LISTS = 12, 20


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return TextEncoder(EncoderSettings().model)


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return load_scorer("default")


@pytest.mark.parametrize("world", profiles.WORLDS)
def test_a_profile_wins_at_home(
    world: str, encoder: TextEncoder, scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiles, "LISTS", LISTS)
    steps = profiles.WORLDS[world](7, PEOPLE)
    vectors = profiles.vectors_of(encoder, steps)
    own, shop = (
        profiles.ndcg(Settings.model_validate({"profile": profile}), steps, vectors, scorer)
        for profile in (world, "shop")
    )
    assert own >= 1.1 * shop

"""What a model's folder brings along for recall: served by the state tier, followed, and never read by another head."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from encoders.events.entries import item_key
from encoders.interest import Vector
from encoders.models.source import ModelUnsupported
from ranker.features import NAMES
from ranker.fusion.head import FusionHead, describe
from ranker.load import load_recall, load_scorer
from ranker.recall import trained
from ranker.recall.candidates import BUILT_IN, Proposals
from ranker.recall.catalogue import Catalogue
from ranker.recall.item_columns import ItemColumns
from ranker.recall.user_view import UserView
from ranker.version import version
from streams.contracts import Click, Item, RankRequest
from streams.metric_labels import DEGRADED_REASONS
from streams.rank.tier import RankTier
from streams.settings import CandidatesSettings, RankerSettings, Settings
from streams.state import recall_metrics
from streams.state.decays import counts_of
from streams.state.model_follower import follow
from streams.state.tier import StateTier
from streams.state.users import Users
from tests.unit.test_rank_again import until

DIM, NOW = 4, 1_700_000_000_000
FILE = "liked.json"
ITS_ORDER = {"liked-most": [16.0, 0.0]}


class Liked:
    """A learnt source: the items of a list in its file, and a feature that is 7 for them."""

    file = FILE
    name = "liked-most"
    columns: ClassVar[tuple[str, ...]] = ("liked",)

    def __init__(self, item_ids: list[str]) -> None:
        self._keys = [item_key(item_id) for item_id in item_ids]

    @classmethod
    def read(cls, path: Path) -> Liked:
        try:
            return cls(json.loads(path.read_text(encoding="utf-8")))
        except ValueError as error:
            raise ModelUnsupported(f"{path}: got no list") from error

    def save(self, path: Path) -> None:
        raise NotImplementedError

    def enter(self, catalogue: Catalogue) -> Iterator[None]:
        return iter(())

    def find(self, user: UserView, limit: int) -> Proposals:
        return Proposals(user.catalogue.recommendable(self._keys)[1][:limit])

    def features(self, user: UserView, items: ItemColumns) -> Vector:
        return 7 * np.isin(items.keys, self._keys)[:, None].astype(np.float32)


@pytest.fixture(autouse=True)
def _parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(trained.PARTS, FILE, Liked)


def folder(at: Path, liked: list[str] | None, merge: dict[str, list[float]] | None = None) -> Path:
    """A model's folder whose head scores what is liked, or else how early an item is in the order of its text."""
    at.mkdir(exist_ok=True)
    names = NAMES if liked is None else (*NAMES, "liked_most_place", "liked")
    inputs = 1 + len(names)
    linear = np.zeros(inputs, np.float32)
    linear[-1] = 1
    zeros, ones = np.zeros((inputs, 1), np.float32), np.ones(inputs, np.float32)
    FusionHead(0 * ones, ones, linear, zeros, np.zeros(1, np.float32), np.zeros(1, np.float32)).save(at)
    description = {"base": "none", "fusion": describe(names)} | ({} if merge is None else {"merge": merge})
    (at / "afterclick.json").write_text(json.dumps(description), encoding="utf-8")
    if liked is not None:
        (at / FILE).write_text(json.dumps(liked), encoding="utf-8")
    return at


def state_tier(model: Path, **ranker: Any) -> StateTier:
    settings = Settings(
        ranker=RankerSettings(model=str(model), follow_s=0.02, **ranker), candidates=CandidatesSettings(limit=5)
    )
    tier = StateTier(settings, Users({}, DIM), Catalogue(DIM), counts_of(settings), BUILT_IN)
    for number in range(30):
        tier.put_item(Item(item_id=f"i{number}", title=f"thing {number}"), np.eye(DIM, dtype=np.float32)[number % 4], 0)
    tier.accept("ann", [Click(event_id="e", user_id="ann", item_id="i0", timestamp=NOW)])
    return tier


def sources_of(request: RankRequest, name: str) -> set[str]:
    return {candidate.item_id for candidate in request.candidates if name in candidate.sources}


def test_a_learnt_source_proposes_and_its_numbers_reach_its_own_head(tmp_path: Path) -> None:
    made = folder(tmp_path / "made", ["i7", "i9"], ITS_ORDER)
    request = state_tier(made).request("ann", None, None)
    assert sources_of(request, "liked-most") == {"i7", "i9"}
    assert [candidate.item_id for candidate in request.candidates[:2]] == ["i7", "i9"], "by the merge of the folder"
    assert request.features is not None
    assert request.features.version == load_recall(str(made)).version != ""
    rows = np.frombuffer(request.features.values, "<f2").reshape(len(request.candidates), len(NAMES) + 2)
    assert rows[:2, -2:].tolist() == [[1, 7], [pytest.approx(1 / 1.1, abs=1e-3), 7]]
    assert (rows[2:, -2:] == 0).all()
    [list_] = RankTier(Settings(), load_scorer(str(made), "cpu", "float32")).rank([request], NOW)
    assert list_.degraded is None
    assert {item.item_id for item in list_.items[:2]} == {"i7", "i9"}


def test_while_the_tiers_disagree_a_list_says_so(tmp_path: Path) -> None:
    """A request of one folder, and the head of another: other items, no such part, other weights of the merge."""
    one = folder(tmp_path / "one", ["i7", "i9"])
    request = state_tier(one).request("ann", None, None)
    for name, other, degraded in (
        ("other", folder(tmp_path / "other", ["i7"]), "other-features"),
        ("none", folder(tmp_path / "none", None), "other-features"),
        ("merge", folder(tmp_path / "merge", ["i7", "i9"], {"nearest": [1, 60]}), None),
    ):
        [list_] = RankTier(Settings(), load_scorer(str(other), "cpu", "float32")).rank([request], NOW)
        assert list_.degraded == degraded, name
        assert list_.items


def test_a_newer_folder_is_followed_and_a_damaged_one_is_not(tmp_path: Path) -> None:
    current, name = tmp_path / "current", "current"
    current.symlink_to(folder(tmp_path / "one", ["i7"], ITS_ORDER))
    tier = state_tier(current)

    def replace(newer: Path) -> None:
        link = tmp_path / "next"
        link.symlink_to(newer)
        link.replace(current)

    def swaps(outcome: str) -> float:
        return float(recall_metrics.swaps.labels(name, outcome)._value.get())

    async def run() -> None:
        replace(folder(tmp_path / "two", ["i8", "i9"], ITS_ORDER))
        following = asyncio.create_task(follow(tier.requests, RankerSettings(model=str(current), follow_s=0.02)))
        await until(lambda: swaps("served") == 1)
        request = tier.request("ann", None, None)
        assert sources_of(request, "liked-most") == {"i8", "i9"}
        assert request.features is not None
        assert request.features.version == load_recall(str(current)).version
        broken = folder(tmp_path / "three", ["i1"])
        (broken / FILE).write_text("[", encoding="utf-8")
        replace(broken)
        await until(lambda: swaps("refused") == 1)
        assert sources_of(tier.request("ann", None, None), "liked-most") == {"i8", "i9"}
        following.cancel()

    asyncio.run(run())


def test_each_variant_is_asked_with_the_parts_of_its_own_model(tmp_path: Path) -> None:
    model, challenger = (
        folder(tmp_path / name, liked, ITS_ORDER) for name, liked in (("model", ["i7"]), ("challenger", ["i8"]))
    )
    tier = state_tier(model, challenger=str(challenger), challenger_share=0.5)
    settings = RankerSettings(model=str(model), challenger=str(challenger), challenger_share=0.5)
    scorers = [load_scorer(str(one), "cpu", "float32") for one in (model, challenger)]
    ranking = RankTier(Settings(ranker=settings), *scorers)
    met = set()
    for number in range(20):
        user_id = f"user-{number}"
        tier.accept(user_id, [Click(event_id="e", user_id=user_id, item_id="i0", timestamp=NOW)])
        request = tier.request(user_id, None, None)
        variant = ranking.variant(user_id)
        met.add(variant)
        assert sources_of(request, "liked-most") == {("i7", "i8")[variant]}
        assert ranking.rank([request], NOW)[0].degraded is None
    assert met == {0, 1}


def test_a_folder_without_its_part_or_with_a_wrong_merge_is_refused(tmp_path: Path) -> None:
    incomplete = folder(tmp_path / "incomplete", ["i7"])
    (incomplete / FILE).unlink()
    with pytest.raises(ModelUnsupported, match="copy the whole folder"):
        load_scorer(str(incomplete), "cpu", "float32")
    wrong = folder(tmp_path / "wrong", ["i7"], {"nearest": [-1, 60]})
    for load in (load_recall, load_scorer):
        with pytest.raises(ModelUnsupported, match=r"merge: nearest: got \[-1, 60\]"):
            load(str(wrong))


def test_a_model_without_parts_brings_nothing(tmp_path: Path) -> None:
    for model in ("default", "none", str(tmp_path)):
        assert load_recall(model).version == ""
        assert not load_recall(model).learnt
    assert load_recall("default").needs_features
    assert not load_recall("none").needs_features
    assert version("none") == "none"
    assert "other-features" in DEGRADED_REASONS

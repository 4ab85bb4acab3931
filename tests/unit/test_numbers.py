"""The numbers of items as features: what is kept of `attributes`, what it says, and training that keeps what helps."""

from __future__ import annotations

import random
import time
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t

from encoders.models.source import ModelUnsupported
from ranker.evaluation.interactions import Interaction
from ranker.load import load_recall
from ranker.recall.number_feature import _likely, number_feature
from ranker.recall.trained import LearntSource, TrainedRecall
from streams.contracts import Click, Item
from streams.datasets.event_log import EventLog
from streams.offline.pipeline import Pipeline
from streams.offline.training_data import gather, parts, sources_facts
from streams.offline.training_run import TrainingRun
from streams.receive.embeddings import numbers_of
from streams.settings import CandidatesSettings, EncoderSettings, RankerSettings, Settings, SettingsError, load
from tests import models
from tests.unit.test_adapted_text import DAY_MS, NOW, no_stage

SIZE, ITEMS = number_feature("size"), 640
KNOTS = np.array([0.0, 100.0])


class OneVector:
    """Encodes every text alike: only numbers tell."""

    dim = 2

    def encode(self, texts: object) -> np.ndarray:
        return np.tile(np.array([1, 0], np.float32), (len(texts), 1))  # type: ignore[arg-type]

    encode_events = encode


def settings(*numbers: str) -> Settings:
    return Settings(
        candidates=CandidatesSettings(numbers=numbers, limit=ITEMS, features="always"),
        ranker=RankerSettings(max_candidates=ITEMS),
    )


def test_a_number_is_compared_with_the_users_usual_and_one_without_it_is_as_the_mean() -> None:
    trained = TrainedRecall((SIZE(KNOTS),), needs_features=True)
    pipeline = Pipeline(settings("size"), OneVector(), None, trained)
    sizes: dict[str, object] = {
        "seen": 30,
        "large": 80.0,
        "largest": 1e9,
        "none": None,
        "text": "9",
        "true": True,
        "huge": 1e99,
    }
    pipeline.put_items([Item(item_id=name, title=name, attributes={"size": size}) for name, size in sizes.items()], NOW)
    pipeline.state.accept("u", [Click(event_id="e", user_id="u", item_id="seen", timestamp=NOW)])
    requests, catalogue = pipeline.state.requests, pipeline.state.catalogue
    rows = np.arange(len(sizes))
    shopper = requests.shopper(pipeline.state.users.get("u").interest)
    features = SIZE(KNOTS).features(shopper, catalogue.columns(rows))
    of_item = dict(zip((catalogue.at(row).item_id for row in rows.tolist()), features.tolist(), strict=True))
    half = np.sqrt(12) / 2
    assert of_item["large"][:3] == pytest.approx([1, 0.6 * half, half], abs=1e-5)
    assert of_item["seen"][:3] == pytest.approx([1, -0.4 * half, 0], abs=1e-5)
    assert of_item["seen"][3] > 0 > of_item["large"][3]
    assert of_item["largest"][:2] == pytest.approx([1, half])
    assert [of_item[name] for name in ("none", "text", "true", "huge")] == [[0, 0, 0, 0]] * 4


def test_a_number_is_the_likelier_the_narrower_the_users_taste_is() -> None:
    def likely(*usual: float, at: float = 0.0) -> float:
        [value] = _likely(np.array([at]), np.array(usual))
        return float(value)

    density = t.logpdf(0.4, 4, 0, np.sqrt((0.09 + 0.02) / 4 * (1 + 1 / 3))) - np.log(1 / np.sqrt(12))
    assert likely(0.5, 0.4, 0.6, at=0.4) == pytest.approx(density / np.log(2))
    assert likely(0.5, 0.4, 0.6) > likely(0.5) > likely(-1.0, 0.5, 1.5) > -1, "at the mean"
    assert likely(0.5, 0.4, 0.6, at=2.0) < likely(0.5, at=2.0) < likely(-1.0, 0.5, 1.5, at=2.0), "far from it"
    assert likely(0.5, 0.4, 0.6) - likely(0.5, 0.4, 0.6, at=0.02) < 0.1, "within the user's spread little tells"
    assert np.isnan(likely()), "nothing is known"


def test_a_model_with_a_number_needs_the_setting_and_a_damaged_file_is_refused(tmp_path: Path) -> None:
    SIZE(KNOTS).save(tmp_path / SIZE.file)
    (tmp_path / "afterclick.json").write_text("{}", encoding="utf-8")
    trained = load_recall(str(tmp_path))
    assert [source.name for source in trained.learnt] == ["number-size"]
    with pytest.raises(ModelUnsupported, match="add size to AFTERCLICK_CANDIDATES__NUMBERS"):
        Pipeline(settings("weight"), OneVector(), None, trained)
    (tmp_path / SIZE.file).write_text('{"knots": [2, 1]}', encoding="utf-8")
    with pytest.raises(ModelUnsupported, match=r"number-size.json: got quantiles that do not ascend"):
        load_recall(str(tmp_path))


def test_a_price_is_a_number_unless_an_attribute_has_its_name() -> None:
    priced = Item(item_id="a", title="a", price=9.5, attributes={"weight": 2})
    assert numbers_of(priced, ["price", "rating", "weight"]) == (("price", 9.5), ("weight", 2.0))
    of_attribute = Item(item_id="a", title="a", price=9.5, attributes={"price": 7})
    assert numbers_of(of_attribute, ["price"]) == (("price", 7.0),)


def test_a_name_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFTERCLICK_CANDIDATES__NUMBERS", "size,a b")
    with pytest.raises(SettingsError, match="a b"):
        load(None)


def shop() -> EventLog:
    """Each user has a size, and visits items near to it."""
    drawn, events = random.Random(1), []
    items = [Item(item_id=f"i{number}", title="thing", attributes={"size": number}) for number in range(ITEMS)]
    for user in range(240):
        size, start_ms = drawn.randrange(4, ITEMS - 4), NOW + drawn.randrange(30 * DAY_MS)
        for visit, near in enumerate(drawn.sample(range(-4, 5), 3)):
            item, time_ms = f"i{size + near}", start_ms + visit * DAY_MS
            events.append(Interaction(f"u{user}", item, time_ms, "click", f"u{user}-{visit}"))
    return EventLog(items, events, [], {})


def test_training_keeps_the_number_that_tells(tmp_path: Path) -> None:
    of_run = TrainingRun(out=tmp_path / "out", max_query_groups=800)
    encoder = EncoderSettings(model=str(models.encoder(tmp_path / "encoder")), device="cpu", dtype="float32")
    of_shop = settings("size").model_copy(update={"encoder": encoder})
    data = gather(shop(), of_shop, of_run)
    checkpoint = data.checkpoint(of_run, of_shop)
    until: dict[type[LearntSource], float] = {
        number_feature(name): time.monotonic() + 3_600 for name in of_shop.candidates.numbers
    }
    fitted = data.learnt(of_shop, checkpoint, until, no_stage)
    chosen = data.query_groups(of_shop, checkpoint, time.monotonic() + 3_600, no_stage, fitted)
    facts = sources_facts(fitted, chosen)["number_size"]
    assert facts["kept"], facts
    assert facts["ndcg_at_10_with"] > 1.2 * facts["ndcg_at_10_without"]
    assert "number_size_likely" in chosen.groups.feature_names
    assert checkpoint.folder / "number-size" / "number-size.json" in parts(checkpoint, chosen)

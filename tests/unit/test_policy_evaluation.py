"""`afterclick evaluate --policy`, end to end: the lists of a shop that explores, their impressions, and the table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from encoders.errors import AfterclickError
from encoders.text.encoder import TextEncoder
from ranker.features import NAMES
from ranker.fusion.fused import FusedScorer
from ranker.fusion.head import describe
from ranker.load import load_scorer
from streams import cli
from streams.contracts import Item
from streams.offline.pipeline import Pipeline
from streams.receive.message import Message
from streams.settings import RankerSettings, Settings
from tests.unit.test_cascade import linear

BEGIN_MS = 1_700_000_000_000
USERS, VISITS, SIZE = 30, 5, 10
KINDS = ("walking boots", "reading lamp", "coffee grinder", "rain jacket")
ITEMS = [Item(item_id=f"i{n}", title=f"{KINDS[n % 4]} number {n}") for n in range(60)]


def head(at: Path, weights: Mapping[str, float]) -> Path:
    at.mkdir()
    linear(dict(weights), NAMES).save(at)
    (at / "afterclick.json").write_text(json.dumps({"base": "none", "fusion": describe(NAMES)}), encoding="utf-8")
    return at


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What a shop logs whose ranker explores: the options that read it."""
    folder = tmp_path_factory.mktemp("shop")
    model = head(folder / "served", {"long_cosine": 4.0})
    head(folder / "backwards", {"long_cosine": -4.0})
    settings = Settings(ranker=RankerSettings(model=str(model), explore=0.1, explore_max_loss=0.2, list_size=SIZE))
    scorer = load_scorer(str(model), "cpu", "float32")
    assert isinstance(scorer, FusedScorer)
    scorer.start(learning=False, exploring=True)
    pipeline = Pipeline(settings, TextEncoder(settings.encoder.model, "cpu", "float32"), scorer)
    pipeline.put_items(ITEMS, BEGIN_MS)
    random = np.random.default_rng(1)
    topics: dict[str, list[dict[str, Any]]] = {"items": [{"item_id": i.item_id, "title": i.title} for i in ITEMS]}
    clicks, impressions = topics.setdefault("clicks", []), topics.setdefault("impressions", [])

    def click(user: int, item: str, time_ms: int, **more: str) -> Any:
        sent = {"event_id": f"c{len(clicks)}", "user_id": f"u{user}", "item_id": item, "timestamp": time_ms, **more}
        clicks.append(sent)
        return pipeline.feed(Message("clicks", 0, 0, None, json.dumps(sent).encode()), time_ms)

    for visit in range(VISITS):
        for user in range(USERS):
            time_ms = BEGIN_MS + visit * 86_400_000 + user * 60_000
            list_ = click(user, f"i{random.integers(15) * 4 + user % 4}", time_ms)
            items = [item.item_id for item in list_.items]
            shown = {"event_id": f"s{visit}-{user}", "user_id": f"u{user}", "list_id": list_.list_id, "items": items}
            propensities = [item.propensity for item in list_.items]
            impressions.append({**shown, "timestamp": time_ms + 1_000, "propensities": propensities})
            for place, item in enumerate(items):
                likes = 0.5 if int(item[1:]) % 4 == user % 4 else 0.05
                if random.random() < likes / np.log2(place + 2):
                    click(user, item, time_ms + 2_000 + place, list_id=list_.list_id)
    options = []
    for topic, messages in topics.items():
        path = folder / f"{topic}.jsonl"
        path.write_text("".join(json.dumps(message) + "\n" for message in messages), encoding="utf-8")
        options += [f"--{topic}", str(path)]
    return [*options, "--cut", "0.1", "--model", str(model), "--model", str(folder / "backwards")]


def evaluated(options: list[str]) -> str:
    cli.mount()
    result = CliRunner().invoke(cli.app, ["evaluate", "--policy", *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_ranker_is_worth_what_it_got_and_another_one_is_refused(shop: list[str]) -> None:
    report = json.loads(evaluated([*shop, "--json"]))
    lists, logged = report["lists"], report["logged"]
    assert lists > 0.8 * USERS * VISITS
    assert report["lists_without_propensities"] == 0
    served = report["systems"]["afterclick served"]
    assert served["refusal"] == ""
    assert served["overlap"] == pytest.approx(1, abs=0.1), "its own lists, but for what chance moved"
    assert 100 < served["effective_lists"] <= lists
    for name in ("ips", "snips", "dr"):
        value, low, high = served[name]
        assert low <= value <= high
        assert value == pytest.approx(logged[0], rel=0.15)
    assert served["difference"][1] < 0.1 * logged[0]
    assert report["systems"]["afterclick backwards"]["refusal"].startswith("the log can tell of ")


def test_the_table_says_in_words_what_the_figures_mean(shop: list[str]) -> None:
    text = " ".join(evaluated([*shop, "--users", "25"]).split())
    assert "clicks per list in the first 10 places: 25 users" in text
    assert "cannot be told" in text


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--policy", "--protocol", "impressions"], "--protocol: got it with --policy"),
        (["--policy", "--systems", "als"], "--systems: got it with --policy"),
        ([], "--protocol: got none, expected one of leave-one-out"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_the_files_are_read(options: list[str], text: str) -> None:
    cli.mount()
    result = CliRunner().invoke(cli.app, ["evaluate", "--items", "/none", "--clicks", "/none", *options])
    assert isinstance(result.exception, AfterclickError)
    assert str(result.exception).startswith(text)

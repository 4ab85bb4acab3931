"""The team's own topics in the settings: from TOML and the environment, and each mistake is one readable line."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from encoders.events.types import DEFAULT_WEIGHTS
from streams import settings
from streams.contracts import Click, Item, Purchase
from streams.receive.decode import receive
from streams.receive.inputs import Inputs
from streams.settings import InterestSettings, Settings, SettingsError, TopicSource
from streams.settings.profile import PROFILES, profile_tables
from streams.settings.topics import TopicsSettings, topic_source
from streams.testing.worker_process import environment

FIELDS = {"user_id": "userId", "item_id": "sku", "timestamp": "ts"}
TABLE = {"name": "shop-events", "where": {"eventType": ["view", "open"]}, "fields": FIELDS}
TOML = """
[topics.clicks]
name = "shop-events"
where = { eventType = ["view", "open"] }
fields = { user_id = "userId", item_id = "sku", timestamp = "ts" }

[[topics.items]]
name = "products"
profile = "debezium"
fields = { item_id = "id", title = "name", attributes = { colour = "colour" } }

[[topics.items]]
name = "more-products"
fields.item_id = "id"
fields.title = ["title", "name"]
"""


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.upper().startswith(settings.PREFIX):
            monkeypatch.delenv(name)


def test_toml_names_one_topic_or_several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "shop.toml"
    config.write_text(TOML, encoding="utf-8")
    loaded = settings.load(config)
    assert loaded.topics.of("clicks") == (TopicSource.model_validate(TABLE),)
    assert [source.name for source in loaded.topics.items] == ["products", "more-products"]
    assert loaded.topics.items[0].each == ("after", "before")
    assert (loaded.topics.purchases, loaded.topics.of("rank-requests")) == ((), ())
    for name, value in environment(loaded).items():
        monkeypatch.setenv(name, value)
    assert settings.load() == loaded


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(TABLE),
        json.dumps([TABLE | {"each": None, "delete": None}]),
        '{ name = "shop-events", where = { eventType = ["view", "open"] }, '
        'fields = { user_id = "userId", item_id = "sku", timestamp = "ts" } }',
    ],
)
def test_the_environment_takes_json_or_toml(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFTERCLICK_TOPICS__CLICKS", text)
    assert settings.load().topics.clicks == (TopicSource.model_validate(TABLE),)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"name": "shop events"}, "name: got 'shop events', expected the topic's name in Kafka"),
        ({"name": None}, "name: got None, expected the topic's name in Kafka"),
        ({"feilds": {}}, "feilds: got a setting that does not exist, expected one such as fields; rename it"),
        ({"profile": "segmnt"}, "profile: got 'segmnt', expected one of debezium, ga4, gorse"),
        ({"time_unit": "sec"}, "time_unit: got 'sec', expected one of s, ms, us, ns, iso; correct it"),
        ({"decimal_comma": "yes"}, "decimal_comma: got 'yes', expected true or false; correct it"),
        ({"fields": "id"}, "fields: got 'id', expected a table; write fields = { … }"),
        ({"each": "a..b"}, "each: got 'a..b', expected names with dots between them"),
        ({"each": ["a", ""]}, "each: got '', expected names with dots between them"),
        ({"where": {"": 1}}, "where: got '', expected names with dots between them"),
        ({"profile": "segment", "fields": "x"}, "fields: got 'x', expected a table; write fields = { … }"),
        ({"profile": "debezium", "fields": {**FIELDS, "text": [""]}}, "fields.text: got '', expected names with dots"),
        ({"each": 5}, "each: got 5, expected a path such as product.sku; correct it"),
        ({"where": {"a[": 1}}, "where: got 'a[', expected names with dots between them"),
        ({"where": {"a": []}}, "where.a: got [], expected a text, a number or a boolean, or a list of them"),
        ({"delete": {"a": 1}}, "delete: got it for clicks, expected it for items only; take it out"),
        ({"category_separator": "/"}, "category_separator: got it for clicks, expected it for items only; take it out"),
        ({"fields": {**FIELDS, "timestamp": ""}, "constants": {"timestamp": 1_700_000_000_000}, "time_unit": "s"},
         "time_unit: got it without a timestamp, expected timestamp in fields"),
        ({"fields": {"user_id": "u", "item_id": "i"}}, "fields: got no timestamp, expected where it is in your record"),
        ({"fields": {**FIELDS, "item_id": ""}}, "fields: got no item_id, expected where it is in your record"),
        ({"fields": {**FIELDS, "sesion_id": "s"}}, "fields.sesion_id: got a field that clicks do not have, expected "
         "one such as session_id; rename it"),
        ({"fields": {**FIELDS, "zip": "list_id"}}, 'fields.zip: got the field on the right, expected it on the left; '
         'write list_id = "zip"'),
        ({"fields": {**FIELDS, "text": {"a": "b"}}}, "fields.text: got {'a': 'b'}, expected a path"),
        ({"fields": {**FIELDS, "context": {"a": "b["}}}, "fields.context.a: got 'b[', expected names with dots"),
        ({"constants": {"position": "x"}}, "constants.position: got 'x', but Expected int | null, got str; correct it"),
        ({"constants": {"event_id": "x"}}, "constants.event_id: got 'x', expected none"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_readable_line(change: dict[str, Any], problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    table = {**TABLE, **change}
    monkeypatch.setenv("AFTERCLICK_TOPICS__CLICKS", json.dumps(table))
    with pytest.raises(SettingsError) as caught:
        settings.load()
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"AFTERCLICK_TOPICS__CLICKS: {table['name'] or '[topics.clicks]'}: {problem}")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{ name = "x', "AFTERCLICK_TOPICS__CLICKS: got '{ name = \"x', expected JSON or an inline table of TOML"),
        ("5", 'AFTERCLICK_TOPICS__CLICKS: got 5, expected a table such as { name = "shop-events"'),
        (json.dumps([TABLE, TABLE]), "AFTERCLICK_TOPICS__CLICKS: shop-events: got two tables with the same `where`"),
        (
            json.dumps({**TABLE, "name": "live.clicks"}),
            "AFTERCLICK_TOPICS__CLICKS: live.clicks: name: got a topic of Afterclick's own, expected one of yours",
        ),
        (
            json.dumps({**TABLE, "name": "live.routed-events"}),
            "AFTERCLICK_TOPICS__CLICKS: live.routed-events: name: got a topic of Afterclick's own",
        ),
    ],
)
def test_a_wrong_list_of_topics_is_one_readable_line(text: str, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFTERCLICK_TOPIC_PREFIX", "live.")
    monkeypatch.setenv("AFTERCLICK_TOPICS__CLICKS", text)
    with pytest.raises(SettingsError) as caught:
        settings.load()
    (line,) = str(caught.value).splitlines()
    assert line.startswith(problem)


def test_a_topic_may_be_called_as_ours_is_without_the_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFTERCLICK_TOPIC_PREFIX", "live.")
    monkeypatch.setenv("AFTERCLICK_TOPICS__CLICKS", json.dumps({**TABLE, "name": "clicks"}))
    assert settings.load().topics.clicks[0].name == "clicks"


def test_items_say_when_they_are_available() -> None:
    with pytest.raises(SettingsError, match=r"items: p: fields.available: got .stock > many., expected path > number"):
        topic_source("items", {"name": "p", "fields": {"item_id": "i", "title": "t", "available": "stock > many"}})


def test_the_readmes_example_works(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "streams" / "README.md").read_text(encoding="utf-8")
    section = re.split(r"\n#{2,3} ", text.partition("### Your own topics")[2])[0]
    (example,) = re.findall(r"```toml\n(.*?)```", section, re.DOTALL)
    config = tmp_path / "shop.toml"
    config.write_text(example, encoding="utf-8")
    inputs = Inputs(settings.load(config))
    view = {"eventType": "view", "id": 1, "userId": 2, "product": {"sku": "s"}, "ts": 1_700_000_000}
    order = {"eventType": "order", "userId": 2, "ts": 1_700_000_001, "lines": [{"sku": "s", "qty": 2, "unitPrice": 3}]}
    hat = {"id": 5, "name": "Hat", "category": "Women > Hats", "stock": 0, "variant": {"colour": "red"}}
    read = [
        receive(message, 1_800_000_000_000)
        for topic, record in (("shop-events", view), ("shop-events", order), ("products", hat))
        for message in inputs.read(topic, 0, 0, None, json.dumps(record).encode())
    ]
    assert read == [
        Click(event_id="1", user_id="2", item_id="s", timestamp=1_700_000_000_000),
        Purchase(
            event_id="shop-events/0/0/0", user_id="2", item_id="s", timestamp=1_700_000_001_000, quantity=2, price=3
        ),
        Item(
            item_id="5",
            title="Hat",
            categories=["Women", "Hats"],
            currency="EUR",
            attributes={"colour": "red"},
            available=False,
        ),
    ]
    assert inputs.read("products", 0, 1, None, b'{"id": 5, "state": "gone"}')[0].value is None


def test_the_readme_says_what_each_ready_made_mapping_gives() -> None:
    text = (Path(__file__).parents[2] / "streams" / "README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \| [^|]+ \|$", text, re.MULTILINE))
    assert tuple(sorted(rows.keys() & set(PROFILES))) == PROFILES
    for profile in set(PROFILES) - {"rudderstack"}:
        assert set(
            re.findall(r"clicks|purchases|\bevents(?= \()|searches|impressions|items|forget", rows[profile])
        ) == set(profile_tables(profile))


def test_a_table_of_events_renames_types_and_weighs_those_of_your_own() -> None:
    fields = {"user_id": "u", "item_id": "i", "timestamp": "t", "type": "what"}
    types, weights = {"add": "cart", "drop": "uncart"}, {"uncart": -1, "cart": 9}
    table = {"name": "t", "fields": fields, "types": types, "weights": weights}
    topics = TopicsSettings.model_validate({"events": table})
    chosen = Settings(topics=topics, interest=InterestSettings(weights={"cart": 3}))
    assert (chosen.interest.weights["uncart"], chosen.interest.weights["cart"]) == (-1, 3), "the setting wins"
    assert chosen.interest.weights["like"] == DEFAULT_WEIGHTS["like"]
    record = {"u": "ann", "i": "mug", "t": 1_790_000_000_000, "what": "drop"}
    (message,) = Inputs(chosen).read("t", 0, 3, None, json.dumps(record).encode())
    assert (message.topic, json.loads(message.value or b"")["type"]) == ("events", "uncart")
    wrong = {"name": "t", "fields": fields, "weights": {"uncart": "low"}}
    with pytest.raises(SettingsError, match=r"weights.uncart: got 'low', expected a number"):
        topic_source("events", wrong)

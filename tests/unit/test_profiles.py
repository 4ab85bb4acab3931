"""Every ready-made mapping gives, for samples of its documented schema, the messages of the contract that they mean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from streams.receive.decode import receive
from streams.receive.inputs import Inputs
from streams.receive.mapping import Mapping
from streams.receive.message import BadMessage, Message
from streams.settings import Settings, SettingsError, TopicsSettings
from streams.settings.profile import PROFILES, profile_tables
from streams.settings.topics import profile_sources, topic_source

FOLDER = Path(__file__).parents[1] / "fixtures" / "profiles"
NOW_MS = 1_800_000_000_000


def samples(profile: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((FOLDER / f"{profile}.json").read_text(encoding="utf-8"))
    return content


def mappings(profile: str) -> list[Mapping]:
    tables = samples(profile).get("tables", {})
    return [
        Mapping(name, topic_source(name, {"name": profile, "profile": profile, **tables.get(name, {})}))
        for name in profile_tables(profile)
    ]


@pytest.mark.parametrize("profile", PROFILES)
def test_a_sample_becomes_what_it_means_and_nothing_else(profile: str) -> None:
    given = samples(profile)
    assert given["sources"]
    inputs, seen = mappings(profile), set[str]()
    for offset, sample in enumerate(given["samples"]):
        made: dict[str, list[Any]] = {}
        for mapping in inputs:
            deleted = mapping.deleted_item(sample["record"], None)
            messages = mapping.apply(sample["record"], f"{profile}/{offset}")
            if deleted is not None or messages:
                made[mapping.input_name] = [deleted] if deleted is not None else messages
        assert made == sample["becomes"], f"sample {offset}"
        seen |= made.keys()
    assert seen == set(profile_tables(profile)), "every input of the profile has a sample"


@pytest.mark.parametrize("profile", PROFILES)
def test_what_a_sample_becomes_is_accepted(profile: str) -> None:
    for sample in samples(profile)["samples"]:
        for name, messages in sample["becomes"].items():
            for made in messages:
                if isinstance(made, dict):
                    key = made["item_id"].encode() if name == "items" else None
                    receive(Message(name, 0, 0, key, json.dumps(made).encode()), NOW_MS)


def test_a_table_wins_over_its_profile_name_by_name() -> None:
    table = {"name": "t", "profile": "segment", "where": {"event": "Seen"}, "fields": {"position": "", "text": "q"}}
    source = topic_source("clicks", table)
    assert source.where == {"type": ("track",), "event": ("Seen",)}
    record = {"type": "track", "event": "Seen", "messageId": "m", "userId": 5, "timestamp": 1, "q": "red"}
    record["properties"] = {"sku": "s", "position": 3}
    (made,) = Mapping("clicks", source).apply(record, "t/0/0")
    assert made == {"event_id": "m", "user_id": "5", "item_id": "s", "timestamp": 1, "text": "red"}


def test_a_profile_that_needs_names_of_yours_says_which() -> None:
    assert set(profile_sources("ga4", "file")) == {"clicks", "purchases", "events", "searches", "impressions", "items"}
    with pytest.raises(SettingsError, match=r"clicks: file: fields: got no user_id, expected where it is") as caught:
        profile_sources("debezium", "file")
    assert str(caught.value).endswith('with profile = "debezium" and your fields, and name its file by --config')
    with pytest.raises(SettingsError, match="profile: got 'segmnt', expected one of debezium, ga4"):
        profile_sources("segmnt", "file")


@pytest.mark.parametrize(
    ("key", "item"),
    [
        (b'{"schema": {"type": "struct"}, "payload": {"id": 101}}', "101"),
        (b'{"tenant": 4, "id": "a"}', "a"),
        (b'{"product": 7}', "7"),
        (b'"a b"', "a b"),
        (b"101", "101"),
        (b"SKU-1", "SKU-1"),
        (b"007", "007"),
    ],
)
def test_a_null_value_deletes_the_item_of_its_key(key: bytes, item: str) -> None:
    table = {"name": "products", "profile": "debezium", "fields": {"item_id": "id", "title": "name"}}
    topics = TopicsSettings.model_validate({"items": [table]})
    (message,) = Inputs(Settings(topics=topics)).read("products", 0, 3, key, None)
    assert (message.topic, message.key, message.value) == ("items", item.encode(), None)


def test_a_key_that_names_no_item_deletes_none() -> None:
    table = {"name": "products", "profile": "debezium", "fields": {"item_id": "id", "title": "name"}}
    inputs = Inputs(Settings(topics=TopicsSettings.model_validate({"items": table})))
    with pytest.raises(BadMessage, match=r"items from products: got the key .* expected the item_id in it"):
        inputs.read("products", 0, 3, b'{"tenant": 4, "sku": "a"}', None)

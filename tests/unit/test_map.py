"""`afterclick map` without Kafka: the survey of records, and the mapping that it proposes."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from streams.commands.mapping import report as reports
from streams.commands.mapping.examine import MappingReport, with_tables
from streams.commands.mapping.outcomes import REJECTED, Outcome, judge
from streams.commands.mapping.proposal import as_toml, propose
from streams.commands.mapping.survey import survey
from streams.kafka.record_reader import RecordReader
from streams.kafka.rights import needed
from streams.settings import Settings
from streams.settings.profile import parse_toml
from tests.unit.test_state_worker import NOW
from tests.unit.test_team_topics import SETTINGS

VIEW: dict[str, Any] = {"id": 7, "eventType": "view", "userId": 5, "ts": NOW // 1000, "product": {"sku": 1, "a.b": ""}}
ORDER: dict[str, Any] = {**VIEW, "eventType": "order", "product": None, "lines": [{"sku": 2, "qty": 1}, {"sku": 3}]}


def test_a_survey_counts_records_not_values_and_writes_paths_as_a_mapping_does() -> None:
    found = {
        one.path: (one.records, one.example) for one in survey([ORDER, {"a b": {"c.d": True}}, VIEW, ORDER, [], 3])
    }
    assert found["lines[].sku"] == (2, 2)
    assert found["product.sku"] == (1, 1)
    assert found['a b."c.d"'] == (1, True)
    assert not [path for path in found if "a.b" in path], "an empty text is no value"


@pytest.mark.parametrize(
    ("records", "made"),
    [
        ([VIEW, ORDER, {"eventType": "search"}], {"clicks": 1, "purchases": 2}),
        ([{"visitor_id": "v", "article": {"id": 3}, "time": "2026-09-20T08:00:00Z"}], {"clicks": 1}),
        ([{"messageId": "m", "anonymousId": "v", "productId": 3, "time": "2026-09-20T08:00:00Z"}], {"clicks": 1}),
        ([{"customer": {"id": 4}, "product": {"id": 9}, "createdAt": NOW * 1000}], {"clicks": 1}),
        ([{"uid": 4, "sku": "x", "qty": 2, "price": 3.5, "date": str(NOW)}], {"purchases": 1}),
        ([{"id": 3, "name": "Boots", "category": "shoes", "price": 3}], {"items": 1}),
        ([{"temperature": 3}], {}),
    ],
)
def test_a_proposal_is_settings_that_work(records: list[Any], made: dict[str, int]) -> None:
    proposed = propose("t", records)
    assert parse_toml(as_toml(proposed)).get("topics", {}) == proposed
    if not made:
        assert not proposed
        return
    outcomes = asyncio.run(judged(records, proposed))
    assert {one.name: one.messages for one in outcomes if one.messages} == made
    assert not [one for one in outcomes if one.name == REJECTED]
    assert {cause for one in outcomes for cause in one.causes} <= {'eventType = "search"'}


def test_a_proposal_names_all_that_it_recognises() -> None:
    line = {"sku": "A-1", "qty": 2, "unitPrice": None}
    order = {"type": "order", "uid": 5, "order_id": "o-9", "ts": NOW // 1000, "session": "s", "lines": [line]}
    assert propose("t", [order])["purchases"]["fields"] == {
        "event_id": "order_id",
        "user_id": "uid",
        "item_id": "sku",
        "timestamp": "ts",
        "session_id": "session",
        "quantity": "qty",
    }
    product = {"sku": "A-1", "name": "Boots", "desc": "Dry", "stock": 3, "category": "Shoes > Hiking"}
    table = propose("t", [product])["items"]
    assert table["category_separator"] == ">"
    assert (table["fields"]["description"], table["fields"]["available"]) == ("desc", "stock > 0")
    assert propose("t", [{**product, "stock": True}])["items"]["fields"]["available"] == "stock"
    both = propose("t", [product, {"op": "c", "before": None, "after": product}])
    assert both["items"]["fields"]["title"] == ["name", "after.name"]
    outcomes = asyncio.run(judged([product, {"op": "c", "before": None, "after": product}], both))
    assert [(one.name, one.messages) for one in outcomes] == [("items", 2)]


def test_a_proposal_for_changes_of_a_database_table_names_the_profile() -> None:
    row = {"id": 3, "name": "Boots", "in_stock": True}
    changes = [{"op": "c", "before": None, "after": row}, {"op": "d", "before": row, "after": None}]
    wrapped = [{"schema": {"type": "struct"}, "payload": change} for change in changes]
    for records in (changes, wrapped):
        proposed = propose("t", records)
        assert proposed["items"]["profile"] == "debezium"
        outcomes = asyncio.run(judged(records, proposed))
        assert [(one.name, one.messages) for one in outcomes] == [("items", 2)]


async def judged(records: list[Any], tables: dict[str, Any]) -> list[Outcome]:
    reader = RecordReader(with_tables(Settings(), {name: [table] for name, table in tables.items()}))
    values = [json.dumps(record).encode() for record in records]
    return await judge(
        reader,
        [
            SimpleNamespace(
                topic="t", partition=0, offset=n, key=None, value=value, timestamp=NOW, timestamp_type=0, headers=()
            )
            for n, value in enumerate(values)
        ],
        ["eventType"],
    )


def test_every_figure_is_whole_at_80_columns() -> None:
    outcome = Outcome("rejected", 12_345_678, 23_456_789)
    outcome.causes["a cause with many words that goes on and on, longer than a line of eighty columns is"] = 1_234_567
    fields = survey([{"a" * 60: "b" * 70, "n": 123_456_789}])
    console = Console(width=80, highlight=False)
    with console.capture() as captured:
        reports.write(MappingReport("t", 3, 12_345_678, NOW, NOW, [outcome]), console)
        reports.write(MappingReport("t", 1, 3, NOW, NOW, fields=fields), console)
    for figure in ("12,345,678", "23,456,789", "1,234,567", "123456789", "a" * 60, "33.3%"):
        assert figure in captured.get()


def test_a_worker_needs_to_read_a_teams_topics_and_to_write_none_of_them() -> None:
    rights = {(right.operation, right.name) for right in needed(SETTINGS, ["state"])}
    assert {("READ", "shop-events"), ("READ", "shop-products"), ("WRITE", "items")} <= rights
    assert not {("WRITE", "shop-events"), ("WRITE", "shop-products")} & rights
    assert not [right for right in needed(SETTINGS, ["rank"]) if "shop" in right.name]
    assert ("WRITE", "items") not in {(right.operation, right.name) for right in needed(Settings(), ["state"])}

"""The JSON Schemas in deploy/schemas/ accept and reject what step 1 and the HTTP interface do."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import msgspec
import pytest

from streams.bodies import BODIES, ErrorBody, EventResults, EventsRequest, Reranked, RerankQuestion
from streams.contracts import TOPICS, DeadLetter, Recommendations
from streams.receive.decode import INPUTS, receive
from streams.receive.keys import key_of_fields
from streams.receive.message import BadMessage, Message
from tests.documents import SCHEMAS

NOW_MS = 1_795_400_000_000
CLICK = {"event_id": "e1", "user_id": "u1", "item_id": "i1", "timestamp": NOW_MS}
SEARCH = {"event_id": "s1", "user_id": "u1", "text": "red boots", "timestamp": NOW_MS}
HISTORY = {"item_id": "i1", "type": "click", "timestamp": "2026-11-22T18:00:00Z", "title": "Boots"}
GOOD: dict[str, list[dict[str, Any]]] = {
    "clicks": [
        CLICK,
        CLICK | {"timestamp": "2026-11-22T18:00:00+01:00", "position": 0, "context": {"page": [1, None]}, "unknown": 1},
    ],
    "purchases": [CLICK | {"quantity": 0.5, "price": 89, "currency": "EUR"}],
    "events": [CLICK | {"type": "like"}, CLICK | {"type": "rating", "rating": 7, "best_rating": 10, "text": "ok"}],
    "searches": [SEARCH, SEARCH | {"results": ["i1"], "context": {"page": "search"}}],
    "preferences": [
        {"event_id": "w1", "user_id": "u1", "timestamp": NOW_MS, "text": "no fur", "expires_at": NOW_MS},
        {"event_id": "w2", "user_id": "u1", "timestamp": NOW_MS, "revoke": "w1"},
    ],
    "impressions": [{"event_id": "e1", "user_id": "u1", "list_id": "l1", "items": ["i1"], "timestamp": NOW_MS}],
    "items": [
        {"item_id": "i1", "title": "Boots"},
        {"item_id": "i1", "title": "Boots", "categories": ["Shoes"], "attributes": {"size": 42}, "available": False},
    ],
    "knowledge": [{"head": "f1", "relation": "directed_by", "tail": "p1"}],
    "forget": [{"user_id": "u1", "timestamp": NOW_MS}],
    "merges": [{"from_user_id": "v1", "into_user_id": "u1", "timestamp": NOW_MS}],
    "rank-requests": [
        {"request_id": "r1", "user_id": "u1", "as_of": NOW_MS, "history": [HISTORY],
         "candidates": [{"item_id": "i2", "text": "Tent", "sources": ["mine"], "retrieval_score": 1.5}]},
    ],
}  # fmt: skip
BAD: dict[str, list[dict[str, Any]]] = {
    "clicks": [
        {name: value for name, value in CLICK.items() if name != "event_id"},
        CLICK | {"user_id": ""},
        CLICK | {"item_id": "x" * 257},
        CLICK | {"item_id": 1.5},
        CLICK | {"position": -1},
        CLICK | {"timestamp": True},
        CLICK | {"context": "page"},
    ],
    "purchases": [CLICK | {"quantity": 0}, CLICK | {"price": -1}, CLICK | {"currency": "EURO"}],
    "events": [CLICK, CLICK | {"type": ""}, CLICK | {"type": "rating", "rating": 0}],
    "searches": [SEARCH | {"text": ""}, SEARCH | {"results": [1.5]}, CLICK],
    "preferences": [
        {"user_id": "u1", "timestamp": NOW_MS, "text": "no fur"},
        {"event_id": "w2", "user_id": "u1", "timestamp": NOW_MS, "revoke": ""},
    ],
    "impressions": [{"event_id": "e1", "user_id": "u1", "list_id": "l1", "items": [""], "timestamp": NOW_MS}],
    "items": [{"item_id": "i1", "title": ""}, {"item_id": "i1", "title": "Boots", "categories": ["x"] * 65}],
    "knowledge": [
        {"head": "f1", "relation": "", "tail": "p1"},
        {"head": "f1", "relation": "by", "tail": "p\t1"},
        {"head": "f1", "tail": "p1"},
    ],
    "forget": [{"user_id": "u1"}],
    "merges": [{"from_user_id": "v1", "timestamp": NOW_MS}],
    "rank-requests": [
        GOOD["rank-requests"][0] | {"history": [HISTORY | {"type": ""}]},
        GOOD["rank-requests"][0] | {"candidates": [{"item_id": "i2"}]},
    ],
}


def validator(name: str) -> jsonschema.Draft202012Validator:
    schema = json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def accepted_by_step_1(topic: str, message: dict[str, Any]) -> bool:
    key = key_of_fields(topic, message) or b"u1"
    try:
        receive(Message(topic, 0, 0, key, json.dumps(message).encode()), NOW_MS)
    except BadMessage:
        return False
    return True


@pytest.mark.parametrize("topic", INPUTS)
def test_a_schema_judges_as_step_1_does(topic: str) -> None:
    schema = validator(topic)
    for expected, messages in ((True, GOOD[topic]), (False, BAD[topic])):
        for message in messages:
            assert schema.is_valid(message) is accepted_by_step_1(topic, message) is expected, message


def test_what_workers_write_is_as_the_schemas_say() -> None:
    letter = DeadLetter(topic="clicks", partition=0, offset=1, error="no JSON", payload=b"{", key=None)
    list_ = json.loads(
        (SCHEMAS.parents[1] / "README.md").read_text(encoding="utf-8").partition("```json\n")[2].partition("```")[0]
    )
    assert validator("dead-letters").is_valid(msgspec.to_builtins(letter))
    assert validator("recommendations").is_valid(list_)
    assert not validator("recommendations").is_valid(list_ | {"items": [{"item_id": "i1"}]})
    msgspec.convert(list_, Recommendations)


def test_the_bodies_of_http_are_as_the_schemas_say() -> None:
    types = {
        "clicks": "click",
        "purchases": "purchase",
        "searches": "search",
        "impressions": "impression",
        "items": "item",
        "knowledge": "triple",
    }
    schema = validator("http-events")
    for topic, type_ in types.items():
        for expected, messages in ((True, GOOD[topic]), (False, BAD[topic])):
            for message in messages:
                body = {"events": [{"type": type_, **message}]}
                assert schema.is_valid(body) is expected, body
    for event in GOOD["events"]:
        assert schema.is_valid({"events": [event]}), event
    assert schema.is_valid({"events": []}) is schema.is_valid({"events": [CLICK]}) is False
    msgspec.convert({"events": [{"type": "click", **CLICK}]}, EventsRequest)


@pytest.mark.parametrize(
    ("name", "type_", "body"),
    [
        ("http-events-results", EventResults, {"results": [{"accepted": True}, {"error": "clicks: …"}]}),
        ("http-error", ErrorBody, {"error": {"code": "no_list", "message": "got …"}}),
        ("http-rerank", RerankQuestion, {"user_id": "u1", "candidates": [{"item_id": "i1", "text": "Tent"}]}),
        ("http-rerank", RerankQuestion, {"history": [{"item_id": "i1"}], "candidates": [{"item_id": "i2"}]}),
        (
            "http-rerank-results",
            Reranked,
            {"items": [{"item_id": "i1", "rank": 1, "score": None}], "model": "m", "degraded": None, "errors": []},
        ),
    ],
)
def test_a_body_of_http_is_as_its_schema_says(name: str, type_: Any, body: dict[str, Any]) -> None:
    assert validator(name).is_valid(body)
    assert validator(name).is_valid(msgspec.to_builtins(msgspec.convert(body, type_)))
    wrong = dict.fromkeys(body, 1)
    assert not validator(name).is_valid(wrong)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wrong, type_)


def test_there_is_one_for_every_topic_and_body() -> None:
    assert {path.stem for path in SCHEMAS.iterdir()} == {*TOPICS, *BODIES}

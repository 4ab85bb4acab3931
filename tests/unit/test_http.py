"""HTTP without a server: rights, limits, errors, and what each route answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from urllib.parse import quote

import httpx
import pytest
from jsonschema import Draft202012Validator
from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import Response

from streams.kafka.input_producer import NotStored
from streams.receive.pseudonym import pseudonym
from streams.serve.rooms import Endpoint
from streams.settings import CandidatesSettings, HttpSettings, Settings, SettingsError
from tests.client import now_ms
from tests.http_app import GUARDED, Shop, bearer

ITEMS = [{"item_id": f"i{rank}", "rank": rank, "score": 1 / rank} for rank in range(1, 6)]
ANN = json.dumps({"schema": 2, "list_id": "l1", "user_id": "ann", "later": {"a": 1}, "items": ITEMS}).encode()
COLD = b'{"schema":2,"user_id":"*","degraded":"cold-user","items":[]}'
ANNS = "/v1/recommendations/ann"


def click(**more: object) -> dict[str, object]:
    return {"type": "click", "event_id": "e1", "user_id": "ann", "item_id": "i1", "timestamp": now_ms(), **more}


def code(response: httpx.Response) -> tuple[int, str]:
    """Return status and code of a typed error."""
    error = response.json()["error"]
    assert set(error) == {"code", "message"}
    assert response.headers["content-type"] == "application/json"
    return response.status_code, error["code"]


def test_a_list_passes_through_byte_for_byte() -> None:
    answer = Shop(stored={"ann": ANN}).get(ANNS)
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, ANN, "application/json")


def test_a_part_of_a_list_has_its_items_and_all_other_fields() -> None:
    shop = Shop(stored={"ann": ANN})
    whole = json.loads(ANN)
    assert shop.get(f"{ANNS}?limit=2&offset=1").json() == whole | {"items": ITEMS[1:3]}
    assert shop.get(f"{ANNS}?offset=9").json() == whole | {"items": []}


def test_the_pages_that_links_name_have_each_item_once_though_the_list_is_replaced() -> None:
    shop = Shop(stored={"ann": ANN})
    first = shop.get(f"{ANNS}?limit=1")
    assert first.json()["items"] == ITEMS[:1]
    shop.lists.stored["ann"] = json.dumps(json.loads(ANN) | {"items": [*reversed(ITEMS)]}).encode()
    second = shop.get(first.links["next"]["url"])
    assert second.json()["items"] == [*reversed(ITEMS)][:1]
    assert code(shop.get(f"{ANNS}?seen=x")) == (400, "invalid_query")
    assert "next" not in shop.get(f"{ANNS}?limit={len(ITEMS)}").links


def test_a_client_that_has_the_list_gets_304() -> None:
    shop = Shop(stored={"ann": ANN})
    tag = shop.get(ANNS).headers["etag"]
    for sent in (tag, f'"other", W/{tag}', "*"):
        again = shop.get(ANNS, headers={"If-None-Match": sent})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert shop.get(f"{ANNS}?limit=1", headers={"If-None-Match": tag}).status_code == 200
    shop.lists.stored["ann"] = ANN.replace(b"l1", b"l2")
    assert shop.get(ANNS, headers={"If-None-Match": tag}).status_code == 200


def test_a_user_without_a_list_gets_404_or_the_cold_start_list() -> None:
    shop = Shop(stored={"*": COLD})
    assert code(shop.get(ANNS)) == (404, "no_list")
    assert shop.get(f"{ANNS}?cold_start=true").json()["user_id"] == "*"
    assert shop.get("/v1/recommendations/*").content == COLD
    assert code(Shop().get(f"{ANNS}?cold_start=true")) == (404, "no_list")


def test_an_empty_list_gives_way_to_the_cold_start_list_where_that_is_asked_for() -> None:
    empty = b'{"schema":2,"user_id":"ann","degraded":"no-candidates","items":[]}'
    shop = Shop(stored={"ann": empty, "*": COLD})
    assert (shop.get(ANNS).content, shop.get(f"{ANNS}?cold_start=true").content) == (empty, COLD)
    assert Shop(stored={"ann": empty}).get(f"{ANNS}?cold_start=true").content == empty


def test_a_domain_is_asked_for_by_its_name_and_its_cold_start_list_is_its_own() -> None:
    films, cold_films = ANN.replace(b"l1", b"films"), COLD.replace(b"[]", b'[{"item_id":"f1","rank":1}]')
    shop = Shop(
        stored={"ann": ANN, "ann:films": films, "*": COLD, "*:books": cold_films},
        candidates=CandidatesSettings(domains=("books", "films")),
    )
    assert shop.get(f"{ANNS}?domain=films").content == shop.get(f"{ANNS}?placement=films").content == films
    assert shop.get(f"{ANNS}?domain=books&cold_start=true").content == cold_films
    assert "domain=films" in shop.get(f"{ANNS}?domain=films&limit=1").links["next"]["url"]
    for wrong in ("domain=music", "domain=films&placement=books"):
        assert code(shop.get(f"{ANNS}?{wrong}")) == (400, "invalid_query")


@pytest.mark.parametrize("user", ["a/b", "/", "a//b/", "a\nb\n", "ä ö", "🙂", "a%2Fb", "a?b#c", "-", " "])
def test_any_id_works_percent_encoded(user: str) -> None:
    shop = Shop(stored={user: ANN})
    assert shop.get(f"/v1/recommendations/{quote(user, safe='')}").content == ANN
    assert shop.ask("DELETE", f"/v1/users/{quote(user, safe='')}").status_code == 202
    (message,) = shop.kafka.sent
    assert message.key == user.encode()
    assert json.loads(message.value or b"")["user_id"] == user


@pytest.mark.parametrize("path", ["%FF", "%ED%A0%80", "", "a" * 257, quote("ä" * 129)])
def test_an_id_that_no_user_can_have_is_refused(path: str) -> None:
    assert code(Shop().get(f"/v1/recommendations/{path}")) == (400, "invalid_id")
    assert code(Shop().ask("DELETE", f"/v1/users/{path}")) == (400, "invalid_id")


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=-1", "limit=x", "limit=99999", "offset=", "offset=١", "cold_start=2", "x=1", "limit=1&limit=1"],
)
def test_a_query_that_is_not_understood_is_refused(query: str) -> None:
    assert code(Shop(stored={"ann": ANN}).get(f"{ANNS}?{query}")) == (400, "invalid_query")


def test_a_read_by_the_real_id_finds_the_list_of_the_pseudonym() -> None:
    key = SecretStr("a key of 16 letters or more")
    stored = ANN.replace(b'"ann"', f'"{pseudonym("ann", key)}"'.encode())
    shop = Shop(stored={pseudonym("ann", key): stored, "*": COLD}, pseudonym_key=key)
    assert shop.get(ANNS).json()["user_id"] == pseudonym("ann", key)
    assert shop.get("/v1/recommendations/*").content == COLD
    shop.post([click()])
    shop.ask("DELETE", "/v1/users/ann")
    assert {message.key for message in shop.kafka.sent} == {b"ann"}, "as every producer sends it; workers replace it"


@pytest.mark.parametrize("stored", [b"{", b'{"schema": 99}', b"\xff"])
def test_a_value_that_is_no_list_is_a_typed_error(stored: bytes) -> None:
    assert code(Shop(stored={"ann": stored}).get(ANNS)) == (500, "list_unreadable")


def test_while_redis_is_away_events_are_still_taken_and_the_other_way_round() -> None:
    shop = Shop(stored={"ann": ANN})
    shop.lists.away = "away"
    assert code(shop.get(ANNS)) == (503, "redis_unavailable")
    assert shop.post([click()]).status_code == 200
    ready = shop.get("/readyz")
    assert (ready.status_code, ready.text) == (200, "ok\nRedis: away\n")
    shop.lists.away, shop.kafka.away, shop.kafka.outcome = "", "gone", NotStored("gone")
    assert shop.get(ANNS).status_code == 200
    answer = shop.post([click()])
    assert code(answer) == (503, "kafka_unavailable")
    assert answer.json()["results"] == [{"error": "gone"}]
    assert int(answer.headers["retry-after"]) > 0
    assert code(shop.ask("DELETE", "/v1/users/ann")) == (503, "kafka_unavailable")
    shop.lists.away = "away"
    assert (shop.get("/readyz").status_code, shop.get("/livez").text) == (503, "ok\n")


def test_events_go_to_their_topics_under_their_keys_as_they_were_sent() -> None:
    shop = Shop(topic_prefix="p.")
    sent = [
        click(own_field={"kept": 1}),
        click(type="purchase", price="9.50", currency="EUR"),
        {"type": "impression", "event_id": "e", "user_id": "b", "list_id": "l", "items": ["i"], "timestamp": now_ms()},
        {"type": "item", "item_id": 7, "title": "Hat"},
        {"type": "triple", "head": "hat", "relation": "made_by", "tail": 7},
        {"type": "merge", "from_user_id": "v", "into_user_id": "ann", "timestamp": now_ms()},
        {"type": "preference", "event_id": "w", "user_id": "ann", "timestamp": now_ms(), "text": "no fur"},
    ]
    answer = shop.post(sent)
    assert (answer.status_code, answer.json()) == (200, {"results": [{"accepted": True}] * 7})
    got = [(each.topic, each.key, json.loads(each.value or b"")) for each in shop.kafka.sent]
    names = ("p.clicks", "p.purchases", "p.impressions", "p.items", "p.knowledge", "p.merges", "p.preferences")
    keys = (b"ann", b"ann", b"b", b"7", b"hat\tmade_by\t7", b"v", b"ann")
    values = [{name: value for name, value in event.items() if name != "type"} for event in sent]
    assert got == list(zip(names, keys, values, strict=True))


def test_each_event_has_its_own_result() -> None:
    shop = Shop()
    bad = [
        click(item_id=None),
        click(user_id="*"),
        {"type": "forget"},
        5,
        {},
        click(timestamp=5),
        click(type=["click"]),
    ]
    answer = shop.post([click(), *bad])
    assert answer.status_code == 207
    first, *others = answer.json()["results"]
    assert first == {"accepted": True}
    assert len(others) == len(bad)
    assert all(set(each) == {"error"} for each in others)
    lone = (
        b'{"events": [{"type": "item", "item_id": "\\ud800", "title": "a"}, {"type": "click", "user_id": "\\ud800"}]}'
    )
    surrogates = shop.ask("POST", "/v1/events", content=lone, headers={"Content-Type": "application/json"})
    assert code(surrogates) in ((422, "rejected"), (400, "invalid_body"))
    assert "cold-start list" in others[1]["error"]
    assert len(shop.kafka.sent) == 1
    nothing = shop.post(bad)
    assert code(nothing) == (422, "rejected")
    assert nothing.json()["results"] == others


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"events": [{"x": "\xff"}]}', b'{"events": 1}', b'{"events": []}', b"\xff", b"[" * 100_000],
)
def test_a_body_of_another_form_is_refused(body: bytes) -> None:
    answer = Shop().ask("POST", "/v1/events", content=body, headers={"Content-Type": "application/json"})
    assert code(answer) == (400, "invalid_body")


def test_a_body_has_its_bounds() -> None:
    shop = Shop(HttpSettings(max_body_bytes=2_000, max_events=3))
    assert code(shop.post([click()] * 4)) == (400, "invalid_body")
    assert code(shop.post([click(text="a" * 2_000)])) == (413, "body_too_large")

    async def chunks() -> object:
        for _ in range(100):
            yield b" " * 1_000

    json_type = {"Content-Type": "application/json"}
    assert code(shop.ask("POST", "/v1/events", content=chunks(), headers=json_type)) == (413, "body_too_large")
    assert code(shop.ask("POST", "/v1/events", content=b"{}", headers={"Content-Type": "text/plain"})) == (
        415,
        "unsupported_media_type",
    )
    assert shop.post([click()]).status_code == 200


def test_each_right_has_its_token() -> None:
    shop = Shop(GUARDED, stored={"ann": ANN})
    for method, path, right in (("GET", ANNS, "read"), ("DELETE", "/v1/users/ann", "write")):
        other = "write" if right == "read" else "read"
        assert shop.ask(method, path, headers=bearer(right)).is_success
        assert code(shop.ask(method, path, headers=bearer(other))) == (403, "forbidden")
        for wrong in (b"", b"Bearer another", b"Basic \xe4", b"Bearer \xe4"):
            refused = shop.ask(method, path, headers={b"Authorization": wrong})
            assert code(refused) == (401, "unauthorized")
            assert refused.headers["www-authenticate"] == "Bearer"
    assert shop.get(ANNS, host="shop.example", headers=bearer("read")).is_success
    assert shop.get("/livez").is_success
    assert shop.get("/openapi.json").is_success


def test_without_tokens_a_web_page_cannot_reach_this_machine_under_a_name_of_its_own() -> None:
    shop = Shop(stored={"ann": ANN})
    assert code(shop.get(ANNS, host="evil.example")) == (421, "misdirected")
    for host in ("localhost:8080", "[::1]:8080", "127.0.0.1"):
        assert shop.get(ANNS, host=host).is_success


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "shop.example"])
def test_other_machines_are_not_served_without_tokens(host: str) -> None:
    with pytest.raises(SettingsError, match=r"HTTP__HOST: got '.*' without AFTERCLICK_HTTP__WRITE_TOKEN, AFTER"):
        HttpSettings(host=host, read_token=GUARDED.read_token).check_tokens()
    GUARDED.model_copy(update={"host": host}).check_tokens()
    HttpSettings(host="::1").check_tokens()


def test_a_client_that_asks_too_often_has_to_wait() -> None:
    shop = Shop(GUARDED.model_copy(update={"rate_per_s": 0.5}), stored={"ann": ANN})
    strangers = [shop.get(ANNS).status_code for _ in range(2)]
    assert strangers == [401, 429]
    assert shop.get(ANNS, headers=bearer("read")).status_code == 200, "a stranger's requests are counted apart"
    limited = shop.get(ANNS, headers=bearer("read"))
    assert code(limited) == (429, "rate_limited")
    assert limited.headers["retry-after"] == "2"
    assert shop.post([click()], headers=bearer("write")).status_code == 200, "each right has its own rate"


def test_what_does_not_exist_is_a_typed_error() -> None:
    shop = Shop()
    assert code(shop.get("/v1/nothing")) == (404, "not_found")
    assert code(shop.get("/v1/recommendations")) == (404, "not_found")
    refused = shop.ask("PUT", "/v1/events")
    assert code(refused) == (405, "method_not_allowed")
    assert refused.headers["allow"] == "POST"


class Broken:
    """A room with a bug."""

    def endpoints(self) -> Sequence[Endpoint]:
        async def fail(_: Request) -> Response:
            raise ZeroDivisionError("a secret")

        return [Endpoint("GET", "/broken", fail, None)]

    def why_not_ready(self) -> list[str]:
        return ["broken: not caught up"]

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


def test_a_bug_is_a_typed_error_that_tells_nothing() -> None:
    shop = Shop(more=[Broken()])
    answer = shop.get("/broken")
    assert code(answer) == (500, "internal")
    assert "secret" not in answer.text
    assert 'afterclick_http_requests_total{route="/broken",status="500"} 1.0' in shop.get("/metrics").text
    assert "/broken" not in shop.get("/openapi.json").text
    assert shop.get("/readyz").text == "not ready\nbroken: not caught up\n"


def test_the_metrics_have_their_token() -> None:
    token = SecretStr("the token of the metrics")
    shop = Shop(metrics=Settings().metrics.model_copy(update={"token": token}))
    shop.lists.away = "away"
    assert code(shop.get("/metrics")) == (401, "unauthorized")
    assert shop.get("/readyz").text == "ok\n", "without the reasons"
    with_token = {"Authorization": f"Bearer {token.get_secret_value()}"}
    text = shop.get("/metrics", headers=with_token).text
    assert 'afterclick_http_requests_total{route="/v1/recommendations/{user}",status="304"}' in text, "born at 0"
    assert shop.get("/readyz", headers=with_token).text == "ok\nRedis: away\n"


def test_a_page_of_another_origin_needs_to_be_named() -> None:
    origin = {"Origin": "https://shop.example"}
    assert "access-control-allow-origin" not in Shop(stored={"ann": ANN}).get(ANNS, headers=origin).headers
    shop = Shop(HttpSettings(cors_origins=("https://shop.example",)), stored={"ann": ANN})
    assert shop.get(ANNS, headers=origin).headers["access-control-allow-origin"] == "https://shop.example"
    asked = origin | {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    assert shop.ask("OPTIONS", "/v1/events", headers=asked).status_code == 200
    assert shop.ask("OPTIONS", "/v1/events", headers=asked | {"Origin": "https://evil.example"}).status_code == 400


@pytest.mark.parametrize("origins", ["shop.example", "https://shop.example/path", "https://a b"])
def test_an_origin_is_checked(origins: str) -> None:
    with pytest.raises(ValueError, match="scheme://host"):
        HttpSettings.model_validate({"cors_origins": origins})


def test_the_document_describes_every_route_with_schemas_that_exist() -> None:
    document = Shop().get("/openapi.json").json()
    assert document["openapi"] == "3.1.0"
    assert {"/v1/recommendations/{user}", "/v1/events", "/v1/users/{user}", "/readyz"} <= document["paths"].keys()
    schemas = document["components"]["schemas"]
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)
    referred = {part.split('"')[0] for part in json.dumps(document).split('"#/components/schemas/')[1:]}
    assert referred <= schemas.keys()
    of_events = document["paths"]["/v1/events"]["post"]
    assert set(of_events["responses"]) >= {"200", "207", "401", "413", "422", "429", "503"}
    names = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(set(names)) == len(names)

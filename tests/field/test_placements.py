"""An upstream recommender's lists beside the click lists: placements, completed requests, and scores by HTTP."""

from __future__ import annotations

import base64
import json
import shlex
import subprocess
from typing import Any

import httpx

from streams.kafka.client import partition_of
from streams.settings import CandidatesSettings, HttpSettings, RankerSettings, Settings
from streams.testing.embedded import free_port
from streams.testing.worker_process import worker
from tests.client import ITEMS, KINDS, Client, now_ms, until, version
from tests.documents import blocks

CANDIDATES = [
    {"item_id": f"item-{number}", "text": f"{KINDS[number % 5].capitalize()} item-{number}. {KINDS[number % 5]}"}
    for number in (1, 10, 25)
]
"""The texts are those that a worker makes of these items."""
FILMS = {"film-1", "film-2"}
NEW = {"item_id": "new", "text": "Walking boots of leather"}


def upstream(client: Client, user_id: str, placement: str, request_id: str, partition: int = -1) -> None:
    """Write a request as another team's recommender does: candidates, no history, no features."""
    request = {
        "request_id": request_id,
        "user_id": user_id,
        "as_of": now_ms(),
        "history": [],
        "candidates": [*CANDIDATES, NEW],
        "placement": placement,
        "flavour": "of no meaning here",
    }
    client.produce("rank-requests", user_id, request, partition)
    client.flush()


def test_an_upstreams_lists_and_the_click_lists_live_side_by_side(settings: Settings, client: Client) -> None:
    http = HttpSettings(port=free_port())
    ranker, candidates = RankerSettings(placements=("cart", "home", "films")), CandidatesSettings(domains=("films",))
    settings = settings.model_copy(update={"ranker": ranker, "candidates": candidates, "http": http})
    client.settings = settings
    elsewhere = (partition_of(b"ann", settings.kafka.partitions) + 1) % settings.kafka.partitions
    with worker(settings, "all") as running:
        running.wait_ready()
        client.items()
        until(lambda: running.total("afterclick_catalogue_items") == len(ITEMS))
        for item_id in FILMS:
            client.produce("items", item_id, {"item_id": item_id, "title": "A film of boots", "domain": "films"})
        client.flush()
        until(lambda: running.total("afterclick_catalogue_items") == len(ITEMS) + len(FILMS))
        for user_id in ("ann", "ann:cart"):
            for number in (0, 5):
                client.click(user_id, f"item-{number}")
        client.flush()
        until(lambda: version(client, "ann", 2) and version(client, "ann:cart:", 2))
        upstream(client, "ann", "cart", "r1", elsewhere)
        upstream(client, "bob", "home", "r2")
        upstream(client, "ann", "nowhere", "r3")
        in_cart = until(lambda: client.cached("ann:cart"))
        check_upstreams_list(in_cart)
        check_domain(client, settings)
        assert until(lambda: client.cached("bob:home"))["degraded"] == "cold-user"
        assert client.cached("ann")["list_id"] != "r1", "the click list is another"
        assert client.cached("ann:cart:")["user_id"] == "ann:cart", "and so is that of a user with such a name"
        [letter] = [value for _, value in client.consume("dead-letters")]
        assert "AFTERCLICK_RANKER__PLACEMENTS" in letter["error"]
        assert b"nowhere" in base64.b64decode(letter["payload"])
        assert running.total("afterclick_unknown_fields_total", topic="rank-requests") >= 2
        check_rerank(http.port, in_cart)
        keys = ("ann", "ann:cart", "ann:cart:", "bob:home")
        before = {key: client.cached(key) for key in keys}
        for key in client.redis.scan_iter(settings.key_prefix + "*"):
            client.redis.delete(key)
        until(lambda: all(client.cached(key) for key in keys))
        assert {key: client.cached(key)["list_id"] for key in keys} == {k: v["list_id"] for k, v in before.items()}
        client.produce("forget", "ann", {"user_id": "ann", "timestamp": now_ms()})
        client.flush()
        until(lambda: client.cached("ann") is None and client.cached("ann:cart") is None)
        newest = client.newest()
        assert (newest["ann"], newest["ann:cart"]) == (None, None)
        assert newest["ann:cart:"] is not None, "another user"
        assert client.cached("ann:cart:") is not None
        assert running.stop() == 0


def check_domain(client: Client, settings: Settings) -> None:
    """Each event makes a list of the domain, and so does a request that asks for it; nobody else's list is of it."""

    def items(key: str) -> set[str]:
        return {item["item_id"] for item in until(lambda: client.cached(key))["items"]}

    assert items("ann:films") == items("*:films") == FILMS
    assert not items("*") <= FILMS
    asked = {"request_id": "r4", "user_id": "eve", "as_of": now_ms(), "history": [], "candidates": []}
    client.produce("rank-requests", "eve", {**asked, "placement": "home", "domain": "films"})
    client.flush()
    assert items("eve:home") == FILMS
    url = f"http://127.0.0.1:{settings.http.port}/v1/recommendations/ann?domain=films"
    assert until(lambda: httpx.get(url, trust_env=False).json().get("placement")) == "films"


def check_upstreams_list(in_cart: dict[str, Any]) -> None:
    """The state tier has completed the request: the model has read the user's history and the features."""
    assert (in_cart["list_id"], in_cart["placement"], in_cart["user_id"]) == ("r1", "cart", "ann")
    assert in_cart["degraded"] is None
    shown = [item["item_id"] for item in in_cart["items"]]
    assert sorted(shown) == ["item-1", "item-10", "item-25", "new"]
    assert set(shown[:3]) == {"item-10", "item-25", "new"}, "the user looks at boots"


def check_rerank(port: int, in_cart: dict[str, Any]) -> None:
    """HTTP gives the same candidates the same scores."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
        question = {"user_id": "ann", "candidates": [*CANDIDATES, NEW, {"item_id": "gone"}]}
        until(
            lambda: http.post("/v1/rerank", json=question).status_code == 200, 90
        )  # models load slowly on a busy machine
        listed = {item["item_id"]: item["score"] for item in in_cart["items"]}

        def answered() -> Any:
            """The counts of the items follow within seconds."""
            answer = http.post("/v1/rerank", json=question).json()
            return answer if all(abs(i["score"] - listed[i["item_id"]]) < 1e-4 for i in answer["items"]) else None

        answer = until(answered)
        assert (answer["degraded"], answer["model"]) == (None, in_cart["model"])
        assert [error["code"] for error in answer["errors"]] == ["unknown_item"]
        in_redis = http.get("/v1/recommendations/ann?placement=cart").json()
        assert in_redis["list_id"] == "r1"
        assert http.get("/v1/recommendations/ann?placement=nowhere").status_code == 400
        assert http.post("/v1/rerank", json={"candidates": CANDIDATES}).status_code == 400
    lines = [line for block in blocks("streams/README.md") for line in block.text.splitlines()]
    (line,) = [line for line in lines if line.startswith("curl ") and line.endswith("/rerank")]
    command = [*shlex.split(line.replace(":8080", f":{port}")), "-sf"]
    documented = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert [item["item_id"] for item in documented["items"]] == ["new"]
    assert [error["item_id"] for error in documented["errors"]] == ["i1"]

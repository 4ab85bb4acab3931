"""Rules end to end: every way that a list goes out keeps them, and the file's changes count while the worker runs."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

from streams.settings import Settings
from streams.testing.worker_process import WorkerProcess, environment, worker
from tests.client import ITEMS, Client, now_ms, until, version

FIRST = """
filter_fields = ["brand"]

[[rule]]
name = "own brand"
boost = 4
items = { brand = "Acme" }

[[rule]]
name = "recalled"
exclude = true
items = { "attributes.recalled" = true }

[[rule]]
name = "where the user is"
exclude = true
unless = { "attributes.countries" = "$context.country" }

[[rule]]
name = "one variant"
at_most = 1
per = "group_id"

[[rule]]
name = "launch"
pin = 2
items = { item_id = "item-59" }
"""
SECOND = FIRST.replace("attributes.recalled", "attributes.odd")


def catalogue(client: Client, recalled: set[int], country: str = "DE") -> None:
    """Items of six brands. Every fourth one is sold in one country alone, and neighbours are variants."""
    for number, item_id in enumerate(ITEMS):
        attributes: dict[str, Any] = {
            "recalled": number in recalled,
            "odd": number % 2 == 1,
            "countries": ["AT"] if number % 4 == 0 else [country, "AT"],
        }
        item = {"item_id": item_id, "title": f"Walking boots {number}", "categories": [f"kind {number % 5}"]}
        more = {"brand": "Acme" if number % 6 == 0 else "Other", "group_id": f"g{number // 2}"}
        client.produce("items", item_id, {**item, **more, "attributes": attributes})
    client.flush()


def numbers(list_: dict[str, Any]) -> list[int]:
    return [int(item["item_id"].split("-")[1]) for item in list_["items"]]


def is_even(client: Client, user_id: str) -> bool:
    return not any(number % 2 for number in numbers(client.cached(user_id)))


def click(client: Client, user_id: str, number: int, **context: str) -> None:
    more: dict[str, Any] = {"context": context} if context else {}
    client.click(user_id, ITEMS[number], **more)
    client.flush()


def test_every_list_keeps_the_rules_and_their_file_may_change(
    settings: Settings, client: Client, tmp_path: Path
) -> None:
    file = tmp_path / "rules.toml"
    file.write_text(FIRST, encoding="utf-8")
    settings = settings.model_copy(update={"rules": file})
    client.settings = settings
    with worker(settings, "all") as running:
        running.wait_ready()
        catalogue(client, recalled={1, 2, 3})
        until(lambda: running.total("afterclick_rules_items", rule="recalled") == 3)
        until(lambda: running.total("afterclick_catalogue_items") == len(ITEMS))
        click(client, "ann", 7, country="DE")
        of_ann = until(lambda: (client.cached("ann") or {}).get("items") and client.cached("ann"))
        shown = numbers(of_ann)
        assert not {1, 2, 3} & set(shown), "recalled"
        assert not any(number % 4 == 0 for number in shown if number != 59), "sold elsewhere alone"
        assert shown[1] == 59, "pinned, whatever recall found"
        assert len({number // 2 for number in shown}) == len(shown), "one variant"
        assert set(of_ann["rules"]) >= {"launch", "where the user is"}
        cold = until(lambda: client.cached("*"))
        assert not {1, 2, 3} & set(numbers(cold))
        check_without_context(running, client)
        check_request(running, client)
        check_reload(running, client, file)
        explained = subprocess.run(
            [sys.executable, "-m", "streams.cli", "rules", "explain", "ann", "--json"],
            env={**environment(settings), "COLUMNS": "200"},
            capture_output=True,
            text=True,
            check=True,
        )
        moves = json.loads(explained.stdout)
        assert {"rule": "launch", "item_id": "item-59", "rank": 2} not in moves, "excluded by the newer file"
        assert any(move["rule"] == "where the user is" and move["rank"] is None for move in moves)


def check_without_context(running: WorkerProcess, client: Client) -> None:
    """A list that is made again without an event, and one whose event says nothing, keep the country of the user."""
    click(client, "ann", 9, device="phone")
    until(lambda: version(client, "ann", 2))
    assert not any(number % 4 == 0 for number in numbers(client.cached("ann")))


def check_request(running: WorkerProcess, client: Client) -> None:
    """Another recommender's own rules, beside the team's."""
    request = {
        "user_id": "bob",
        "history": [],
        "candidates": [{"item_id": ITEMS[number], "text": "boots"} for number in (1, 5, 6, 12, 13, 18)],
        "exclude": [ITEMS[5]],
        "pin": [ITEMS[18]],
        "filter": {"brand": "Acme"},
    }
    client.produce("rank-requests", "bob", {**request, "request_id": "r1", "as_of": now_ms()})
    client.flush()
    of_bob = until(lambda: client.cached("bob"))
    assert numbers(of_bob)[0] == 18
    assert set(numbers(of_bob)) == {18, 6, 12}, "nor the item that the file pins: it is of another brand"
    assert of_bob["rules"]["request.exclude"] == [ITEMS[5]]
    before = running.total("afterclick_events_total", topic="rank-requests", outcome="rejected")
    wrong = {"request_id": "r2", "as_of": now_ms(), "filter": {"price": {"max": 5}}}
    client.produce("rank-requests", "bob", {**request, **wrong})
    client.flush()
    until(lambda: running.total("afterclick_events_total", topic="rank-requests", outcome="rejected") == before + 1)
    [letter] = [value for _, value in client.consume("dead-letters")]
    assert "got the field 'price', expected one of item_id, categories, brand" in letter["error"]


def check_reload(running: WorkerProcess, client: Client, file: Path) -> None:
    """A wrong file changes nothing; a right one withdraws what it excludes from lists that are out."""
    file.write_text(FIRST.replace("boost = 4", "boost = 0"), encoding="utf-8")
    until(lambda: running.total("afterclick_rules_refused") == 1)
    assert running.total("afterclick_rules_changes_total", outcome="refused") == 1
    assert "rules.toml:6: rule 'own brand': got boost = 0" in running.log.read_text()
    other = file.with_suffix(".new")
    other.write_text(SECOND, encoding="utf-8")
    other.replace(file)
    until(lambda: running.total("afterclick_rules_changes_total", outcome="served") == 1)
    for user_id in ("ann", "bob", "*"):
        until(partial(is_even, client, user_id))
    assert running.total("afterclick_rules_refused") == 0
    click(client, "cem", 8, country="AT")
    until(lambda: version(client, "cem", 1))
    assert not any(number % 2 for number in numbers(client.cached("cem")))
    catalogue(client, recalled=set(), country="FR")
    click(client, "ann", 10, country="FR")
    until(lambda: version(client, "ann", 3))

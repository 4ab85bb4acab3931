"""One user's weight in the counts is bounded, whatever the number and the order of their events."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders.events.entries import item_key
from ranker.recall.catalogue import Catalogue
from ranker.recall.counts import Counts
from streams import metrics
from streams.contracts import Click, Purchase
from streams.settings import CandidatesSettings, Settings
from streams.state import stored_memory
from streams.state.tier import StateTier
from streams.state.users import Users

START, DAY, HOUR = 1_700_000_000_000, 86_400_000, 3_600_000
ITEM = "item-0"


class CountingTier:
    """A state tier without a catalogue: items count by their ids."""

    def __init__(self, max_events_per_hour: int = 1_000) -> None:
        self.counts = Counts(90 * DAY, 3 * DAY)
        candidates = CandidatesSettings(max_events_per_hour=max_events_per_hour)
        self._store: dict[bytes, bytes] = {}
        self._tier = StateTier(Settings(candidates=candidates), Users(self._store, 4), Catalogue(4), self.counts, ())

    def take(
        self, user_id: str, events: Sequence[tuple[str, int]], batch: int = 500, kind: type[Click] = Click
    ) -> None:
        """Accept clicks, each an item and a time (milliseconds) after the start."""
        clicks = [
            kind(event_id=f"{number}", user_id=user_id, item_id=item, timestamp=START + time_ms)
            for number, (item, time_ms) in enumerate(events)
        ]
        for begin in range(0, len(clicks), batch):
            self._tier.accept(user_id, clicks[begin : begin + batch])
            for values in self._tier.users.begin_flush().values():
                self._store.update({key: value for key, value in values.items() if value is not None})
            self._tier.users.end_flush()

    def version(self, user_id: str) -> int:
        return self._tier.users.get(user_id).interest.version

    def popularity(self, item: str, time_ms: int) -> float:
        return float(2.0 ** (self.counts.popularity(item_key(item)) - (START + time_ms) / (90 * DAY)))

    def trend(self, item: str, time_ms: int) -> float:
        return float(2.0 ** (self.counts.trend(item_key(item)) - (START + time_ms) / (3 * DAY)))

    def strengths(self, item: str, time_ms: int) -> dict[int, float]:
        """The item's co-visits, decayed and not normalised, by the other item's key."""
        [row] = [row for _, key, row in self.counts.changes() if key == item_key(item)]
        strengths = 2.0 ** (np.frombuffer(row.strengths, "<f8") - (START + time_ms) / (90 * DAY))
        return dict(zip(np.frombuffer(row.neighbours, "<u8").tolist(), strengths.tolist(), strict=True))


@given(st.lists(st.integers(0, 300 * 86_400), min_size=1, max_size=60), st.integers(1, 60), st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_user_counts_once_as_of_their_newest_event_in_any_order(seconds: list[int], batch: int, bought: bool) -> None:
    shop, newest = CountingTier(), max(seconds) * 1000
    shop.take("u", [(ITEM, second * 1000) for second in seconds], batch)
    if bought:
        shop.take("v", [(ITEM, second * 1000) for second in seconds], batch, Purchase)
    for counted in (shop.popularity, shop.trend):
        assert counted(ITEM, newest) == pytest.approx(1 + bought, rel=1e-5)


def test_thousands_of_clicks_weigh_less_than_three_users() -> None:
    shop = CountingTier(16_384)
    shop.take("heavy", [(ITEM, number * 2_000) for number in range(20_000)])
    for user in range(3):
        shop.take(f"user-{user}", [("item-1", 30_000_000)])
    assert shop.version("heavy") == 20_000
    assert shop.counts.trending()[0] == item_key("item-1")
    assert shop.trend(ITEM, 40_000_000) == pytest.approx(1, rel=1e-3)


def test_a_bot_that_cycles_through_more_items_than_a_history_holds_counts_once_for_each_item() -> None:
    shop, items = CountingTier(16_384), [f"item-{number}" for number in range(60)]
    shop.take("bot", [(items[number % 60], number * 1_000) for number in range(6_000)])
    assert max(shop.popularity(item, 6_000_000) for item in items) == pytest.approx(1, rel=1e-3)


def test_a_bot_with_more_items_than_the_memory_holds_never_counts_more_than_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, size in (("RECENT", 2), ("MIDDLE", 8), ("SEEN", 40)):
        monkeypatch.setattr(stored_memory, name, size)
    shop, items = CountingTier(16_384), [f"item-{number}" for number in range(200)]
    shop.take("bot", [(items[number % 200], number * 1_000) for number in range(2_000)], 7)
    assert max(shop.popularity(item, 2_000_000) for item in items) <= 1.001


def test_co_visits_of_one_user_are_bounded() -> None:
    shop = CountingTier(16_384)
    shop.take("u", [(f"item-{number % 2}", number * 1_000) for number in range(4_000)])
    for user in range(8):
        shop.take(f"v{user}", [("item-0", user), ("item-2", user + 1)])
    strengths = shop.strengths("item-0", 4_000_000)
    assert 1 < strengths[item_key("item-1")] < 2 * 1.65 < strengths[item_key("item-2")]


def test_events_beyond_the_limit_of_an_hour_count_for_their_user_alone() -> None:
    shop, uncounted = CountingTier(100), metrics.events_uncounted.labels("busy")
    before = uncounted._value.get()
    shop.take("bot", [(f"item-{number}", number * 6_000) for number in range(300)])
    assert (shop.version("bot"), uncounted._value.get() - before) == (300, 200)
    assert shop.popularity("item-99", 0) > 0.9
    assert shop.popularity("item-100", 0) == 0
    shop.take("bot", [("new", 3 * HOUR)])
    assert shop.popularity("new", 3 * HOUR) == pytest.approx(1), "once it is less busy"


@pytest.mark.parametrize("backwards", [False, True])
def test_recorded_events_that_are_sent_at_any_speed_count(backwards: bool) -> None:
    shop, uncounted = CountingTier(100), metrics.events_uncounted.labels("busy")
    before = uncounted._value.get()
    events = [(f"item-{number}", number * 60_000) for number in range(1_500)]
    shop.take("u", events[::-1] if backwards else events)
    assert uncounted._value.get() == before

"""Signals are a function of the set of messages: shuffled and repeated, they are what the plain log says."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise
from math import log2
from statistics import mean, median
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from encoders.events.entries import Event
from encoders.events.shown_lists import ANSWER_MS, MAX_BYTES, SeenList, hash_of, newest, read, seen_list, written
from encoders.events.types import TAKEN_BACK
from encoders.interest import recompute
from encoders.signals.satisfaction import Signals, of_user, signals_of, unclicked_of
from ranker.recall.catalogue import Catalogue
from ranker.recall.counts import Counts
from ranker.recall.trained import NOTHING
from streams.contracts import Click, Impression, Item, Purchase, UserEvent
from streams.receive.user_events import event_of
from streams.settings import Settings
from streams.state.decays import decay_of
from streams.state.impressions import note_shown
from streams.state.tier import StateTier
from streams.state.users import Users
from tests.property.test_replays import assert_alike

DIM, START, DAY_MS = 8, 1_700_000_000_000, 86_400_000
ITEMS = [f"item-{number}" for number in range(6)]
VECTORS = np.eye(DIM, dtype=np.float32)
SETTINGS = Settings()
DECAY = decay_of(SETTINGS)
Message = Click | Impression
kinds = st.sampled_from(["look", "click", "purchase", "rating", "return", "shown", "shown"])
steps = st.tuples(kinds, st.integers(0, 5), st.integers(0, 100_000), st.sampled_from([1, 40, 900, 4_000, 90_000]))


def messages(of: Sequence[tuple[str, int, int, int]]) -> list[Message]:
    """The messages of one user; each in a second of its own. A return names an earlier or a later purchase, or none."""
    log, second = list[Message](), 0
    for number, (kind, item, value, step) in enumerate(of):
        second += step
        common: dict[str, Any] = {
            "event_id": f"e{number}",
            "user_id": "ann",
            "item_id": ITEMS[item],
            "timestamp": START + second * 1000 + value % 1000,
        }
        if kind == "shown":
            items = [ITEMS[(item + step * rank) % len(ITEMS)] for rank in range(value % 5)]
            del common["item_id"]
            log.append(Impression(**common, list_id="l", items=items))
        elif kind == "rating":
            log.append(UserEvent(**common, type="rating", rating=1 + value % 5))
        elif kind == "return":
            other = value % len(of)
            if of[other][0] == "purchase" and not any(
                isinstance(m, Purchase) and m.takes_back == f"e{other}" for m in log
            ):
                log.append(Purchase(**common | {"item_id": ITEMS[of[other][1]]}, quantity=-1, takes_back=f"e{other}"))
        elif kind == "purchase":
            log.append(Purchase(**common))
        else:
            log.append(Click(**common, dwell_ms=value if kind == "look" else None))
    return log


def state_after(log: Sequence[Message], seed: int) -> Any:
    """The user's record after these messages, in any order, many of them twice, with restarts in between."""
    draw, store = random.Random(seed), dict[bytes, bytes]()
    arrivals = [*log, *draw.sample(log, len(log) // 2)]
    draw.shuffle(arrivals)
    tier = tier_over(store)
    while arrivals:
        size = draw.randint(1, 6)
        batch, arrivals = arrivals[:size], arrivals[size:]
        if clicks := [message for message in batch if isinstance(message, Click)]:
            tier.accept("ann", clicks)
        note_shown(tier.users, "ann", [message for message in batch if isinstance(message, Impression)], DECAY)
        for values in tier.users.begin_flush().values():
            store.update({key: value for key, value in values.items() if value is not None})
        tier.users.end_flush()
        tier = tier_over(store) if draw.random() < 0.3 else tier
    return tier.users.get("ann")


def tier_over(store: dict[bytes, bytes]) -> StateTier:
    tier = StateTier(SETTINGS, Users(store, DIM), Catalogue(DIM), Counts(90 * DAY_MS, 3 * DAY_MS), (), [NOTHING])
    for item_id, vector in zip(ITEMS, VECTORS, strict=False):
        tier.put_item(Item(item_id=item_id, title=item_id), vector, START)
    return tier


def events_of(log: Sequence[Message]) -> list[Event]:
    returned = {message.takes_back for message in log if isinstance(message, Purchase)}
    found = []
    for message in log:
        if isinstance(message, Click):
            event = event_of(message, DECAY.weights)
            is_taken_back = event.type == "purchase" and message.event_id in returned
            found.append(Event(event.item, event.time_ms, TAKEN_BACK) if is_taken_back else event)
    return found


@example([("shown", 0, 4, 1), ("purchase", 2, 0, 40), ("return", 0, 1, 90_000)], 3)
@given(st.lists(steps, max_size=40), st.integers(0, 999))
@settings(max_examples=80, deadline=None)
def test_any_order_with_repeats_gives_what_the_log_says(of: list[tuple[str, int, int, int]], seed: int) -> None:
    log = messages(of)
    record = state_after(log, seed)
    vectors = {
        event_of(Click(event_id="e", user_id="u", item_id=i, timestamp=0), {}).item: v
        for i, v in zip(ITEMS, VECTORS, strict=False)
    }
    assert_alike(record.interest, recompute(events_of(log), vectors.get, DECAY, DIM))
    lists = [seen_list("ann", m.event_id, m.items, at(m)) for m in log if isinstance(m, Impression) and m.items]
    assert read(record.shown) == newest(lists)
    assert unclicked_of(record.interest, read(record.shown)) == unclicked_in(log, newest(lists))
    found, expected = signals_of(record.interest, read(record.shown), DECAY), signals_in(log, newest(lists))
    for name in Signals.__dataclass_fields__:
        same(getattr(found, name), getattr(expected, name), name)
    same(of_user(found), of_user(expected), "score")


def same(found: float | None, expected: float | None, name: str) -> None:
    assert found == (None if expected is None else pytest.approx(expected, rel=1e-3, abs=1e-5)), name


def at(message: Message) -> int:
    assert isinstance(message.timestamp, int)
    return message.timestamp


def unclicked_in(log: Sequence[Message], lists: Sequence[SeenList]) -> dict[int, int]:
    counts: dict[int, int] = {}
    as_of_ms = max((at(message) for message in log if isinstance(message, Click)), default=0)
    for one in [one for one in lists if one.second * 1000 + ANSWER_MS <= as_of_ms]:
        for item in one.items:
            later = [
                m for m in log if isinstance(m, Click) and hash_of(m.item_id) == item and at(m) >= one.second * 1000
            ]
            if not later:
                counts[item] = counts.get(item, 0) + 1
    return counts


def signals_in(log: Sequence[Message], lists: Sequence[SeenList]) -> Signals:
    """The signals of few events, of which none is forgotten: each as one would count it by hand."""
    events = sorted((message for message in log if isinstance(message, Click)), key=at)
    purchases = [m for m in events if isinstance(m, Purchase) and m.takes_back is None]
    returned = {m.takes_back for m in events if isinstance(m, Purchase)} - {None}
    kept = [m.item_id for m in purchases if m.event_id not in returned]
    slots = [at(m) // 900_000 for m in events if not (isinstance(m, Purchase) and m.takes_back)]
    visits = [[slot] for slot in slots[:1]]
    for slot in slots[1:]:
        if slot - visits[-1][-1] <= 2:
            visits[-1].append(slot)
        else:
            visits.append([slot])
    gaps = [(later[0] - earlier[-1]) / 4 for earlier, later in pairwise(visits)]
    share = {m.event_id: 2 ** (-(at(events[-1]) - at(m)) / DECAY.long_half_life_ms) for m in events}
    looks = [m for m in events if m.dwell_ms is not None]
    dwell = sum(share[m.event_id] * min(1, log2(1 + (m.dwell_ms or 0) / 1000) / log2(31)) for m in looks)
    weight = sum(share[m.event_id] for m in looks)
    ratings = [m for m in events if isinstance(m, UserEvent)]
    rated = sum(share[m.event_id] for m in ratings)
    stars = sum(share[m.event_id] * ((m.rating or 0) - 1) / 4 for m in ratings)
    chosen = skipped = 0
    for one in lists:
        answers = {
            hash_of(m.item_id)
            for m in events
            if one.second * 1000 <= at(m) < one.second * 1000 + 30 * 60_000
            and not (isinstance(m, UserEvent) and (m.rating or 0) <= 3)
            and not (isinstance(m, Purchase) and m.takes_back)
            and m.dwell_ms != 0
        }
        ranks = [rank for rank, item in enumerate(one.items) if item in answers]
        if ranks:
            chosen += len(ranks)
            skipped += ranks[-1] + 1 - len(ranks)
    return Signals(
        gap_h=median(gaps) if gaps else None,
        depth=mean(map(len, visits)) if visits else None,
        repeats=1 - len(set(kept)) / len(kept) if kept else None,
        dwell=dwell / weight if weight >= 1 else None,
        skips=skipped / (chosen + skipped) if chosen else None,
        returned=1 - len(kept) / len(purchases) if purchases else None,
        rating=stars / rated if rated else None,
        ratings=rated,
    )


impressions = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 40), st.lists(st.integers(0, 90), max_size=70)), max_size=16
)


@given(impressions, st.integers(0, 99))
@settings(max_examples=80, deadline=None)
def test_the_newest_lists_that_fit_are_kept_in_any_order_and_fit(
    of: list[tuple[int, int, list[int]]], seed: int
) -> None:
    lists = [seen_list("u", f"s{id_}", [f"i{item}" for item in items], s * 1000) for id_, s, items in of if items]
    arrivals = [*lists, *lists[::2]]
    random.Random(seed).shuffle(arrivals)
    data = b""
    for one in arrivals:
        data = written(newest([*read(data), one]))
        assert len(data) <= MAX_BYTES
    kept = read(data)
    assert kept == newest(lists)
    assert {one.id: one.second for one in kept}.items() <= {one.id: one.second for one in sorted(lists)}.items()
    assert len({one.id for one in kept}) == len(kept)
    assert not lists or kept[-1].second == max(one.second for one in lists)


def test_a_cut_list_is_refused() -> None:
    data = written([seen_list("u", "s", ["a", "b"], START)])
    with pytest.raises(ValueError, match="cut off"):
        read(data[:-1] + b"\x09")


@given(st.lists(steps, min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_the_score_is_a_share_and_each_good_sign_raises_it(of: list[tuple[str, int, int, int]]) -> None:
    signals = signals_in(messages(of), [])
    score = of_user(signals)
    assert score is None or 0 <= score <= 1
    for name, better, worse in (
        ("gap_h", 1, 1_000),
        ("depth", 9, 1),
        ("dwell", 1, 0),
        ("skips", 0, 1),
        ("returned", 0, 1),
        ("repeats", 1, 0),
    ):
        high, low = (of_user(Signals(**{**vars(signals), name: value})) or 0 for value in (better, worse))
        assert high > low, name

"""No protocol shows a system what it must not know, and every question has an answer that is new."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranker.evaluation.protocols import (
    Interaction,
    Shown,
    Split,
    impressions,
    leave_one_out,
    next_basket,
    ordered,
    place_of_share,
    prequential,
    time_split,
)

MINUTE_MS = 60_000
events = st.lists(
    st.builds(
        Interaction,
        user=st.sampled_from("abc"),
        item=st.sampled_from("ijklmn"),
        time_ms=st.integers(0, 200).map(lambda minutes: minutes * MINUTE_MS),
        basket=st.none() | st.sampled_from("xyz"),
    ),
    max_size=40,
)
PROTOCOLS: dict[str, Callable[[list[Interaction]], Split]] = {
    "leave-one-out": leave_one_out,
    "next-basket": next_basket,
    "time-split": lambda log: time_split(log, 100 * MINUTE_MS),
    "prequential": lambda log: prequential(log, place_of_share(log, 0.5)),
}


@pytest.mark.parametrize("name", PROTOCOLS)
@given(log=events, seed=st.integers(0, 9))
def test_nothing_asked_for_is_known_before(name: str, log: list[Interaction], seed: int) -> None:
    split = PROTOCOLS[name](ordered(log, seed))
    learnable = set(split.learnable)
    for case in split.cases:
        known = split.known(case)
        assert known
        assert case.targets
        assert case.targets.isdisjoint(event.item for event in known)
        assert known == [
            event
            for place, event in enumerate(split.log)
            if event.user == case.user and place < case.place and place in learnable
        ]
        assert all(event.time_ms <= case.as_of_ms for event in split.before(case.place))
        if name in ("next-basket", "time-split"):
            assert all(event.time_ms < case.as_of_ms for event in split.before(case.place))
        if name != "prequential":
            later = [place for place in split.learnable if place >= case.place]
            assert not any(split.log[place].user == case.user for place in later)


@pytest.mark.parametrize("name", ["leave-one-out", "next-basket"])
@given(log=events)
def test_the_validation_part_asks_what_came_before_the_test(name: str, log: list[Interaction]) -> None:
    split = PROTOCOLS[name](ordered(log, 1))
    asked = {case.user: case.as_of_ms for case in split.cases}
    assert len(asked) == len(split.cases), "each user is asked once"
    for case in PROTOCOLS[name](split.training).cases:
        if case.user in asked:
            assert case.as_of_ms <= asked[case.user]


@given(log=events, seed=st.integers(0, 9))
def test_the_order_depends_on_the_events_and_the_seed_alone(log: list[Interaction], seed: int) -> None:
    one = ordered(log, seed)
    assert one == ordered(log[::-1], seed)
    assert sorted(one, key=repr) == sorted(log, key=repr)
    assert [event.time_ms for event in one] == sorted(event.time_ms for event in log)
    assert ordered(log, seed, line_order=True) == sorted(log, key=lambda event: event.time_ms)


@given(log=events)
def test_a_place_of_a_share_parts_no_moment(log: list[Interaction]) -> None:
    log = ordered(log, 1)
    place = place_of_share(log, 0.5)
    assert place >= round(len(log) / 2)
    assert not {event.time_ms for event in log[:place]} & {event.time_ms for event in log[place:]}


def at(minutes: int, item: str, basket: str | None = None, user: str = "a", shown_in: str | None = None) -> Interaction:
    return Interaction(user, item, minutes * MINUTE_MS, "click", basket, shown_in)


def test_next_basket_asks_for_what_is_new_in_the_last_basket() -> None:
    log = [at(0, "i", "x"), at(0, "j", "x"), at(5, "k", "y"), at(9, "i", "z"), at(9, "l", "z"), at(9, "m", "z")]
    split = next_basket(log)
    (case,) = split.cases
    assert (case.targets, case.place, case.as_of_ms) == (frozenset("lm"), 3, 9 * MINUTE_MS)
    assert split.training == log[:3]
    (earlier,) = next_basket(split.training).cases
    assert earlier.targets == {"k"}


def test_without_baskets_half_an_hour_parts_sessions() -> None:
    log = [at(0, "i"), at(30, "j"), at(61, "k"), at(80, "l")]
    (case,) = next_basket(log).cases
    assert case.targets == {"k", "l"}


def test_leave_one_out_asks_for_the_last_new_item_alone() -> None:
    log = [at(0, "i"), at(1, "j"), at(2, "k"), at(3, "j"), at(3, "i", user="b")]
    split = leave_one_out(log)
    (case,) = split.cases
    assert (case.targets, case.place) == (frozenset("k"), 2)
    assert split.training == [log[0], log[1], log[4]], "what follows the target is in neither part"


def test_a_user_with_one_basket_is_learned_from_and_not_asked() -> None:
    log = [at(0, "i", "x"), at(0, "j", "x")]
    assert next_basket(log).cases == []
    assert next_basket(log).training == log


def test_an_impression_is_answered_by_the_event_that_names_it_or_comes_soon() -> None:
    lists = [
        Shown("one", "a", ("i", "j", "k"), 10 * MINUTE_MS),
        Shown("two", "a", ("i", "l"), 20 * MINUTE_MS),
        Shown("late", "a", ("m", "n"), 90 * MINUTE_MS),
    ]
    log = [at(9, "k"), at(12, "j"), at(21, "i", shown_in="one"), at(22, "l"), at(130, "m")]
    split = impressions(log, lists, 0)
    assert [(case.targets, case.shown) for case in split.cases] == [
        (frozenset("ij"), ("i", "j", "k")),
        (frozenset("l"), ("i", "l")),
    ]
    assert split.known(split.cases[0]) == log[:1]

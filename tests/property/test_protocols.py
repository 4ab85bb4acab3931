"""No protocol shows a system later events, and every case has targets that are new to the user."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranker.evaluation.protocols import (
    Interaction,
    ShownList,
    Split,
    impressions,
    index_of_share,
    leave_one_out,
    next_basket,
    ordered,
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
    "prequential": lambda log: prequential(log, index_of_share(log, 0.5)),
}


@pytest.mark.parametrize("name", PROTOCOLS)
@given(log=events, seed=st.integers(0, 9))
def test_targets_are_new_and_only_earlier_events_are_known(name: str, log: list[Interaction], seed: int) -> None:
    split = PROTOCOLS[name](ordered(log, seed))
    learnable = set(split.learnable)
    for case in split.cases:
        history = split.history(case)
        assert history
        assert case.targets
        assert case.targets.isdisjoint(event.item for event in history)
        assert history == [
            event
            for index, event in enumerate(split.log)
            if event.user == case.user and index < case.log_index and index in learnable
        ]
        assert all(event.time_ms <= case.as_of_ms for event in split.before(case.log_index))
        if name in ("next-basket", "time-split"):
            assert all(event.time_ms < case.as_of_ms for event in split.before(case.log_index))
        if name != "prequential":
            later = [index for index in split.learnable if index >= case.log_index]
            assert not any(split.log[index].user == case.user for index in later)


@pytest.mark.parametrize("name", ["leave-one-out", "next-basket"])
@given(log=events)
def test_the_cases_of_the_validation_part_are_before_those_of_the_test_part(name: str, log: list[Interaction]) -> None:
    split = PROTOCOLS[name](ordered(log, 1))
    test_ms = {case.user: case.as_of_ms for case in split.cases}
    assert len(test_ms) == len(split.cases), "each user has one case"
    for case in PROTOCOLS[name](split.training).cases:
        if case.user in test_ms:
            assert case.as_of_ms <= test_ms[case.user]


@given(log=events, seed=st.integers(0, 9))
def test_the_order_depends_on_the_events_and_the_seed_alone(log: list[Interaction], seed: int) -> None:
    in_order = ordered(log, seed)
    assert in_order == ordered(log[::-1], seed)
    assert sorted(in_order, key=repr) == sorted(log, key=repr)
    assert [event.time_ms for event in in_order] == sorted(event.time_ms for event in log)
    assert ordered(log, seed, line_order=True) == sorted(log, key=lambda event: event.time_ms)


@given(log=events)
def test_the_index_of_a_share_splits_no_moment(log: list[Interaction]) -> None:
    log = ordered(log, 1)
    index = index_of_share(log, 0.5)
    assert index >= round(len(log) / 2)
    assert not {event.time_ms for event in log[:index]} & {event.time_ms for event in log[index:]}


def at(minutes: int, item: str, basket: str | None = None, user: str = "a", list_id: str | None = None) -> Interaction:
    return Interaction(user, item, minutes * MINUTE_MS, "click", basket, list_id)


def test_the_targets_of_next_basket_are_the_new_items_of_the_last_basket() -> None:
    log = [at(0, "i", "x"), at(0, "j", "x"), at(5, "k", "y"), at(9, "i", "z"), at(9, "l", "z"), at(9, "m", "z")]
    split = next_basket(log)
    (case,) = split.cases
    assert (case.targets, case.log_index, case.as_of_ms) == (frozenset("lm"), 3, 9 * MINUTE_MS)
    assert split.training == log[:3]
    (earlier,) = next_basket(split.training).cases
    assert earlier.targets == {"k"}


def test_without_baskets_half_an_hour_ends_a_session() -> None:
    log = [at(0, "i"), at(30, "j"), at(61, "k"), at(80, "l")]
    (case,) = next_basket(log).cases
    assert case.targets == {"k", "l"}


def test_the_target_of_leave_one_out_is_the_last_new_item_alone() -> None:
    log = [at(0, "i"), at(1, "j"), at(2, "k"), at(3, "j"), at(3, "i", user="b")]
    split = leave_one_out(log)
    (case,) = split.cases
    assert (case.targets, case.log_index) == (frozenset("k"), 2)
    assert split.training == [log[0], log[1], log[4]], "what follows the target is in neither part"


def test_a_user_with_one_basket_is_learnt_from_and_has_no_case() -> None:
    log = [at(0, "i", "x"), at(0, "j", "x")]
    assert next_basket(log).cases == []
    assert next_basket(log).training == log


def test_the_targets_of_an_impression_are_in_events_that_name_it_or_follow_soon() -> None:
    lists = [
        ShownList("one", "a", ("i", "j", "k"), 10 * MINUTE_MS),
        ShownList("two", "a", ("i", "l"), 20 * MINUTE_MS),
        ShownList("late", "a", ("m", "n"), 90 * MINUTE_MS),
    ]
    log = [at(9, "k"), at(12, "j"), at(21, "i", list_id="one"), at(22, "l"), at(130, "m")]
    split = impressions(log, lists, 0)
    assert [(case.targets, case.shown_items) for case in split.cases] == [
        (frozenset("ij"), ("i", "j", "k")),
        (frozenset("l"), ("i", "l")),
    ]
    assert split.history(split.cases[0]) == log[:1]

"""No protocol shows a system later events, and every case has targets that are new to the user."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranker.evaluation.impressions import ANSWER_MS, ShownList, impressions
from ranker.evaluation.interactions import Interaction
from ranker.evaluation.log_order import ordered
from ranker.evaluation.protocols import (
    SESSION_GAP_MS,
    Case,
    Split,
    basket_numbers,
    index_of_share,
    leave_one_out,
    next_basket,
    prequential,
    time_split,
)

MINUTE_MS = 60_000
events = st.lists(
    st.builds(
        Interaction,
        user=st.sampled_from(["a", "ab", "a'"]),
        item=st.sampled_from("ijklmn"),
        time_ms=st.integers(0, 200).map(lambda minutes: minutes * MINUTE_MS),
        basket=st.none() | st.sampled_from("xyz"),
        strength=st.integers(1, 127),
    ),
    max_size=40,
)
PROTOCOLS: dict[str, Callable[[Sequence[Interaction]], Split]] = {
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
    expected = sorted(log, key=repr)
    random.Random(seed).shuffle(expected)
    assert in_order == sorted(expected, key=lambda event: event.time_ms)
    assert in_order == ordered(log[::-1], seed)
    assert sorted(in_order, key=repr) == sorted(log, key=repr)
    assert [event.time_ms for event in in_order] == sorted(event.time_ms for event in log)
    assert ordered(log, seed, line_order=True) == sorted(log, key=lambda event: event.time_ms)


def plain_baskets(log: Sequence[Interaction]) -> list[list[int]]:
    """Indices of the events of each basket, one event after the other."""
    named: dict[tuple[str, str], list[int]] = {}
    unnamed: defaultdict[str, list[list[int]]] = defaultdict(list)
    for index, event in enumerate(log):
        sessions = unnamed[event.user]
        if event.basket is not None:
            named.setdefault((event.user, event.basket), []).append(index)
        elif sessions and event.time_ms - log[sessions[-1][-1]].time_ms <= SESSION_GAP_MS:
            sessions[-1].append(index)
        else:
            sessions.append([index])
    return [*named.values(), *(session for sessions in unnamed.values() for session in sessions)]


def plain_cases(name: str, log: Sequence[Interaction]) -> Iterator[Case]:
    """The cases of a protocol, user by user and event by event."""
    cut = {"time-split": next((i for i, event in enumerate(log) if event.time_ms >= 100 * MINUTE_MS), len(log))}
    start = cut.get(name, index_of_share(log, 0.5))
    for user in {event.user for event in log}:
        own = [index for index, event in enumerate(log) if event.user == user]
        new = [index for index in own if log[index].item not in {log[i].item for i in own if i < index}]
        if name == "prequential":
            for index in new[1:]:
                if index >= start:
                    yield Case(user, index, log[index].time_ms, frozenset([log[index].item]))
            continue
        held_out = [index for index in new if index >= start]
        if name == "leave-one-out":
            held_out = new[-1:]
            start = held_out[0]
        elif name == "next-basket":
            held_out = max((basket for basket in plain_baskets(log) if basket[0] in own), key=lambda basket: basket[0])
            start = next(i for i, event in enumerate(log) if event.time_ms == log[held_out[0]].time_ms)
        targets = {log[index].item for index in held_out} - {log[index].item for index in own if index < start}
        if targets and own[0] < start:
            as_of_ms = 100 * MINUTE_MS if name == "time-split" else log[start].time_ms
            yield Case(user, start, as_of_ms, frozenset(targets))


@pytest.mark.parametrize("name", PROTOCOLS)
@given(log=events, seed=st.integers(0, 9))
def test_the_cases_are_those_of_a_plain_loop(name: str, log: list[Interaction], seed: int) -> None:
    in_order = list(ordered(log, seed))
    split = PROTOCOLS[name](in_order)
    assert split.cases == sorted(plain_cases(name, in_order), key=lambda case: (case.log_index, case.user))
    cuts = {case.user: case.log_index for case in split.cases}
    for index, event in enumerate(in_order):
        of_user = name in ("leave-one-out", "next-basket")
        until = cuts.get(event.user, len(log)) if of_user else split.fit_until
        assert (index in set(split.learnable)) == (name == "prequential" or index < until)


@given(log=events)
def test_the_numbers_of_baskets_are_those_of_a_plain_loop(log: list[Interaction]) -> None:
    in_order = list(ordered(log, 1))
    numbers = basket_numbers(in_order)
    together = [numbers[basket].tolist() for basket in plain_baskets(in_order)]
    assert all(len(set(of_basket)) == 1 for of_basket in together)
    assert sorted(of_basket[0] for of_basket in together) == list(range(len(together)))


lists = st.lists(
    st.builds(
        ShownList,
        list_id=st.sampled_from("pqr"),
        user=st.sampled_from(["a", "ab", "never"]),
        items=st.lists(st.sampled_from("ijklmn"), min_size=1, max_size=4).map(tuple),
        time_ms=st.integers(0, 200).map(lambda minutes: minutes * MINUTE_MS),
    ),
    max_size=6,
)


@given(log=events, shown_lists=lists, named=st.lists(st.none() | st.sampled_from("pqs"), min_size=40, max_size=40))
def test_the_cases_of_shown_lists_are_those_of_a_plain_loop(
    log: list[Interaction], shown_lists: list[ShownList], named: list[str | None]
) -> None:
    log = [event._replace(list_id=list_id) for event, list_id in zip(log, named, strict=False)]
    in_order, expected = list(ordered(log, 1)), []
    by_time = sorted(shown_lists, key=lambda shown: (shown.time_ms, shown.list_id))
    for number, shown in enumerate(by_time):
        later = [other.time_ms for other in by_time[number + 1 :] if other.user == shown.user]
        until_ms = min([shown.time_ms + ANSWER_MS, *later[:1]])
        targets = {
            event.item
            for event in in_order
            if event.user == shown.user and event.time_ms >= shown.time_ms and event.item in shown.items
            if event.list_id == shown.list_id or (event.list_id is None and event.time_ms < until_ms)
        }
        index = sum(event.time_ms < shown.time_ms for event in in_order)
        if targets and targets != set(shown.items) and index >= 2:
            expected.append(Case(shown.user, index, shown.time_ms, frozenset(targets), shown.items))
    expected.sort(key=lambda case: (case.log_index, case.user))
    assert impressions(in_order, shown_lists, 2).cases == expected


@given(log=events)
def test_the_index_of_a_share_splits_no_moment(log: list[Interaction]) -> None:
    log = list(ordered(log, 1))
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

"""Where there is no time for all cases of a log, the newest are among those that are asked."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from ranker.evaluation.protocols import Case
from streams.offline.case_pace import MEASURED_CASES, CasePace

CASES, EVENTS = 2_000, 10
"""And events of the log before each case."""


def case(number: int) -> Case:
    return Case(user="u", targets=frozenset({"i"}), log_index=EVENTS * number, as_of_ms=0)


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def asked(deadline_s: float, event_s: float, case_s: float, grows: float = 1.0) -> tuple[list[int], float]:
    """The numbers of the cases that are asked, and when the last one was; each costs up to `grows` times as much."""
    clock, numbers, read = Clock(), list[int](), 0
    pace = CasePace([case(number) for number in range(CASES)], deadline_s, clock)
    for one in pace:
        clock.now_s += event_s * (one.log_index - read)
        read = one.log_index
        seconds = case_s * (1 + (grows - 1) * one.log_index / (EVENTS * CASES))
        clock.now_s += seconds
        pace.note(seconds)
        numbers.append(one.log_index // EVENTS)
    return numbers, clock.now_s


@given(st.floats(0, 1e-3), st.floats(1e-3, 1), st.floats(1.0, 2.0))
def test_all_cases_are_asked_if_there_is_time(event_s: float, case_s: float, grows: float) -> None:
    enough_s = 3 * CASES * (EVENTS * event_s + case_s)
    assert asked(enough_s, event_s, case_s, grows)[0] == list(range(CASES))


@given(st.floats(0, 1e-2), st.floats(1e-2, 1), st.floats(1.0, 2.0), st.floats(0.2, 0.9))
def test_the_newest_cases_are_asked_where_there_is_no_time_for_all(
    event_s: float, case_s: float, grows: float, share: float
) -> None:
    reading_s, asking_s = CASES * EVENTS * event_s, CASES * case_s
    deadline_s = 1.4 * reading_s + share * asking_s
    numbers, ended_s = asked(deadline_s, event_s, case_s, grows)
    assert ended_s <= deadline_s + 2 * case_s + EVENTS * event_s * CASES / len(numbers)
    tenths = Counter(10 * number // CASES for number in numbers[MEASURED_CASES:])
    assert tenths[9] >= share / 4 * CASES / 10
    assert tenths[9] + tenths[8] >= 0.1 * len(numbers)


def test_a_learnt_source_that_places_its_items_does_not_use_up_the_cases_after_it() -> None:
    clock, numbers = Clock(), list[int]()
    pace = CasePace([case(number) for number in range(CASES)], 150.0, clock)
    for one in pace:
        seconds = 50.0 if one.log_index == EVENTS * 800 else 0.05
        clock.now_s += seconds
        pace.note(seconds)
        numbers.append(one.log_index // EVENTS)
    assert len(numbers) > 1_200
    assert sum(number >= 1_800 for number in numbers) >= 100


def test_no_case_is_asked_after_the_deadline_but_the_first() -> None:
    assert asked(-1.0, 0.0, 1.0)[0] == [0]

"""How long a call of a model takes, learnt from calls of any size."""

from __future__ import annotations

import pytest

from streams.rank.call_time import CallTime

LARGEST = 32


@pytest.mark.parametrize("overhead_s", [0.0, 0.01, 0.2])
@pytest.mark.parametrize("list_s", [0.001, 0.012, 0.5])
def test_batches_as_large_as_they_are_worth_are_found_from_a_batch_of_one(overhead_s: float, list_s: float) -> None:
    pace, lists, most = CallTime(), 1, 1
    for _ in range(30):
        pace.note(lists, overhead_s + lists * list_s)
        lists = min(LARGEST, max(1, int(pace.worthwhile())))
        most = max(most, lists)
    best = LARGEST / (overhead_s + LARGEST * list_s)
    assert lists / (overhead_s + lists * list_s) > 0.7 * best
    assert most < 5 + 5 * overhead_s / list_s, "no batch is much larger than that"


def test_calls_of_one_size_promise_little_and_calls_of_two_tell_all() -> None:
    pace = CallTime()
    for _ in range(20):
        pace.note(4, 1.0)
    assert pace.lists_in(2.0) == pytest.approx(9)
    for _ in range(3):
        pace.note(1, 0.4)
    assert pace.lists_in(2.2) == pytest.approx(10, rel=0.1)

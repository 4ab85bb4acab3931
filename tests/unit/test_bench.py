"""The benchmark's pure parts: medians, ratios, targets, the table and the JSON; and that it says what it cannot do."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from streams.bench import command as bench
from streams.bench.rows import Row, Target, percentile, report, table
from streams.bench.scorer import CANDIDATES, HISTORY, Texts
from streams.bench.traffic import Received, Timings
from streams.settings import SettingsError


def answer(at_s: float) -> Received:
    return Received(at_s, b"", b"{}")


@pytest.mark.parametrize(("percent", "expected"), [(0, 1), (1, 1), (50, 50), (99, 99), (99.5, 100), (100, 100)])
def test_percentile_is_the_nearest_rank(percent: float, expected: float) -> None:
    assert percentile(range(100, 0, -1), percent) == expected


def test_a_ratio_is_taken_within_each_round() -> None:
    row = Row("lists", "lists/s", [10, 20, 90], "alone", [20, 20, 100])
    assert row.figure == 20
    assert row.ratio == 0.9  # of 0.5, 1 and 0.9; the ratio of the medians would be 1


def test_rounds_that_do_not_pair_are_a_bug() -> None:
    with pytest.raises(ValueError, match="shorter"):
        _ = Row("lists", "lists/s", [10, 20], "alone", [20]).ratio


@pytest.mark.parametrize(
    ("target", "reached"),
    [
        (None, None),
        (Target(15, at_most=True), True),
        (Target(14, at_most=True), False),
        (Target(0.5, at_most=False, of="ratio"), True),
        (Target(0.8, at_most=False, of="ratio"), False),
    ],
)
def test_a_target_is_on_the_figure_or_on_the_ratio(target: Target | None, reached: bool | None) -> None:
    assert Row("time", "ms", [15], "limit", [30], target).reached is reached


def test_a_ratio_that_was_not_measured_reaches_nothing() -> None:
    assert Row("lists", "lists/s", [1], target=Target(0.8, at_most=False, of="ratio")).reached is None


def test_the_table_shows_every_part_of_a_row() -> None:
    rows = [
        Row("event to list", "ms", [8, 9, 12], "round trip", [2, 3, 3], Target(15, at_most=True), "a note"),
        Row("lists", "lists/s", [1_234.5]),
    ]
    out = io.StringIO()
    Console(file=out, width=140).print(table("pipeline", rows))
    shown = out.getvalue()
    for part in ("event to list", "9 ms", "8..12", "round trip: 3", "4", "<= 15", "yes", "a note", "1,234 lists/s"):
        assert part in shown


def test_the_json_is_whole_and_plain() -> None:
    rows = [Row("event to list", "ms", [8.0, 9.0, 12.0], "round trip", [2.0, 3.0, 3.0], Target(15, at_most=True))]
    got = json.loads(json.dumps(report({"cores": "2"}, {"pipeline": rows}, 12.34)))
    assert got == {
        "machine": {"cores": "2"},
        "benchmarks": {
            "pipeline": [
                {
                    "what": "event to list",
                    "unit": "ms",
                    "figure": 9,
                    "min": 8,
                    "max": 12,
                    "rounds": [8, 9, 12],
                    "versus": "round trip",
                    "versus_figure": 3,
                    "versus_rounds": [2, 3, 3],
                    "ratio": 4,
                    "target": "<= 15",
                    "reached": True,
                    "note": None,
                }
            ]
        },
        "seconds": 12.3,
    }


def test_latencies_leave_out_the_warm_up_and_what_has_no_answer() -> None:
    timings = Timings({"a": 10.0, "b": 12.5, "c": 13.0}, {"a": answer(10.5), "b": answer(12.6)})
    assert timings.latencies_ms(warm_up_s=2) == pytest.approx([100])
    assert timings.unanswered == 1


def test_throughput_counts_from_the_first_message_to_the_last_answer() -> None:
    timings = Timings({"a": 10.0, "b": 10.1}, {"b": answer(12.0), "a": answer(11.0)})
    assert timings.per_s() == 1


def test_a_request_is_as_large_as_said_and_a_new_event_pushes_the_oldest_out() -> None:
    texts = Texts()
    request = texts.request()
    before = request.context.splitlines()
    assert (len(before), len(set(request.candidates))) == (HISTORY, CANDIDATES)
    changed, line = texts.with_new_event(request)
    assert changed.context.splitlines() == [*before[1:], line]
    assert line != texts.with_new_event(request)[1]


def test_an_unknown_benchmark_names_those_that_are() -> None:
    with pytest.raises(SettingsError, match="got 'speed', expected one of pipeline, scorer, start"):
        bench.run("speed", as_json=False)


def test_the_machine_is_named() -> None:
    facts = bench.machine()
    assert facts["processor"]
    assert int(facts["torch threads"]) >= 1
    assert {"flags", "cores", "python", "torch", "aiokafka"} <= facts.keys()

"""The benchmark's pure parts: medians, ratios, targets, the table and the JSON; and that it says what it cannot do."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from rich.console import Console
from rich.progress import Progress

from encoders.models.device import Placement
from ranker.load import load_scorer
from streams.bench import command as bench
from streams.bench import packed, peers, shapes
from streams.bench.rows import Row, Target, percentile, report, table
from streams.bench.scorer import CANDIDATES, HISTORY, Texts
from streams.bench.shapes import Lists, Made, Size
from streams.bench.traffic import Received, Timings
from streams.bench.work import Shape
from streams.settings import SettingsError
from tests import models

SIZE = Size(context=60, candidates=12, length=8)


@pytest.fixture(scope="module")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("bench")
    config = models.encoder(folder / "source") / "config.json"
    narrow = config.read_text(encoding="utf-8").replace('"initializer_range": 0.3', '"initializer_range": 0.02')
    config.write_text(narrow, encoding="utf-8")  # of the head; bfloat16 is too coarse for a wide one
    with peers.quiet():
        return shapes.encoder(folder / "packed", "tiny", str(config.parent))


@pytest.fixture(scope="module")
def tiny_decoder(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("bench")
    with peers.quiet():
        return shapes.decoder(folder / "packed", "tiny", models.GROUPED, str(models.encoder(folder / "source")))


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


@pytest.mark.parametrize(
    ("causal", "weights", "pairs"),
    [
        (False, 2 * 4 * 4 + 2 * 4 * 2 + 2 * 4 * 8, 3 * 3 + 4 * (3 + 2)),
        (True, 2 * 4 * 4 + 2 * 4 * 2 + 3 * 4 * 8, 3 * 3 / 2 + 4 * (3 + 2 / 2)),  # a gate; half of what is one's own
    ],
)
def test_useful_work_is_that_of_each_weight_and_of_each_pair_of_tokens(
    causal: bool, weights: int, pairs: float
) -> None:
    """Two layers; 3 tokens of context, 2 candidates of 2 tokens; queries 4 wide, keys and values 2."""
    shape = Shape(hidden=4, inner=8, layers=2, heads=2, key_heads=1, head_size=2, causal=causal)
    assert shape.weights == 2 * weights
    assert shape.flops(context=3, own=4, candidates=2) == 2 * 2 * weights * (3 + 4) + 4 * 2 * 4 * pairs


def test_a_shape_is_read_from_a_models_folder(tiny_encoder: Made, tiny_decoder: Made) -> None:
    assert Shape.read(tiny_encoder.folder) == Shape(32, 64, 2, 4, 4, 8, causal=False)
    assert Shape.read(tiny_decoder.folder) == Shape(32, 64, 2, 4, 2, 8, causal=True)


@pytest.mark.parametrize("made", ["tiny_encoder", "tiny_decoder"])
def test_lists_have_the_tokens_that_were_asked_for(made: str, request: pytest.FixtureRequest) -> None:
    model: Made = request.getfixturevalue(made)
    lists = Lists(model, SIZE)
    scorer = load_scorer(str(model.folder), "cpu", "float32", cache_bytes=0)
    first = lists.request()
    scorer.score([first])
    assert scorer.usage.context_tokens == SIZE.context
    assert scorer.usage.candidate_tokens == SIZE.candidates * SIZE.length
    clicked = lists.clicked(first)
    assert clicked.context.startswith(f"{first.context}\n")
    assert clicked.candidates != first.candidates
    scorer.score([clicked])
    assert scorer.usage.context_tokens == 2 * SIZE.context + shapes.LINE_WORDS
    assert set(clicked.candidates) <= set(lists.items)


def test_the_peer_of_full_prompts_scores_as_the_packed_decoder(tiny_decoder: Made) -> None:
    request = Lists(tiny_decoder, SIZE).request()
    ours = load_scorer(str(tiny_decoder.folder), "cpu", "float32").score([request])[0]
    with peers.quiet():
        theirs = peers.full_prompts(tiny_decoder.folder, Placement("cpu", "float32", ""))(request)
    assert np.ptp(theirs) > 0
    assert ours == pytest.approx(theirs, abs=1e-4)


@pytest.mark.parametrize("installed", [True, False])
def test_the_packed_rows_stand_beside_their_peers(
    tiny_encoder: Made, tiny_decoder: Made, installed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "cross_encoder", lambda *_: (lambda _: None) if installed else None)
    for side in ("ENCODER_MATMUL", "DECODER_MATMUL"):
        monkeypatch.setattr(packed, side, 32)
    bar = Progress(disable=True)
    with peers.quiet():
        encoder = packed.encoder_rows(tiny_encoder, SIZE, "cpu", bar)
        decoder = packed.decoder_rows(tiny_decoder, SIZE, "cpu", bar)
        click = packed.click_row(tiny_decoder, SIZE, "cpu", bar)
    compared = encoder[2:] + decoder + [click]
    for row in encoder[:2]:
        assert (row.ratio is not None, row.note == peers.NO_SENTENCES) == (installed, not installed)
    assert all(row.ratio is not None and row.ratio > 0 for row in compared)
    assert [row.target and row.target.bound for row in encoder[1:] + decoder] == [20, None, 0.7, 0.4, 18, 0.5]
    assert all(len(row.rounds) == packed.ROUNDS for row in [*encoder, click])
    assert all(len(row.rounds) == packed.FULL_PROMPT_ROUNDS for row in decoder)


def test_an_unknown_benchmark_names_those_that_are() -> None:
    with pytest.raises(SettingsError, match="got 'speed', expected one of pipeline, scorer"):
        bench.run("speed", False, bench.Sizes(20_000, 1_000))


def test_the_machine_is_named() -> None:
    facts = bench.machine()
    assert facts["processor"]
    assert int(facts["torch threads"]) >= 1
    assert {"flags", "cores", "python", "torch", "aiokafka"} <= facts.keys()

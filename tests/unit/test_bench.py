"""The benchmarks without servers: medians, ratios, targets, the table, the JSON, and the packed scorers."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from rich.console import Console

from encoders.models.device import Placement
from ranker.load import load_scorer
from ranker.progress import Progress
from streams.bench import command as bench
from streams.bench import packed, peer_scorers, random_models
from streams.bench.kafka_clients import ReceivedMessage, RoundTrips
from streams.bench.machine import machine
from streams.bench.measurement import Measurement, Target, percentile, report, table
from streams.bench.random_models import ListSize, RandomModel, RandomRequests
from streams.bench.scorer import CANDIDATES, HISTORY, ShopRequests
from streams.settings import SettingsError
from streams.sizing.transformer import TransformerSizes
from tests import models

SIZE = ListSize(context=60, candidates=12, length=8)


def no_progress(name: str) -> Progress:
    """A progress bar that nobody sees."""
    return lambda done, total: None


@pytest.fixture(scope="module")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> RandomModel:
    folder = tmp_path_factory.mktemp("bench")
    config = models.encoder(folder / "source") / "config.json"
    narrow = config.read_text(encoding="utf-8").replace('"initializer_range": 0.3', '"initializer_range": 0.02')
    config.write_text(narrow, encoding="utf-8")  # of the head's weights: bfloat16 is too coarse for wide ones
    with peer_scorers.quiet_transformers():
        return random_models.encoder(folder / "packed", "tiny", str(config.parent))


@pytest.fixture(scope="module")
def tiny_decoder(tmp_path_factory: pytest.TempPathFactory) -> RandomModel:
    folder = tmp_path_factory.mktemp("bench")
    with peer_scorers.quiet_transformers():
        return random_models.decoder(folder / "packed", "tiny", models.GROUPED, str(models.encoder(folder / "source")))


def reply(at_s: float) -> ReceivedMessage:
    return ReceivedMessage(at_s, b"", b"{}")


@pytest.mark.parametrize(("percent", "expected"), [(0, 1), (1, 1), (50, 50), (99, 99), (99.5, 100), (100, 100)])
def test_percentile_is_the_nearest_rank(percent: float, expected: float) -> None:
    assert percentile(range(100, 0, -1), percent) == expected


def test_a_ratio_is_taken_within_each_round() -> None:
    row = Measurement("lists", "lists/s", [10, 20, 90], "alone", [20, 20, 100])
    assert row.figure == 20
    assert row.ratio == 0.9  # of 0.5, 1 and 0.9; the ratio of the medians would be 1


def test_different_numbers_of_rounds_are_an_error() -> None:
    with pytest.raises(ValueError, match="shorter"):
        _ = Measurement("lists", "lists/s", [10, 20], "alone", [20]).ratio


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
    assert Measurement("time", "ms", [15], "limit", [30], target).reached is reached


def test_there_is_no_ratio_to_nothing() -> None:
    assert Measurement("NDCG@10", "", [0.1, 0.2], "shop", [0.0, 0.1]).ratio is None


def test_a_ratio_that_was_not_measured_neither_reaches_nor_misses_its_target() -> None:
    assert Measurement("lists", "lists/s", [1], target=Target(0.8, at_most=False, of="ratio")).reached is None


def test_the_table_shows_every_part_of_a_row() -> None:
    rows = [
        Measurement("event to list", "ms", [8, 9, 12], "round trip", [2, 3, 3], Target(15, at_most=True), "a note"),
        Measurement("lists", "lists/s", [1_234.5]),
    ]
    out = io.StringIO()
    Console(file=out, width=140).print(table("pipeline", rows))
    shown = out.getvalue()
    for part in ("event to list", "9 ms", "8..12", "round trip: 3", "4", "<= 15", "yes", "a note", "1,234 lists/s"):
        assert part in shown


def test_the_json_has_every_part_as_plain_values() -> None:
    rows = [
        Measurement("event to list", "ms", [8.0, 9.0, 12.0], "round trip", [2.0, 3.0, 3.0], Target(15, at_most=True))
    ]
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


def test_latencies_leave_out_the_warm_up_and_messages_without_a_reply() -> None:
    timings = RoundTrips({"a": 10.0, "b": 12.5, "c": 13.0}, {"a": reply(10.5), "b": reply(12.6)})
    assert timings.latencies_ms(warm_up_s=2) == pytest.approx([100])
    assert timings.without_reply == 1


def test_throughput_counts_from_the_first_message_to_the_last_reply() -> None:
    timings = RoundTrips({"a": 10.0, "b": 10.1}, {"b": reply(12.0), "a": reply(11.0)})
    assert timings.per_s() == 1


def test_a_request_has_the_stated_size_and_a_new_event_replaces_the_oldest() -> None:
    shop = ShopRequests()
    request = shop.request()
    before = list(request.event_texts())
    assert (len(before), len(set(request.candidates))) == (HISTORY, CANDIDATES)
    assert shop.with_new_event(request).event_texts()[:-1] == before[1:]


@pytest.mark.parametrize(
    ("causal", "weights", "pairs"),
    [
        (False, 2 * 4 * 4 + 2 * 4 * 2 + 2 * 4 * 8, 3 * 3 + 4 * (3 + 2)),
        (
            True,
            2 * 4 * 4 + 2 * 4 * 2 + 3 * 4 * 8,
            3 * 3 / 2 + 4 * (3 + 2 / 2),
        ),  # a gate; causal attention
    ],
)
def test_useful_work_counts_each_weight_and_each_pair_of_tokens(causal: bool, weights: int, pairs: float) -> None:
    """Two layers; 3 tokens of context, 2 candidates of 2 tokens; queries 4 wide, keys and values 2."""
    shape = TransformerSizes(hidden=4, inner=8, layers=2, heads=2, key_heads=1, head_size=2, causal=causal)
    assert shape.weights == 2 * weights
    assert shape.flops(context=3, own=4, candidates=2) == 2 * 2 * weights * (3 + 4) + 4 * 2 * 4 * pairs


def test_sizes_are_read_from_a_models_folder(tiny_encoder: RandomModel, tiny_decoder: RandomModel) -> None:
    assert TransformerSizes.read(tiny_encoder.folder) == TransformerSizes(32, 64, 2, 4, 4, 8, causal=False)
    assert TransformerSizes.read(tiny_decoder.folder) == TransformerSizes(32, 64, 2, 4, 2, 8, causal=True)


@pytest.mark.parametrize("made", ["tiny_encoder", "tiny_decoder"])
def test_requests_have_the_tokens_of_their_size(made: str, request: pytest.FixtureRequest) -> None:
    model: RandomModel = request.getfixturevalue(made)
    requests = RandomRequests(model, SIZE)
    scorer = load_scorer(str(model.folder), "cpu", "float32", cache_bytes=0)
    first = requests.request()
    scorer.score([first])
    assert scorer.usage.context_tokens == SIZE.context
    assert scorer.usage.candidate_tokens == SIZE.candidates * SIZE.length
    next_request = requests.after_click(first)
    assert next_request.context.startswith(f"{first.context}\n")
    assert next_request.candidates != first.candidates
    scorer.score([next_request])
    assert scorer.usage.context_tokens == 2 * SIZE.context + random_models.LINE_WORDS
    assert set(next_request.candidates) <= set(requests.items)


def test_the_peer_with_full_prompts_scores_as_the_packed_decoder(tiny_decoder: RandomModel) -> None:
    request = RandomRequests(tiny_decoder, SIZE).request()
    ours = load_scorer(str(tiny_decoder.folder), "cpu", "float32").score([request])[0]
    with peer_scorers.quiet_transformers():
        peer = peer_scorers.full_prompts(tiny_decoder.folder, Placement("cpu", "float32", ""))(request)
    assert np.ptp(peer) > 0
    assert ours == pytest.approx(peer, abs=1e-4)


@pytest.mark.parametrize("installed", [True, False])
def test_packed_scorers_are_compared_with_their_peers(
    tiny_encoder: RandomModel, tiny_decoder: RandomModel, installed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_scorers, "cross_encoder", lambda *_: (lambda _: None) if installed else None)
    for side in ("ENCODER_MATMUL", "DECODER_MATMUL"):
        monkeypatch.setattr(packed, side, 32)
    with peer_scorers.quiet_transformers():
        encoder = packed.measure_encoder(tiny_encoder, SIZE, "cpu", no_progress)
        decoder = packed.measure_decoder(tiny_decoder, SIZE, "cpu", no_progress)
        click = packed.measure_click(tiny_decoder, SIZE, "cpu", no_progress)
    compared = encoder[2:] + decoder + [click]
    for row in encoder[:2]:
        assert (row.ratio is not None, row.note == peer_scorers.NO_SENTENCES) == (installed, not installed)
    assert all(row.ratio is not None and row.ratio > 0 for row in compared)
    assert [row.target and row.target.bound for row in encoder[1:] + decoder] == [20, None, 0.7, 0.4, 18, 0.5]
    assert all(len(row.rounds) == packed.ROUNDS for row in [*encoder, click])
    assert all(len(row.rounds) == packed.FULL_PROMPT_ROUNDS for row in decoder)


def test_an_unknown_benchmark_is_refused_with_the_names_of_all() -> None:
    with pytest.raises(SettingsError, match="got 'speed', expected one of pipeline, returning, scorer"):
        bench.run("speed", False, bench.Sizes(20_000, 1_000, 10_000))


def test_the_machine_is_described() -> None:
    facts = machine()
    assert facts["processor"]
    assert int(facts["torch threads"]) >= 1
    assert {"flags", "cores", "python", "torch", "aiokafka"} <= facts.keys()

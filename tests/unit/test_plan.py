"""`afterclick plan`: known answers, more of everything for more load, where costs come from, and wrong options."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from streams import cli
from streams.commands import plan as command
from streams.settings import CandidatesSettings, Settings, SettingsError
from streams.sizing import costs as costs_of
from streams.sizing.costs import DEFAULTS, Costs
from streams.sizing.plan import BASE_BYTES, CARDS, GPU_SHARE, MODEL_BYTES, Load, plan
from streams.sizing.transformer import TransformerSizes

COSTS = Costs(
    machine="a machine of round numbers",
    event_core_ms=1,
    request_core_ms=5,
    list_core_ms=2,
    score_list_core_ms=4,
    score_candidate_core_ms=0.02,
    encode_item_core_ms=10,
    user_bytes=5_000,
    record_bytes=4_000,
    item_bytes=2_000,
    restore_per_s=10_000,
)
LOAD = Load(users=1_000_000, events_per_s=1_000, items=100_000, candidates=100)
SIZES = TransformerSizes(hidden=4, inner=8, layers=2, heads=2, key_heads=1, head_size=2, causal=True)
REQUIRED = ["--users", "1000", "--events-per-second", "1", "--items", "1000"]


def test_a_plan_by_hand() -> None:
    needs = plan(LOAD, COSTS)
    assert needs.state_workers == 10  # 1,000 x (1 + 5) ms are 6 cores, busy for 60% of the time
    assert needs.rank_workers == 10  # the model: 1,000 x (4 + 100 x 0.02) ms
    assert needs.partitions == 32  # twice as many as workers are 20, and the next power of two
    assert needs.gpus == 0
    assert needs.store == "memory"
    assert needs.state_worker_bytes == BASE_BYTES + MODEL_BYTES + 100_000 * 2_000 + 100_000 * 5_000
    assert needs.restore_s == 10  # 100,000 users each
    assert needs.kafka_written_per_s == 1_000 * (250 + 4_000 + 2_000 + 100 * 305 + 20 * 200)
    assert needs.kafka_replicated_per_s == 2 * needs.kafka_written_per_s
    assert needs.kafka_read_per_s == needs.kafka_written_per_s - 1_000 * 4_000
    kept = 1_000 * 250 * 7 * 86_400 + 1_000 * 32_500 * 3_600
    assert needs.kafka_disk_bytes == 3 * (kept + 1.5 * (1_000_000 * 8_000 + 100_000 * 600))
    assert needs.kafka_brokers == 3  # 40.75 MB/s, three times, in brokers of 100 MB/s are 2, and there are 3 copies
    assert (needs.redis_bytes, needs.redis_servers) == (1_000_000 * 4_150, 1)
    assert needs.next_limit.name.startswith("first start")  # 100,000 x 10 ms of an hour
    assert needs.next_limit.share == pytest.approx(1_000 / 3_600)


def test_states_that_do_not_fit_in_memory_are_on_disk() -> None:
    needs = plan(replace(LOAD, users=20_000_000), COSTS)
    assert needs.store == "rocksdb"
    assert needs.state_worker_disk_bytes == 2_000_000 * 4_000 * 1.5
    assert needs.state_worker_bytes < LOAD.worker_gb * 1e9


def test_gpus_follow_from_the_operations_of_the_model() -> None:
    needs = plan(replace(LOAD, model="a model", sizes=SIZES, card="H100"), COSTS)
    assert needs.lists_per_gpu_s == pytest.approx(CARDS["H100"] * 1e12 * GPU_SHARE / SIZES.flops(500, 2_000, 100))
    assert needs.gpus == needs.rank_workers == 4  # so fast a model leaves the way to Kafka: 1,000 x 2 ms, and 60%
    assert plan(replace(LOAD, model="none"), COSTS).rank_workers == 4


def test_the_vectors_that_items_bring_take_memory_in_each_state_worker_and_room_in_kafka() -> None:
    plain = plan(LOAD, COSTS)
    spaces = CandidatesSettings(spaces=("image:512", "sound:128", "map"))
    asked = command.load_of(Settings(candidates=spaces), 1, 1, 1, 1, "default", "L4", 8.0)
    load = replace(LOAD, space_dims=asked.space_dims)
    assert sorted(load.space_dims) == [128, 512, command.USUAL_DIM]
    needs = plan(load, COSTS)
    more = 2 * (512 + 128 + 512) + 3 * 512 + 3 * 400  # above 32,768 items there is a search graph
    assert needs.state_worker_bytes - plain.state_worker_bytes == 100_000 * more
    assert plan(replace(load, items=1_000), COSTS).state_worker_bytes == (
        plan(replace(LOAD, items=1_000), COSTS).state_worker_bytes + 1_000 * (more - 3 * 400)
    )
    assert needs.kafka_disk_bytes > plain.kafka_disk_bytes
    assert any("AFTERCLICK_CANDIDATES__SPACES" in line for line in command.assumptions(load, COSTS, ()))


GROWING = ("users", "events_per_s", "items", "candidates")


@pytest.mark.parametrize("name", GROWING)
@pytest.mark.parametrize("model", ["default", "Qwen/Qwen3-Reranker-0.6B"])
def test_more_load_needs_no_less_of_anything(name: str, model: str) -> None:
    load = replace(LOAD, model=model, sizes=command.sizes_of(model))
    plans = [plan(replace(load, **{name: getattr(load, name) * factor}), COSTS) for factor in (1, 2, 7, 40)]
    for less, more in pairwise(plans):
        for need in ("partitions", "state_workers", "rank_workers", "gpus", "kafka_brokers", "redis_servers"):
            assert getattr(less, need) <= getattr(more, need)
        for need in ("kafka_written_per_s", "kafka_read_per_s", "kafka_disk_bytes", "redis_bytes"):
            assert getattr(less, need) <= getattr(more, need)


def test_each_argument_changes_the_plan() -> None:
    plans = [plan(LOAD, COSTS), *(plan(replace(LOAD, **{name: getattr(LOAD, name) * 9}), COSTS) for name in GROWING)]
    assert len(set(plans)) == len(plans)


def report(**benches: list[dict[str, Any]]) -> dict[str, Any]:
    return {"machine": {"processor": "A processor", "cores": "4"}, "benchmarks": benches}


def test_costs_are_read_from_a_report(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    rows = [
        {"what": "memory of one user's state in a worker, 1,000 users", "figure": 9_999},
        {"what": "memory of one user's state in a worker, 100,000 users", "figure": 4_444},
    ]
    state = [{"what": "events into durable states, one process, 1,000 users", "figure": 10_000}]
    scorer = [{"what": "32 lists a call, all cached", "figure": 400}]
    path.write_text(json.dumps(report(growth=rows, state=state, scorer=scorer)))
    costs, by_default = costs_of.read(path)
    assert (costs.user_bytes, costs.event_core_ms, costs.machine) == (4_444, 0.1, "A processor, 4 cores")
    assert costs.score_core_ms(100) == pytest.approx(2.5)  # one core makes 400 lists a second
    assert costs.item_bytes == DEFAULTS.item_bytes
    assert "item_bytes" in by_default
    assert "user_bytes" not in by_default


@pytest.mark.parametrize(
    ("text", "expected"),
    [("{", "no report"), ("[]", "no report"), (json.dumps(report(start=[])), "got the benchmarks start, expected")],
)
def test_a_file_that_is_no_such_report_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(SettingsError, match=expected):
        costs_of.read(path)


def test_the_names_of_the_rows_are_those_of_the_benchmarks() -> None:
    """A benchmark that renames a row would be read as if it had not been run."""
    source = "".join((Path(__file__).parents[2] / "streams/bench" / f"{name}.py").read_text() for name in costs_of.READ)
    for name in (
        "memory of one user's state in a worker, ",
        "memory of one item in a worker, ",
        "candidates of all sources, ",
        "events into durable states, one process, ",
        "all cached",
    ):
        assert name in source
        assert any(name in pattern for rows in costs_of.READ.values() for _, pattern, _ in rows)


def test_the_plan_is_printed_with_its_assumptions_and_as_json() -> None:
    shown = CliRunner().invoke(cli.app, ["plan", *REQUIRED, "--model", "Qwen/Qwen3-Reranker-0.6B"])
    assert "1 L4, 15 lists/s each at most" in shown.output
    assert "no GPU was measured" in shown.output
    data = json.loads(CliRunner().invoke(cli.app, ["plan", *REQUIRED, "--json"]).output)
    assert data["needs"]["state_workers"] == 1
    assert data["costs"]["machine"] == DEFAULTS.machine
    assert data["needs"]["next_limit"] in {limit["name"] for limit in data["needs"]["limits"]}
    assert data["assumptions"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--model", "no/such-model"], "--model: got 'no/such-model', expected default, none"),
        (["--card", "Voodoo"], "--card: got 'Voodoo', expected one of L4"),
        (["--measure", "--from", "x.json"], "got --measure and --from"),
        (["--from", "no-such-file.json"], "--from no-such-file.json: got no report"),
    ],
)
def test_a_wrong_option_is_named(options: list[str], expected: str) -> None:
    result = CliRunner().invoke(cli.app, ["plan", *REQUIRED, *options])
    assert expected in str(result.exception)


def test_a_folder_gives_its_sizes(tmp_path: Path) -> None:
    config = {"hidden_size": 4, "intermediate_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert command.sizes_of(str(tmp_path)) == TransformerSizes(4, 8, 2, 2, 2, 2, causal=False)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(SettingsError, match="hidden_size"):
        command.sizes_of(str(tmp_path))


def test_examples_have_a_row_for_every_need() -> None:
    shown = io.StringIO()
    command.write(command.EXAMPLES[1][1], DEFAULTS, [], Console(file=shown, width=200), as_json=False)
    lines = command.examples(DEFAULTS).splitlines()
    assert lines[0].count("|") == 5
    assert all(line.split("|")[1].strip() in shown.getvalue() for line in lines[2:])

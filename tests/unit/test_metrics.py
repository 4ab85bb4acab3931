"""Counters are there, at 0, before anything happened: else an alert on a rate never sees the first of its kind."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import get_args

import pytest
from prometheus_client import Counter, Histogram

from streams import metric_labels, metrics
from streams.receive import decode as receive
from streams.receive import lenient
from streams.state.tier import Outcome

ROOT = Path(__file__).parents[2]
NAMES = """
from prometheus_client import generate_latest
from streams import metrics
from streams.publish import cache_errors
metrics.model_from_zero("m@1")
metrics.topics_from_zero(["clicks"], ["shop-events"])
metrics.from_zero(metrics.model_swaps, ["m"], ("served", "refused"))
print(generate_latest().decode())
"""


@pytest.fixture(scope="module")
def samples() -> list[str]:
    """What a worker shows that has done nothing."""
    told = subprocess.run([sys.executable, "-c", NAMES], capture_output=True, text=True, check=True, cwd=ROOT)
    return told.stdout.splitlines()


def calls(name: str) -> Iterator[tuple[Path, ast.Call]]:
    """Every call of `….name(…)` or `name(…)` in the package."""
    for path in (ROOT / "streams").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and re.search(rf"(^|\.){name}$", ast.unparse(node.func)):
                yield path, node


def literals(node: ast.expr) -> list[str]:
    """The strings that an argument can be, as far as they stand there."""
    return [
        str(part.value) for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)
    ]


def test_each_label_value_that_the_code_counts_under_is_there_at_zero(samples: list[str]) -> None:
    missing = []
    for path, call in calls("labels"):
        assert isinstance(call.func, ast.Attribute)
        match = re.fullmatch(r"metrics\.(\w+)", ast.unparse(call.func.value))
        counter = getattr(metrics, match.group(1)) if match else None
        if not isinstance(counter, Counter):
            continue
        for values in product(*(literals(argument) or [""] for argument in call.args)):
            named = [f'{label}="{value}"' for label, value in zip(counter._labelnames, values, strict=True) if value]
            if not any(
                line.startswith(f"{counter._name}_total{{") and line.endswith(" 0.0") and all(n in line for n in named)
                for line in samples
            ):
                missing.append(f"{path.name}: {counter._name} {named}")
    assert not missing


def test_no_counter_and_no_histogram_is_without_a_child(samples: list[str]) -> None:
    shown = {line.partition("{")[0].partition(" ")[0] for line in samples if not line.startswith("#")}
    values = vars(metrics).values()
    assert {counter._name for counter in values if isinstance(counter, Counter)} <= {
        name.removesuffix("_total") for name in shown
    }
    assert {histogram._name for histogram in values if isinstance(histogram, Histogram)} <= {
        name.removesuffix("_count") for name in shown
    }


def test_no_counter_has_a_twin_that_tells_when_it_was_created(samples: list[str]) -> None:
    assert [line for line in samples if "_created" in line] == []


def test_the_first_of_each_kind_comes_after_a_zero(samples: list[str]) -> None:
    for line in (
        'afterclick_events_total{outcome="rejected",topic="clicks"} 0.0',
        'afterclick_dead_letters_total{reason="malformed",topic="purchases"} 0.0',
        'afterclick_cache_writes_total{outcome="failed"} 0.0',
        'afterclick_lists_degraded_total{model="m@1",reason="model-error"} 0.0',
        'afterclick_model_swaps_total{model="m",outcome="refused"} 0.0',
    ):
        assert line in samples


def test_the_values_are_the_codes_own() -> None:
    reasons = {value for _, call in calls("BadMessage") for value in literals(call.args[0])}
    assert reasons == set(metric_labels.REJECTION_REASONS)
    assert {*lenient.KINDS, "bom", "confluent"} == set(metric_labels.COERCION_KINDS)
    assert metric_labels.INPUTS == receive.INPUTS
    outcomes = {outcome for topic, outcome in metrics.events._metrics if topic == "clicks"}
    assert set(get_args(Outcome)) <= outcomes
    readme = (ROOT / "streams/README.md").read_text(encoding="utf-8")
    assert [reason for reason in metric_labels.DEGRADED_REASONS if f"`{reason}`" not in readme] == []

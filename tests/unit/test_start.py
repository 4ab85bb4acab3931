"""A worker's start: its steps, and what the models' process imports before it knows its models."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from prometheus_client import REGISTRY

from streams import metrics
from streams.worker.start_steps import StartSteps


@pytest.fixture(autouse=True)
def no_steps() -> Iterator[None]:
    metrics.start_seconds.clear()
    yield
    metrics.start_seconds.clear()


def seconds(step: str) -> float | None:
    return REGISTRY.get_sample_value("afterclick_start_seconds", {"step": step})


def test_a_step_counts_from_the_start_of_the_process() -> None:
    process = subprocess.run(
        [
            sys.executable,
            "-c",
            "import time; time.sleep(0.2)\n"
            "from streams.worker.start_steps import steps\n"
            "from streams import metrics; steps.end('imports')\n"
            "print(metrics.start_seconds.labels('imports')._value.get(), time.process_time())",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    measured_s, cpu_s = map(float, process.stdout.split())
    assert 0.2 <= measured_s < 30
    assert measured_s > cpu_s


def test_the_later_end_of_a_step_counts_until_the_worker_is_ready() -> None:
    steps = StartSteps()
    began_s = steps._began_s
    steps.end("group", began_s + 1)
    steps.end("group", began_s + 2)
    steps.finish()
    steps.end("group", began_s + 900)  # a rebalance of a worker that has long been ready
    assert seconds("group") == pytest.approx(2)
    assert seconds("ready") == pytest.approx(time.monotonic() - began_s, abs=5)


def test_the_models_process_imports_nothing_that_a_worker_does_not_depend_on() -> None:
    code = (
        "import sys\n"
        "from streams.models import child\n"
        "assert 'numpy' not in sys.modules and 'streams.settings' not in sys.modules\n"  # so it starts first of all
        "child._import_libraries()\n"
        "print([name for name in child.UNUSED if sys.modules[name]], 'torch' in sys.modules, child.imported_s > 0)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.split() == ["[]", "True", "True"]

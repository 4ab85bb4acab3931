"""Measure how long the package, the command line and a worker take to start, and each step of the worker's start.

Each start is a fresh process, in turns with a bare process that does the least of the same. A worker is ready when
`/readyz` says so.
"""

from __future__ import annotations

import subprocess
import sys
import time

from ranker.progress import StageProgress
from streams.bench.measurement import Measurement, Target
from streams.bench.servers import BenchFailed, Servers, worker_topics
from streams.bench.timing import seconds
from streams.terminal.progress_bar import track
from streams.testing.worker_process import worker

ROUNDS, WORKERS = 5, 3
READY_S = 6.0
"""The target on two cores, with an empty cluster and the default model."""
LOOK_EVERY_S, PATIENCE_S = 0.02, 90.0
IMPORT = """
import sys, time
begin = time.perf_counter()
import streams
print(time.perf_counter() - begin, sum(name.partition(".")[0] == "torch" for name in sys.modules))
"""


def measure(servers: Servers, stage: StageProgress) -> list[Measurement]:
    """Time imports, `afterclick --help`, and a worker from its start until it is ready.

    Raises
    ------
    BenchFailed
        Something did not start.
    """
    imports, torch_modules, bare, helps = [], [], [], []
    for _ in track(range(ROUNDS), "Starting the command line", stage):
        import_s, modules = _python("-c", IMPORT).split()
        imports.append(float(import_s) * 1000)
        torch_modules.append(float(modules))
        bare.append(seconds(_python, "-c", "pass") * 1000)
        helps.append(seconds(_python, "-m", "streams.cli", "--help") * 1000)
    workers, torch_alone = [], []
    steps: dict[str, list[float]] = {}
    for _ in track(range(WORKERS), "Starting workers", stage):
        ready_s, ends = _start_worker(servers)
        workers.append(ready_s)
        for step, end_s in ends.items():
            steps.setdefault(step, []).append(end_s)
        torch_alone.append(seconds(_python, "-c", "import torch"))
    interpreter = "a bare interpreter's start"
    return [
        Measurement("import streams", "ms", imports, interpreter, bare, Target(1_000, at_most=True)),
        Measurement(
            "torch modules that import streams loads", "modules", torch_modules, target=Target(0, at_most=True)
        ),
        Measurement("afterclick --help", "ms", helps, interpreter, bare),
        Measurement(
            "a worker's start to ready, no items",
            "s",
            workers,
            "a process that imports torch",
            torch_alone,
            Target(READY_S, at_most=True),
            "The steps are those of afterclick_start_seconds. The models' process works on libraries, scorer and "
            "encoder while the worker works on imports and checks.",
        ),
        *(Measurement(f"its step: {step}", "s", ends) for step, ends in _in_order(steps)),
    ]


def _start_worker(servers: Servers) -> tuple[float, dict[str, float]]:
    """Return the seconds from the start of a worker's process until it is ready, and to the end of each step.

    Raises
    ------
    BenchFailed
        The worker was not ready within `PATIENCE_S`.
    """
    with worker_topics(servers, servers.settings.ranker.model) as settings:
        begin_s = time.perf_counter()
        with worker(settings) as process:
            while process.get("/readyz")[0] != 200:
                if time.perf_counter() - begin_s > PATIENCE_S:
                    raise BenchFailed(f"a worker was not ready after {PATIENCE_S:g} s; is the machine busy?")
                time.sleep(LOOK_EVERY_S)
            ready_s = time.perf_counter() - begin_s
            steps = {s.labels["step"]: s.value for s in process.samples() if s.name == "afterclick_start_seconds"}
            return ready_s, steps


def _in_order(steps: dict[str, list[float]]) -> list[tuple[str, list[float]]]:
    return sorted(steps.items(), key=lambda step: min(step[1]))


def _python(*arguments: str) -> str:
    """Run a fresh interpreter to its end; return its output."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise BenchFailed(f"python {' '.join(arguments)}: got status {done.returncode}, expected 0: {done.stderr}")
    return done.stdout

"""Measure how long the package, the command line and a worker take to start.

Each start is a fresh process, in turns with a bare process that does the least of the same.
"""

from __future__ import annotations

import subprocess
import sys
import time

from ranker.progress import StageProgress
from streams.bench.measurement import Measurement, Target
from streams.bench.servers import BenchFailed, Servers, worker_topics
from streams.bench.timing import seconds
from streams.progress_bar import track
from streams.testing.worker_process import worker

ROUNDS, WORKERS = 5, 3
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
    for _ in track(range(WORKERS), "Starting workers", stage):
        workers.append(_ready_s(servers))
        torch_alone.append(seconds(_python, "-c", "import torch"))
    interpreter = "a bare interpreter's start"
    return [
        Measurement("import streams", "ms", imports, interpreter, bare, Target(1_000, at_most=True)),
        Measurement(
            "torch modules that import streams loads", "modules", torch_modules, target=Target(0, at_most=True)
        ),
        Measurement("afterclick --help", "ms", helps, interpreter, bare),
        Measurement("a worker's start to ready, no items", "s", workers, "a process that imports torch", torch_alone),
    ]


def _ready_s(servers: Servers) -> float:
    """Return the seconds from the start of a worker's process until it is ready; its topics exist before."""
    with worker_topics(servers, servers.settings.ranker.model) as settings:
        begin_s = time.perf_counter()
        with worker(settings) as process:
            process.wait_ready()
            return time.perf_counter() - begin_s


def _python(*arguments: str) -> str:
    """Run a fresh interpreter to its end; return its output."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise BenchFailed(f"python {' '.join(arguments)}: got status {done.returncode}, expected 0: {done.stderr}")
    return done.stdout

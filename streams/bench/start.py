"""How long things take to start: the package, the command line, a worker. Called by `bench`.

Each in a fresh process, in turns with a bare one that does the least of it.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

from rich.progress import Progress

from streams.bench.ground import BenchFailed, Ground, topics
from streams.bench.rows import Row, Target
from streams.testing.worker_process import worker

ROUNDS, WORKERS = 5, 3
IMPORT = """
import sys, time
begin = time.perf_counter()
import streams
print(time.perf_counter() - begin, sum(name.partition(".")[0] == "torch" for name in sys.modules))
"""


def measure(ground: Ground, progress: Progress) -> list[Row]:
    """Time imports, `afterclick --help`, and a worker's way to ready.

    Raises
    ------
    BenchFailed
        Something did not start.
    """
    imports, torches, bare, helps = [], [], [], []
    for _ in progress.track(range(ROUNDS), description="Starting the command line"):
        seconds, torch_modules = _output("-c", IMPORT).split()
        imports.append(float(seconds) * 1000)
        torches.append(float(torch_modules))
        bare.append(_timed(lambda: _output("-c", "pass")) * 1000)
        helps.append(_timed(lambda: _output("-m", "streams.cli", "--help")) * 1000)
    workers, torch_alone = [], []
    for _ in progress.track(range(WORKERS), description="Starting workers"):
        workers.append(_ready_s(ground))
        torch_alone.append(_timed(lambda: _output("-c", "import torch")))
    interpreter = "a bare interpreter's start"
    return [
        Row("import streams", "ms", imports, interpreter, bare, Target(1_000, at_most=True)),
        Row("torch modules that import streams loads", "modules", torches, target=Target(0, at_most=True)),
        Row("afterclick --help", "ms", helps, interpreter, bare),
        Row("a worker's start to ready, no items", "s", workers, "a process that imports torch", torch_alone),
    ]


def _ready_s(ground: Ground) -> float:
    """From the worker's process to its readiness; its topics are there before."""
    with topics(ground, ground.settings.ranker.model) as settings:
        begin = time.perf_counter()
        with worker(settings) as running:
            running.wait_ready()
            return time.perf_counter() - begin


def _timed(action: Callable[[], object]) -> float:
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def _output(*arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise BenchFailed(f"python {' '.join(arguments)}: got status {done.returncode}, expected 0: {done.stderr}")
    return done.stdout

"""`afterclick bench`: speed, each figure beside a limit or a peer measured in turns with it, in the same run.

Only the ratios mean something beyond this machine and this hour. Settings are the user's own, but for what two
workers would share. Called by the command line; the modules named like the benchmarks measure.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from streams.bench import candidates, growth, pipeline, plot, scorer, start, state
from streams.bench.ground import Ground, prepared
from streams.bench.rows import Row, report, table
from streams.bench.work import processor
from streams.settings import SettingsError, load

BENCHES = ("pipeline", "scorer", "state", "start", "candidates", "growth")
ON_KAFKA = {"pipeline": pipeline.measure, "state": state.measure, "start": start.measure}
PLOT = "growth.png"
PACKAGES = (
    "torch",
    "transformers",
    "sentence-transformers",
    "usearch",
    "faust-streaming",
    "aiokafka",
    "confluent-kafka",
    "redis",
)
FLAGS = ("amx_bf16", "avx512_bf16")


@dataclass(frozen=True)
class Sizes:
    """How much `candidates` and `growth` measure with.

    Attributes
    ----------
    items, users : the most.
    keep : folder for what is built and drawn: the graph, so that the next run need not build it, and the plot.
    """

    items: int
    users: int
    keep: Path | None = None


def run(name: str | None, as_json: bool, sizes: Sizes) -> None:
    """Measure one of `BENCHES`, or all, one after the other; a table each on stdout, or one JSON object.

    Raises
    ------
    SettingsError
        There is no such benchmark, or a setting is wrong.
    streams.bench.ground.BenchFailed, streams.testing.embedded.EmbeddedUnavailable
    """
    if name is not None and name not in BENCHES:
        raise SettingsError(f"bench: got {name!r}, expected one of {', '.join(BENCHES)}, or nothing for all of them")
    settings, begin = load(), time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started ends with us
    console = Console(quiet=as_json)
    facts = machine()
    console.print(", ".join(f"{key} {value}" for key, value in facts.items()), highlight=False, soft_wrap=True)
    measured: dict[str, list[Row]] = {}
    with ExitStack() as running:
        ground: Ground | None = None
        for bench in [name] if name else BENCHES:
            with _bars() as progress:
                if bench == "scorer":
                    title, rows = bench, scorer.measure(settings, progress)
                elif bench == "candidates":
                    title, rows = bench, candidates.measure(sizes.items, sizes.keep, progress)
                elif bench == "growth":
                    title, rows = bench, growth.measure(sizes.items, sizes.users, progress)
                    picture = (sizes.keep or Path()) / PLOT
                    facts["plot"] = str(picture.absolute()) if plot.draw(rows, picture) else plot.NO_MATPLOTLIB
                else:
                    ground = ground or running.enter_context(prepared(settings))
                    facts["kafka"] = ground.kafka
                    title, rows = f"{bench}, on {ground.kafka}", ON_KAFKA[bench](ground, progress)
            measured[bench] = rows
            console.print("", table(title, rows))
            if bench == "growth":
                console.print(f"plot: {facts['plot']}", highlight=False, soft_wrap=True)
    if as_json:
        sys.stdout.write(json.dumps(report(facts, measured, time.monotonic() - begin)) + "\n")


def machine() -> dict[str, str]:
    """Name what decides the speed: processor, cores, threads, versions."""
    import torch

    fields = processor()
    flags = [flag for flag in FLAGS if flag in fields.get("flags", "").split()]
    facts = {
        "processor": fields.get("model name") or platform.processor() or platform.machine(),
        "flags": " ".join(flags) or f"without {' and '.join(FLAGS)}",
        "cores": str(os.cpu_count()),
        "torch threads": str(torch.get_num_threads()),
        "python": platform.python_version(),
    }
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            facts[package] = version(package)
    return facts


def _bars() -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    return Progress(*columns, console=Console(stderr=True), transient=True)

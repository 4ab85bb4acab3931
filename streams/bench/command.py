"""`afterclick bench`: measures speed. Each figure stands beside a limit or a peer, measured in turns in the same run.

Only the ratios are meaningful on another machine or at another hour. The settings are the user's own, except for what
two workers would share. The modules named like the benchmarks measure.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from ranker.progress import StageProgress
from streams.bench import (
    candidates,
    growth,
    http,
    knowledge,
    learnt,
    log_growth,
    pipeline,
    plot,
    profiles,
    rerank,
    returning,
    rules,
    scorer,
    start,
    state,
)
from streams.bench.machine import machine
from streams.bench.measurement import Measurement, report, table
from streams.bench.servers import Servers, running_servers
from streams.settings import Settings, SettingsError, load
from streams.terminal.progress_bar import progress_bar
from streams.terminal.report import show

BENCHES = (
    "pipeline",
    "returning",
    "scorer",
    "rerank",
    "state",
    "start",
    "candidates",
    "learnt",
    "rules",
    "knowledge",
    "profiles",
    "growth",
    "http",
)
ALONE: dict[str, Callable[[StageProgress], list[Measurement]]] = {
    "learnt": learnt.measure,
    "rules": rules.measure,
    "knowledge": knowledge.measure,
    "profiles": profiles.measure,
}
OF_THE_MODEL: dict[str, Callable[[Settings, StageProgress], list[Measurement]]] = {
    "scorer": scorer.measure,
    "rerank": rerank.measure,
}
ON_KAFKA: dict[str, Callable[[Servers, StageProgress], list[Measurement]]] = {
    "pipeline": pipeline.measure,
    "returning": returning.measure,
    "state": state.measure,
    "start": start.measure,
    "http": http.measure,
}
PLOT = "growth.png"


@dataclass(frozen=True)
class Sizes:
    """The largest sizes that `candidates` and `growth` measure.

    Attributes
    ----------
    items, users, events : int
        Items of a catalogue, users with a state, and events of a log.
    keep : Path, optional
        A folder for the graph, which the next run need not build again, and for the plot.
    """

    items: int
    users: int
    events: int
    keep: Path | None = None


class BenchRun:
    """One run of `afterclick bench`: the benchmarks share its servers; `close` stops them.

    Attributes
    ----------
    facts : dict of str to str
        The machine, and the Kafka and the plot once there are any.
    """

    def __init__(self, settings: Settings, sizes: Sizes) -> None:
        self.facts = machine()
        self._settings, self._sizes = settings, sizes
        self._running = ExitStack()
        self._servers: Servers | None = None

    def measure(self, bench: str, stage: StageProgress) -> list[Measurement]:
        """Run one of `BENCHES`; start the servers if it is the first that needs them."""
        sizes = self._sizes
        if bench in ALONE:
            return ALONE[bench](stage)
        if bench in OF_THE_MODEL:
            return OF_THE_MODEL[bench](self._settings, stage)
        if bench == "candidates":
            return candidates.measure(sizes.items, sizes.keep, stage)
        if bench == "growth":
            measurements = growth.measure(sizes.items, sizes.users, stage) + log_growth.measure(sizes.events, stage)
            picture = (sizes.keep or Path()) / PLOT
            drawn = plot.draw(measurements, picture)
            self.facts["plot"] = str(picture.absolute()) if drawn else plot.NO_MATPLOTLIB
            return measurements
        if self._servers is None:
            self._servers = self._running.enter_context(running_servers(self._settings))
            self.facts["kafka"] = self._servers.kafka
        return ON_KAFKA[bench](self._servers, stage)

    def close(self) -> None:
        self._running.close()


def run(name: str | None, as_json: bool, sizes: Sizes) -> None:
    """Run one of `BENCHES`, or all in turn; print a table for each to stdout, or one JSON object.

    Raises
    ------
    SettingsError
        There is no such benchmark, or a setting is wrong.
    streams.bench.servers.BenchFailed, streams.testing.embedded.EmbeddedUnavailable
    """
    if name is not None and name not in BENCHES:
        raise SettingsError(f"bench: got {name!r}, expected one of {', '.join(BENCHES)}, or nothing for all of them")
    settings, begin_s = load(), time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the servers stop with this process
    console = Console(quiet=as_json)
    measured: dict[str, list[Measurement]] = {}
    with ExitStack() as stack:
        this_run = BenchRun(settings, sizes)
        stack.callback(this_run.close)
        facts = this_run.facts
        console.print(", ".join(f"{key} {value}" for key, value in facts.items()), highlight=False, soft_wrap=True)
        for bench in [name] if name else BENCHES:
            with progress_bar() as stage:
                measured[bench] = this_run.measure(bench, stage)
            title = f"{bench}, on {facts['kafka']}" if bench in ON_KAFKA else bench
            console.print()
            show(table(title, measured[bench]), console=console)
            if bench == "growth":
                console.print(f"plot: {facts['plot']}", highlight=False, soft_wrap=True)
    if as_json:
        sys.stdout.write(json.dumps(report(facts, measured, time.monotonic() - begin_s)) + "\n")

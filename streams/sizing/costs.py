"""What one event, list, user and item cost: measured on a named machine, or read from a saved `afterclick bench`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from streams.settings import SettingsError

MEASURED_CANDIDATES = 100
"""Candidates of a list in `afterclick bench scorer`."""


@dataclass(frozen=True)
class Costs:
    """The costs of the parts. One core-millisecond is one core at work for a millisecond.

    Attributes
    ----------
    machine : str
        Where they were measured.
    event_core_ms : float
        An event into a durable state.
    request_core_ms : float
        Candidates of all sources and a rank request.
    list_core_ms : float
        Selection, and the way to Kafka and Redis, of a ranked list.
    score_list_core_ms, score_candidate_core_ms : float
        The model `default` on a CPU: of each list, and of each candidate more.
    encode_item_core_ms : float
        The vector of an item, and its place in the search graph.
    user_bytes, record_bytes : float
        A user's state in memory, and as written.
    item_bytes : float
        An item in a worker's memory.
    restore_per_s : float
        States a second that a worker reads back from the changelog.
    """

    machine: str
    event_core_ms: float
    request_core_ms: float
    list_core_ms: float
    score_list_core_ms: float
    score_candidate_core_ms: float
    encode_item_core_ms: float
    user_bytes: float
    record_bytes: float
    item_bytes: float
    restore_per_s: float

    def score_core_ms(self, candidates: int) -> float:
        """Return what the model `default` computes for one list on a CPU."""
        return self.score_list_core_ms + self.score_candidate_core_ms * candidates


DEFAULTS = Costs(
    machine="AMD EPYC (Zen 4), 2 cores",
    event_core_ms=0.17,
    request_core_ms=6.5,
    list_core_ms=2.5,
    score_list_core_ms=0.1,
    score_candidate_core_ms=0.001,
    encode_item_core_ms=6.0,
    user_bytes=4_000,
    record_bytes=4_000,
    item_bytes=2_600,
    restore_per_s=8_300,
)
"""What `afterclick plan --measure` found on that machine, otherwise idle, rounded. `list_core_ms` is what remains of
the 9 core-ms that a worker and its models' process take for a list in all (`bench pipeline`). `restore_per_s` is what
a test demands; a worker is faster on most machines."""

Figure: TypeAlias = "tuple[str, str, Callable[[float, int], float]]"
READ: dict[str, tuple[Figure, ...]] = {
    "growth": (
        ("user_bytes", r"memory of one user's state in a worker, ([\d,]+) users", lambda figure, _: figure),
        ("item_bytes", r"memory of one item in a worker, ([\d,]+) items", lambda figure, _: figure),
        ("request_core_ms", r"candidates of all sources, ([\d,]+) items, p50", lambda figure, _: figure),
    ),
    "state": (
        ("event_core_ms", r"events into durable states, one process, ([\d,]+) users", lambda figure, _: 1_000 / figure),
    ),
    "scorer": (
        (
            "score_list_core_ms",
            r"(32) lists a call, all cached",
            lambda figure, _: 1_000 / figure - MEASURED_CANDIDATES * DEFAULTS.score_candidate_core_ms,
        ),
    ),
}
"""Of each benchmark: the cost, the row that has it (the one of the largest number counts), and how it is computed from
the figure and the machine's cores."""


def read(path: Path) -> tuple[Costs, list[str]]:
    """Read costs from what `afterclick bench --json` printed; return them, and which of them stay at the defaults.

    Raises
    ------
    SettingsError
        The file is no such report, or has none of the benchmarks that count.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        benches, machine = dict(report["benchmarks"]), dict(report["machine"])
        cores = int(machine["cores"])
        found = {name: value for bench in READ for name, value in _found(bench, benches.get(bench, ()), cores).items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingsError(
            f"--from {path}: got no report of a benchmark ({error!r}), expected the output of afterclick bench growth, "
            "state or scorer with --json; make it again"
        ) from error
    if not found:
        raise SettingsError(
            f"--from {path}: got the benchmarks {', '.join(benches) or 'none'}, expected {', '.join(READ)}; run one of "
            "them with --json"
        )
    name = f"{machine.get('processor', 'unknown')}, {cores} cores"
    return replace(DEFAULTS, machine=name, **found), sorted(_names() - found.keys())


def _found(bench: str, rows: Any, cores: int) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, pattern, convert in READ[bench]:
        sized: Mapping[int, float] = {
            int(match[1].replace(",", "")): float(row["figure"])
            for row in rows
            if (match := re.fullmatch(pattern, str(row["what"])))
        }
        if sized:
            found[name] = max(0.0, convert(sized[max(sized)], cores))
    return found


def _names() -> set[str]:
    return set(Costs.__dataclass_fields__) - {"machine"}

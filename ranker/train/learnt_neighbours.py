"""Fit tables of learnt neighbours for a training run: one for each part of the log, and one on the whole log."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from encoders.events.entries import item_key
from ranker.evaluation.interactions import Interactions
from ranker.evaluation.protocols import Case
from ranker.neighbours.fit import fit, fitted_items
from ranker.neighbours.limits import Limits, matmul_rate
from ranker.neighbours.search import NeighbourCase, search
from ranker.neighbours.settings import NeighbourEvents, NeighbourSettings
from ranker.neighbours.table import MAX_HISTORY, Keys
from ranker.progress import StageProgress
from ranker.recall.learnt_neighbours import LearntNeighbours
from ranker.train.fitted_source import MIN_CASES, FittedSource, cuts_of, learnt_from

SEARCH_CUTS = 1, 2
"""The settings are searched with the events before the first of these cuts, and judged up to the second one: the
groups that validate have no part in it."""
SEARCH_SHARE, CUT_SHARE = 0.4, 0.12
"""Of the time: for the search, and for the fit at each cut. The last fit, which is served, has the rest."""
MAX_BYTES, FREE_SHARE = 8e9, 0.7
"""Of memory: at most so much for the whole process, and so much of what is available."""


def fit_neighbours(
    log: Interactions, cases: Sequence[Case], item_ids: Sequence[str], deadline: float, stage: StageProgress
) -> FittedSource | None:
    """Search for the settings, and fit.

    Parameters
    ----------
    log : Interactions
        In order.
    cases : sequence of Case
        In order.
    item_ids : sequence of str
        Of the catalogue.
    deadline : float
        When all must be done, in seconds of `time.monotonic()`.
    stage : StageProgress

    Returns
    -------
    FittedSource or None
        None if there are too few cases to learn from, or no time or memory for a fit.
    """
    started = time.monotonic()
    numbered = _NumberedLog(log, item_ids)
    cuts = cuts_of(log)
    older, newer = (cuts[number] for number in SEARCH_CUTS)
    judged = numbered.cases([case for case in cases if older <= case.log_index < newer])
    seconds = deadline - started
    free_bytes = min(MAX_BYTES - used_bytes(), FREE_SHARE * available_bytes())
    limits = Limits(free_bytes, seconds * SEARCH_SHARE, matmul_rate())
    if len(judged) < MIN_CASES or limits.items(len(log) - learnt_from(len(log)), NeighbourSettings.predictors) < 1:
        return None
    found = search(
        numbered.events[learnt_from(older) : older],
        numbered.keys,
        judged,
        limits,
        stage("Searching neighbours' settings"),
    )
    progress, tables = stage("Fitting the neighbours"), []
    for number, cut in enumerate([*cuts, len(log)]):
        left = seconds * CUT_SHARE if cut < len(log) else deadline - time.monotonic()
        events = numbered.events[learnt_from(cut) : cut]
        most = max(1, replace(limits, seconds=left).items(len(events), found.settings.predictors))
        tables.append(fit(events, numbered.keys, found.settings, most))
        progress(number + 1, len(cuts) + 1)
    enough = len(fitted_items(events, len(item_ids)))
    facts = {
        "settings": {name: value for name, value in vars(found.settings).items() if value is not None},
        "ndcg_at_10_alone": round(found.ndcg, 6),
        "trials": len(found.tried),
        "events": len(events),
        "items": len(tables[-1]),
        "items_left_out": enough - len(tables[-1]),
        "weights": len(tables[-1].weights),
    }
    *older_tables, final = map(LearntNeighbours, tables)
    return FittedSource(cuts, list(older_tables), final, facts)


class _NumberedLog:
    """A log by numbers of the catalogue's items."""

    def __init__(self, log: Interactions, item_ids: Sequence[str]) -> None:
        number = {item_id: index for index, item_id in enumerate(item_ids)}
        number_of_code = np.array([number[item] for item in log.names.items], np.int64)
        self.keys: Keys = np.array([item_key(item_id) for item_id in item_ids], np.uint64)
        self.events = NeighbourEvents(log.user.astype(np.int64), number_of_code[log.item], log.time_ms)
        self._log = log

    def cases(self, cases: Sequence[Case]) -> list[NeighbourCase]:
        """The cases with a history and a target that is not part of it."""
        by_user, begins = self._log.by_user
        found = []
        for case in cases:
            user = self._log.user_codes[case.user]
            indices = by_user[begins[user] : begins[user + 1]]
            before = indices[: np.searchsorted(indices, case.log_index)][: -1 - MAX_HISTORY : -1]
            recent = list(dict.fromkeys(self.keys[self.events.item[before]].tolist()))
            targets = frozenset(map(item_key, case.targets)).difference(recent)
            if recent and targets:
                found.append(NeighbourCase(recent, targets))
        return found


def used_bytes() -> float:
    """Return the most memory that this process has had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def available_bytes(meminfo: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup")) -> float:
    """Return the memory that this process may still use: of the machine and of its control group; inf if unknown."""
    available = [np.inf]
    if meminfo.is_file():
        kilobytes = dict(line.split(":", 1) for line in meminfo.read_text(encoding="ascii").splitlines())
        available.append(float(kilobytes["MemAvailable"].split()[0]) * 1024)
    most, used = cgroup / "memory.max", cgroup / "memory.current"
    if most.is_file() and used.is_file() and (bound := most.read_text(encoding="ascii").strip()) != "max":
        available.append(float(bound) - float(used.read_text(encoding="ascii")))
    return min(available)

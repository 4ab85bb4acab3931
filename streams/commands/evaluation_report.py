"""The results of an evaluation, as tables for people and as JSON for machines. Knows how no system works."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ranker.evaluation.groups import ByGroup
from ranker.evaluation.judge import COLD_NDCG, USER_GROUPS, Estimate
from ranker.evaluation.measures import COLD_EVENTS
from ranker.evaluation.recall import DEPTHS, SourceRecall
from streams.terminal.report import SENTENCE, Field, Report

COLUMNS = {
    "ndcg_at_10": "NDCG@10",
    "hr_at_10": "HR@10",
    "mrr": "MRR",
    "satisfaction": "satisfied",
    "recall_at_100": "recall@100",
    "auc": "AUC",
    "coverage": "coverage",
    "distinct_items": "distinct",
    "novelty_bits": "novelty",
    "intra_list_diversity": "diversity",
    "exposure_gini": "Gini",
}
BY_HISTORY = {f"ndcg_at_10_users_{group}_events": f"users, {group} events" for group in USER_GROUPS}
BY_HISTORY[COLD_NDCG] = f"items, < {COLD_EVENTS} events"


@dataclass(frozen=True)
class System:
    """One row of the table.

    Attributes
    ----------
    measures : mapping of str to Estimate
    seconds : float
        That the system took.
    settings : mapping
        Its settings, as tuned.
    note : str
        What a reader must know beside them.
    lists_per_s : float, optional
        How many lists a second the model ranks, with its head, on requests that are made already.
    by_group : ByGroup
        The measures of the groups that were asked for.
    """

    measures: Mapping[str, Estimate]
    seconds: float
    settings: Mapping[str, Any]
    note: str = ""
    lists_per_s: float | None = None
    by_group: ByGroup = field(default_factory=dict)


def as_json(facts: Mapping[str, Any], systems: Mapping[str, System]) -> dict[str, Any]:
    """One JSON object of the facts, such as the protocol, and the systems. NaN (nothing was measured) becomes null."""
    return {
        **facts,
        "systems": {
            name: {
                **{measure: number(estimate.value) for measure, estimate in system.measures.items()},
                "intervals": {
                    measure: [number(estimate.low), number(estimate.high)]
                    for measure, estimate in system.measures.items()
                },
                "seconds": round(system.seconds, 2),
                **({"lists_per_s": round(system.lists_per_s, 3)} if system.lists_per_s else {}),
                "settings": dict(system.settings),
                **({"note": system.note} if system.note else {}),
            }
            for name, system in systems.items()
        },
    }


def tables(
    title: str, systems: Mapping[str, System], sizes: Mapping[str, int], lists: int
) -> tuple[Report, Report, Report]:
    """The table of systems by measures, the one of NDCG@10 by the number of events, and the settings.

    What was measured for no system has no column.

    Parameters
    ----------
    title : str
    systems : mapping of str to System
    sizes : mapping of str to int
        The number of cases behind each column of the second table.
    lists : int
        The number of all cases.
    """
    measured = {
        name for system in systems.values() for name, found in system.measures.items() if math.isfinite(found.value)
    }
    columns = {name: heading for name, heading in COLUMNS.items() if name in measured}
    ranked = ["lists/s"] if any(system.lists_per_s is not None for system in systems.values()) else []
    figures = [Field(heading, number=True) for heading in (*columns.values(), *ranked, "s")]
    whole = Report((Field("system"), *figures), title, "below each value its 95% interval: bootstrap over users")
    for name, system in systems.items():
        cells = [cell(system.measures[measure]) for measure in columns]
        rate = ["-" if system.lists_per_s is None else f"{system.lists_per_s:,.1f}"] if ranked else []
        whole.add(name, *cells, *rate, f"{system.seconds:,.1f}")
    by_events = [name for name in BY_HISTORY if name in measured]
    groups = [
        Field(f"{BY_HISTORY[name]} ({sizes[name]:,}, {sizes[name] / lists:.0%})", number=True) for name in by_events
    ]
    by_history = Report((Field("system"), *groups), "NDCG@10 by the number of events")
    for name, system in systems.items():
        by_history.add(name, *(cell(system.measures[measure]) for measure in by_events))
    notes = Report((Field("system"), Field("settings", wrap=SENTENCE)))
    for name, system in systems.items():
        words = [f"{key} {value}" for key, value in system.settings.items()] + [system.note] * bool(system.note)
        notes.add(name, ", ".join(words))
    return whole, by_history, notes


def recall_as_json(recall: Mapping[str, Mapping[int, SourceRecall]]) -> dict[str, dict[str, float]]:
    """Recall by source: what it finds, and what it alone finds, at each number of candidates."""
    return {
        name: {
            f"{what}_at_{depth}": round(value, 6)
            for depth, found in by_depth.items()
            for what, value in (("recall", found.found), ("added", found.added))
            if value is not None
        }
        for name, by_depth in recall.items()
    }


def recall_table(recall: Mapping[str, Mapping[int, SourceRecall]], limit: int) -> Report:
    """Recall of the merge, of each source alone, and what each source adds that no other has."""
    found = [Field(f"recall@{depth}", number=True) for depth in DEPTHS]
    added = [Field(f"only here@{depth}", number=True) for depth in DEPTHS]
    caption = (
        f"only here: found by this source and by no other. A rank request carries {limit:,} candidates "
        "(candidates.limit)."
    )
    report = Report((Field("candidates"), *found, *added), "what recall finds of the relevant items", caption)
    for name, by_depth in recall.items():
        cells = [f"{by_depth[depth].found:.4f}" for depth in DEPTHS]
        only = ["-" if by_depth[depth].added is None else f"{by_depth[depth].added:.4f}" for depth in DEPTHS]
        report.add(name, *cells, *only)
    return report


def cell(estimate: Estimate) -> str:
    """Return a cell: a value, and its interval below."""
    if not math.isfinite(estimate.value):
        return "-"
    return f"{_short(estimate.value)}\n{_short(estimate.low)} {_short(estimate.high)}"


def _short(value: float) -> str:
    if not math.isfinite(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) >= 2 else f"{value:.4f}"


def number(value: float) -> float | None:
    """Return a value as JSON has it: null for NaN."""
    return round(value, 6) if math.isfinite(value) else None

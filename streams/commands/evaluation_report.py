"""The results of an evaluation, as tables for people and as JSON for machines. Knows how no system works."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Group
from rich.table import Table

from ranker.evaluation.judge import COLD_EVENTS, COLD_NDCG, USER_GROUPS, Estimate

COLUMNS = {
    "ndcg_at_10": "NDCG@10",
    "hr_at_10": "HR@10",
    "mrr": "MRR",
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
    """

    measures: Mapping[str, Estimate]
    seconds: float
    settings: Mapping[str, Any]
    note: str = ""


def as_json(facts: Mapping[str, Any], systems: Mapping[str, System]) -> dict[str, Any]:
    """One JSON object of the facts, such as the protocol, and the systems. NaN (nothing was measured) becomes null."""
    return {
        **facts,
        "systems": {
            name: {
                **{measure: _number(estimate.value) for measure, estimate in system.measures.items()},
                "intervals": {
                    measure: [_number(estimate.low), _number(estimate.high)]
                    for measure, estimate in system.measures.items()
                },
                "seconds": round(system.seconds, 2),
                "settings": dict(system.settings),
                **({"note": system.note} if system.note else {}),
            }
            for name, system in systems.items()
        },
    }


def tables(title: str, systems: Mapping[str, System], sizes: Mapping[str, int]) -> Group:
    """The table of systems by measures, the one of NDCG@10 by the number of events, and the settings.

    Parameters
    ----------
    title : str
    systems : mapping of str to System
    sizes : mapping of str to int
        The number of cases behind each column of the second table.
    """
    measured = {name for system in systems.values() for name in system.measures}
    whole = Table(title=title, caption="below each value its 95% interval: bootstrap over users", show_lines=True)
    whole.add_column("system", no_wrap=True)
    columns = {name: heading for name, heading in COLUMNS.items() if name in measured}
    for heading in (*columns.values(), "s"):
        whole.add_column(heading, justify="right")
    for name, system in systems.items():
        cells = [_cell(system.measures[measure]) for measure in columns]
        whole.add_row(name, *cells, f"{system.seconds:,.1f}")
    by_history = Table(title="NDCG@10 by the number of events", show_lines=True)
    by_history.add_column("system", no_wrap=True)
    for name, heading in BY_HISTORY.items():
        by_history.add_column(f"{heading}\n({sizes[name]:,})", justify="right")
    for name, system in systems.items():
        by_history.add_row(name, *(_cell(system.measures[measure]) for measure in BY_HISTORY))
    notes = Table("system", "settings", box=None)
    for name, system in systems.items():
        words = [f"{key} {value}" for key, value in system.settings.items()] + [system.note] * bool(system.note)
        notes.add_row(name, ", ".join(words))
    return Group(whole, by_history, notes)


def _cell(estimate: Estimate) -> str:
    if not math.isfinite(estimate.value):
        return "-"
    return f"{_short(estimate.value)}\n[dim]{_short(estimate.low)} {_short(estimate.high)}[/dim]"


def _short(value: float) -> str:
    if not math.isfinite(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) >= 2 else f"{value:.4f}"


def _number(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None

"""What an evaluation found, as tables for people and as JSON for machines.

Knows no system; called by `command`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Group
from rich.table import Table

from ranker.evaluation.judge import GROUPS, RARE, RARE_NDCG, Estimate

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
BY_KNOWN = {f"ndcg_at_10_users_{group}_events": f"users, {group} events" for group in GROUPS}
BY_KNOWN[RARE_NDCG] = f"items, < {RARE} events"


@dataclass(frozen=True)
class System:
    """One row: its measures, the seconds it took, and what a reader must know of it, such as its settings."""

    measures: Mapping[str, Estimate]
    seconds: float
    settings: Mapping[str, Any]
    note: str = ""


def as_json(facts: Mapping[str, Any], systems: Mapping[str, System]) -> dict[str, Any]:
    """`facts` hold protocol and users; NaN, where nothing was measured, becomes null."""
    return {
        **facts,
        "systems": {
            name: {
                **{measure: _number(found.value) for measure, found in system.measures.items()},
                "intervals": {
                    measure: [_number(found.low), _number(found.high)] for measure, found in system.measures.items()
                },
                "seconds": round(system.seconds, 2),
                "settings": dict(system.settings),
                **({"note": system.note} if system.note else {}),
            }
            for name, system in systems.items()
        },
    }


def tables(title: str, systems: Mapping[str, System], sizes: Mapping[str, int]) -> Group:
    """The table of systems by measures, the one of NDCG@10 by what is known, and the settings.

    `sizes` are the numbers of questions behind the columns of the second table.
    """
    measured = {name for system in systems.values() for name in system.measures}
    whole = Table(title=title, caption="below each value its 95% interval: bootstrap over users", show_lines=True)
    whole.add_column("system", no_wrap=True)
    shown = {name: heading for name, heading in COLUMNS.items() if name in measured}
    for heading in (*shown.values(), "s"):
        whole.add_column(heading, justify="right")
    for name, system in systems.items():
        cells = [_cell(system.measures[measure]) for measure in shown]
        whole.add_row(name, *cells, f"{system.seconds:,.1f}")
    known = Table(title="NDCG@10 by what is known", show_lines=True)
    known.add_column("system", no_wrap=True)
    for name, heading in BY_KNOWN.items():
        known.add_column(f"{heading}\n({sizes[name]:,})", justify="right")
    for name, system in systems.items():
        known.add_row(name, *(_cell(system.measures[measure]) for measure in BY_KNOWN))
    notes = Table("system", "settings", box=None)
    for name, system in systems.items():
        words = [f"{key} {value}" for key, value in system.settings.items()] + [system.note] * bool(system.note)
        notes.add_row(name, ", ".join(words))
    return Group(whole, known, notes)


def _cell(found: Estimate) -> str:
    if not math.isfinite(found.value):
        return "-"
    return f"{_short(found.value)}\n[dim]{_short(found.low)} {_short(found.high)}[/dim]"


def _short(value: float) -> str:
    if not math.isfinite(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) >= 2 else f"{value:.4f}"


def _number(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None

"""The results of a campaign: tables for people, JSON for machines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from tests.faults.campaign import Outcome


def show(outcome: Outcome, console: Console) -> None:
    """Print the results as tables."""
    verdict = outcome.verdict
    totals = Table(title=f"seed {outcome.plan.seed}, {outcome.seconds:.0f} s", show_header=False)
    totals.add_column()
    totals.add_column(justify="right")
    for name, value in (
        ("messages sent", outcome.messages),
        ("distinct valid events", outcome.events),
        ("duplicates", outcome.duplicates),
        ("poison", outcome.poison),
        ("lists published", outcome.lists),
        ("faults", sum(outcome.faults.injected.values())),
        ("lost", verdict.lost),
        ("doubled", verdict.doubled),
        ("stale lists", verdict.stale),
        ("states that differ from the recomputed", verdict.wrong_states),
        ("lists that went back", verdict.went_back),
        ("poison without a dead letter", verdict.poison_missing),
        ("dead letters of no poison", verdict.poison_foreign),
        ("dead letters repeated", verdict.poison_repeated),
        ("workers that ended unexpectedly", len(outcome.ended)),
    ):
        totals.add_row(name, f"{value:,}")
    console.print(totals)
    table = Table(title="seconds from the mending until an event of every partition is in its list, in Kafka and Redis")
    table.add_column("fault")
    for heading in ("count", "p50", "p99", "max"):
        table.add_column(heading, justify="right")
    rows: list[tuple[str, Sequence[float]]] = sorted(outcome.faults.recovered_s.items())
    for kind, seconds in [*rows, ("Redis complete again", outcome.faults.redis_complete_s)]:
        if seconds:
            p50, p99 = np.percentile(seconds, [50, 99])
            table.add_row(kind, str(len(seconds)), f"{p50:.1f}", f"{p99:.1f}", f"{max(seconds):.1f}")
    console.print(table)
    rss = ", ".join(f"{name} {value / 2**20:.0f}" for name, value in outcome.max_rss.items())
    console.print(f"largest memory (MiB): {rss}", highlight=False)
    for ended in outcome.ended:
        console.print(
            f"{ended.member} ended with status {ended.status}; {ended.log_end}", markup=False, highlight=False
        )
    for text in [*outcome.faults.not_recovered, *verdict.examples]:
        console.print(text, markup=False, highlight=False)


def write(outcome: Outcome, path: Path) -> None:
    """Write the results to a file as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(outcome), indent=2), encoding="utf-8")

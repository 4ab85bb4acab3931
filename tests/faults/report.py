"""The campaign's table for people and its JSON for machines. Called by `test_campaign`."""

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
    """Print what was done and what was found."""
    found = outcome.verdict
    totals = Table(title=f"seed {outcome.plan.seed}, {outcome.seconds:.0f} s", show_header=False)
    totals.add_column()
    totals.add_column(justify="right")
    for name, value in (
        ("messages sent", outcome.messages),
        ("distinct valid events", outcome.events),
        ("duplicates", outcome.duplicates),
        ("poison", outcome.poison),
        ("lists published", outcome.lists),
        ("faults", sum(outcome.struck.injected.values())),
        ("lost", found.lost),
        ("doubled", found.doubled),
        ("stale lists", found.stale),
        ("states unlike the recomputed", found.wrong_states),
        ("lists that went back", found.went_back),
        ("poison without a dead letter", found.poison_missing),
        ("dead letters of no poison", found.poison_foreign),
        ("dead letters repeated", found.poison_repeated),
        ("workers that ended by themselves", len(outcome.ended)),
    ):
        totals.add_row(name, f"{value:,}")
    console.print(totals)
    table = Table(title="seconds from mended to an event of every partition in its list, in Kafka and Redis")
    table.add_column("fault")
    for heading in ("times", "p50", "p99", "max"):
        table.add_column(heading, justify="right")
    rows: list[tuple[str, Sequence[float]]] = sorted(outcome.struck.recovered_s.items())
    for kind, seconds in [*rows, ("Redis whole again", outcome.struck.refilled_s)]:
        if seconds:
            p50, p99 = np.percentile(seconds, [50, 99])
            table.add_row(kind, str(len(seconds)), f"{p50:.1f}", f"{p99:.1f}", f"{max(seconds):.1f}")
    console.print(table)
    rss = ", ".join(f"{name} {value / 2**20:.0f}" for name, value in outcome.most_rss.items())
    console.print(f"most memory (MiB): {rss}", highlight=False)
    for ended in outcome.ended:
        console.print(
            f"{ended.member} ended with status {ended.status}; {ended.log_end}", markup=False, highlight=False
        )
    for text in [*outcome.struck.not_recovered, *found.examples]:
        console.print(text, markup=False, highlight=False)


def write(outcome: Outcome, path: Path) -> None:
    """The same as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(outcome), indent=2), encoding="utf-8")

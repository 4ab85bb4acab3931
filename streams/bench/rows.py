"""The benchmark's figures: each with its spread, what it is compared with, and its target; as a table and as JSON.

Pure: knows no clock, no Kafka and no model. Called by `bench`; the modules that measure make the rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from rich.table import Table


@dataclass(frozen=True)
class Target:
    """A bound on a row's figure or on its ratio, from above (`at_most`) or from below."""

    bound: float
    at_most: bool
    of: Literal["figure", "ratio"] = "figure"

    def met_by(self, number: float) -> bool:
        """Whether a number is within the bound, the bound itself included.

        >>> Target(15, at_most=True).met_by(15), Target(0.8, at_most=False, of="ratio").met_by(0.7)
        (True, False)
        """
        return number <= self.bound if self.at_most else number >= self.bound

    def __str__(self) -> str:
        return f"{'ratio ' if self.of == 'ratio' else ''}{'<=' if self.at_most else '>='} {self.bound:g}"


@dataclass(frozen=True)
class Row:
    """One thing measured.

    Attributes
    ----------
    what, unit : str
    rounds : sequence of float
        A figure of each round, in `unit`; at least one.
    versus : str
        The limit or the peer that was measured in turns with it; empty if there is none.
    versus_rounds : sequence of float
        Its figures in `unit`, as many as `rounds`.
    target : Target, optional
    note : str
        What a reader must know to take the figure rightly.
    """

    what: str
    unit: str
    rounds: Sequence[float]
    versus: str = ""
    versus_rounds: Sequence[float] = ()
    target: Target | None = None
    note: str = ""

    @property
    def figure(self) -> float:
        """The median of the rounds."""
        return median(self.rounds)

    @property
    def ratio(self) -> float | None:
        """The median of each round's own ratio: what slows the machine for a while slows both sides of a round."""
        if not self.versus_rounds:
            return None
        return median(ours / theirs for ours, theirs in zip(self.rounds, self.versus_rounds, strict=True))

    @property
    def reached(self) -> bool | None:
        """Whether the target is met; None without a target, or where its ratio could not be measured."""
        if self.target is None:
            return None
        number = self.figure if self.target.of == "figure" else self.ratio
        return None if number is None else self.target.met_by(number)

    def as_json(self) -> dict[str, Any]:
        """Give plain values under stable names; null for what there is not."""
        return {
            "what": self.what,
            "unit": self.unit,
            "figure": self.figure,
            "min": min(self.rounds),
            "max": max(self.rounds),
            "rounds": list(self.rounds),
            "versus": self.versus or None,
            "versus_figure": median(self.versus_rounds) if self.versus_rounds else None,
            "versus_rounds": list(self.versus_rounds),
            "ratio": self.ratio,
            "target": str(self.target) if self.target else None,
            "reached": self.reached,
            "note": self.note or None,
        }


def percentile(numbers: Sequence[float], percent: float) -> float:
    """Tell the smallest of `numbers` that at least `percent` of them do not exceed (nearest rank).

    >>> percentile([4, 1, 3, 2], 50), percentile([4, 1, 3, 2], 99), percentile([7], 0)
    (2, 4, 7)
    """
    ordered = sorted(numbers)
    rank = -(-len(ordered) * percent // 100)  # rounded up
    return ordered[max(0, int(rank) - 1)]


def short(number: float) -> str:
    """Write a number with three digits that count.

    >>> short(0.01234), short(9.876), short(1234.5), short(0)
    ('0.0123', '9.88', '1,234', '0')
    """
    if abs(number) >= 100:
        return f"{number:,.0f}"
    return f"{number:.3g}"


def table(title: str, rows: Sequence[Row]) -> Table:
    """Lay out a benchmark's rows for a terminal, the notes below."""
    laid_out = Table(title=title, title_justify="left", caption_justify="left")
    laid_out.add_column("what", ratio=3)
    for heading in ("median", "min..max"):
        laid_out.add_column(heading, justify="right")
    laid_out.add_column("compared with", ratio=2)
    for heading in ("ratio", "target", "reached"):
        laid_out.add_column(heading, justify="right")
    for row in rows:
        versus = f"{row.versus}: {short(median(row.versus_rounds))}" if row.versus_rounds else row.versus or "-"
        laid_out.add_row(
            row.what,
            f"{short(row.figure)} {row.unit}",
            f"{short(min(row.rounds))}..{short(max(row.rounds))}",
            versus,
            "-" if row.ratio is None else short(row.ratio),
            str(row.target) if row.target else "-",
            {True: "[green]yes[/green]", False: "[red]no[/red]", None: "-"}[row.reached],
        )
    laid_out.caption = "\n".join(dict.fromkeys(row.note for row in rows if row.note)) or None
    return laid_out


def report(machine: Mapping[str, Any], benches: Mapping[str, Sequence[Row]], seconds: float) -> dict[str, Any]:
    """Put everything into the one object of `--json`."""
    return {
        "machine": dict(machine),
        "benchmarks": {name: [row.as_json() for row in rows] for name, rows in benches.items()},
        "seconds": round(seconds, 1),
    }

"""The figures of a benchmark, with their spread, their peer and their target; as a table and as JSON.

Pure: knows no clock, no Kafka and no model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from streams.terminal.report import SENTENCE, Field, Report


@dataclass(frozen=True)
class Target:
    """A bound on a measurement's figure or on its ratio.

    Attributes
    ----------
    bound : float
        In the measurement's unit, or a plain number for a ratio.
    at_most : bool
        True for an upper bound, False for a lower bound.
    of : {"figure", "ratio"}
        The number that the bound is for.
    """

    bound: float
    at_most: bool
    of: Literal["figure", "ratio"] = "figure"

    def met_by(self, number: float) -> bool:
        """Return whether a number is within the bound, the bound itself included.

        >>> Target(15, at_most=True).met_by(15), Target(0.8, at_most=False, of="ratio").met_by(0.7)
        (True, False)
        """
        return number <= self.bound if self.at_most else number >= self.bound

    def __str__(self) -> str:
        return f"{'ratio ' if self.of == 'ratio' else ''}{'<=' if self.at_most else '>='} {self.bound:g}"


@dataclass(frozen=True)
class Measurement:
    """One measured quantity: a row of the table.

    Attributes
    ----------
    name, unit : str
    rounds : sequence of float
        A figure of each round, in `unit`; at least one.
    peer : str
        The hardware limit or the other program that was measured in turns with ours; empty if there is none.
    peer_rounds : sequence of float
        The peer's figures in `unit`, as many as `rounds`.
    target : Target, optional
    note : str
        What a reader must know to interpret the figure.
    """

    name: str
    unit: str
    rounds: Sequence[float]
    peer: str = ""
    peer_rounds: Sequence[float] = ()
    target: Target | None = None
    note: str = ""

    @property
    def figure(self) -> float:
        """The median of the rounds."""
        return median(self.rounds)

    @property
    def ratio(self) -> float | None:
        """The median of the rounds' ratios of ours to the peer's; None without a peer, or if one of its figures is 0.

        The ratio is computed within each round, because a slow spell of the machine slows both sides of a round.
        """
        if not self.peer_rounds or 0 in self.peer_rounds:
            return None
        return median(ours / peers for ours, peers in zip(self.rounds, self.peer_rounds, strict=True))

    @property
    def reached(self) -> bool | None:
        """Whether the target is met; None without a target, or if its ratio was not measured."""
        if self.target is None:
            return None
        number = self.figure if self.target.of == "figure" else self.ratio
        return None if number is None else self.target.met_by(number)

    def as_json(self) -> dict[str, Any]:
        """Return plain values under stable names; null for a value that is missing."""
        return {
            "what": self.name,
            "unit": self.unit,
            "figure": self.figure,
            "min": min(self.rounds),
            "max": max(self.rounds),
            "rounds": list(self.rounds),
            "versus": self.peer or None,
            "versus_figure": median(self.peer_rounds) if self.peer_rounds else None,
            "versus_rounds": list(self.peer_rounds),
            "ratio": self.ratio,
            "target": str(self.target) if self.target else None,
            "reached": self.reached,
            "note": self.note or None,
        }


def percentile(numbers: Sequence[float], percent: float) -> float:
    """Return the smallest of `numbers` that at least `percent` of them do not exceed (nearest rank).

    Parameters
    ----------
    numbers : sequence of float
        In any order; not empty.
    percent : float
        0 to 100.

    Examples
    --------
    >>> percentile([4, 1, 3, 2], 50), percentile([4, 1, 3, 2], 99), percentile([7], 0)
    (2, 4, 7)
    """
    ordered = sorted(numbers)
    rank = -(-len(ordered) * percent // 100)  # rounded up
    return ordered[max(0, int(rank) - 1)]


def short(number: float) -> str:
    """Format a number with three significant digits.

    >>> short(0.01234), short(9.876), short(1234.5), short(0)
    ('0.0123', '9.88', '1,234', '0')
    """
    if abs(number) >= 100:
        return f"{number:,.0f}"
    return f"{number:.3g}"


def table(title: str, measurements: Sequence[Measurement]) -> Report:
    """Lay out a benchmark's measurements, with the notes below the table."""
    fields = (
        Field("what", wrap=SENTENCE),
        Field("median", number=True),
        Field("min..max", number=True),
        Field("compared with", wrap=SENTENCE),
        *(Field(heading, number=True) for heading in ("ratio", "target", "reached")),
    )
    layout = Report(fields, title)
    for row in measurements:
        peer = f"{row.peer}: {short(median(row.peer_rounds))}" if row.peer_rounds else row.peer or "-"
        layout.add(
            row.name,
            f"{short(row.figure)} {row.unit}",
            f"{short(min(row.rounds))}..{short(max(row.rounds))}",
            peer,
            "-" if row.ratio is None else short(row.ratio),
            str(row.target) if row.target else "-",
            {True: "yes", False: "no", None: "-"}[row.reached],
            style="red" if row.reached is False else "",
        )
    layout.caption = "\n".join(dict.fromkeys(row.note for row in measurements if row.note))
    return layout


def report(machine: Mapping[str, Any], benches: Mapping[str, Sequence[Measurement]], seconds: float) -> dict[str, Any]:
    """Return everything as the one object that `--json` prints."""
    return {
        "machine": dict(machine),
        "benchmarks": {name: [row.as_json() for row in measurements] for name, measurements in benches.items()},
        "seconds": round(seconds, 1),
    }

"""Plot the growth benchmark: time and memory against users, items and events, on logarithmic axes.

matplotlib is optional: without it there is no picture, and the table says the same.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from streams.bench.measurement import Measurement

NO_MATPLOTLIB = "matplotlib is not installed: no plot (pip install 'afterclick[bench]')."
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#555555"
"""Colours that colour-blind readers can distinguish (Okabe and Ito's)."""
_COUNT = re.compile(r", ([\d,]+) (users|items|events)")


@dataclass(frozen=True)
class Line:
    """One curve.

    Attributes
    ----------
    label : str
    begins, ends : str
        How the names of its measurements begin and end.
    colour : str
    peer : bool
        Whether the curve shows the peer of these measurements.
    """

    label: str
    begins: str
    ends: str
    colour: str
    peer: bool = False


@dataclass(frozen=True)
class Panel:
    """One diagram.

    Attributes
    ----------
    title, x_label, y_label : str
    lines : tuple of Line
    limit : tuple of float and str, optional
        A level that the curves should not exceed, and its name.
    """

    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    limit: tuple[float, str] | None = None


PANELS = (
    Panel(
        "Candidates for one user",
        "items in the catalogue",
        "milliseconds",
        (
            Line("exact search, numpy", "candidates by text", "p50", GREY, peer=True),
            Line("all sources, p50", "candidates of all", "p50", GREEN),
            Line("by text, p99", "candidates by text", "p99", ORANGE),
            Line("by text, p50", "candidates by text", "p50", BLUE),
        ),
        (10.0, "limit of p99: 10 ms"),
    ),
    Panel(
        "One more event, one more item",
        "users with a state, or items in the catalogue",
        "milliseconds",
        (
            Line("an item into the catalogue, mean", "an item into", "items", ORANGE),
            Line("an event taken in and stored, p50", "an event taken in", "p50", BLUE),
        ),
    ),
    Panel(
        "Memory of one user's state",
        "users with a state",
        "bytes",
        (
            Line("4 KB", "memory of one user", "users", GREY, peer=True),
            Line("in a worker", "memory of one user", "users", BLUE),
        ),
        (1.3 * 4096, "limit: 1.3 x 4 KB"),
    ),
    Panel(
        "Memory of one item",
        "items in the catalogue",
        "bytes",
        (Line("in a worker: vector, graph, text", "memory of one item", "items", BLUE),),
    ),
    Panel(
        "A log for evaluate and train",
        "events of the log",
        "seconds",
        (
            Line("counted, and 500 lists made", "a log counted", "events", ORANGE),
            Line("its files read and checked", "the files of a log", "events", BLUE),
        ),
    ),
    Panel(
        "Memory of the process that reads it",
        "events of the log",
        "megabytes",
        (Line("in all", "memory of the process that read", "events", BLUE),),
    ),
)


def draw(measurements: Sequence[Measurement], path: Path) -> bool:
    """Draw `PANELS` into a PNG or SVG file, by the path's ending; return False if matplotlib is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        return False
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullFormatter

    figure = Figure(figsize=(16.5, 8), layout="constrained")
    FigureCanvasAgg(figure)
    with_commas = FuncFormatter(lambda number, _: f"{number:,.10g}")
    for axes, panel in zip(figure.subplots(2, 3).flat, PANELS, strict=True):
        for line in panel.lines:
            counts, figures = points(measurements, line)
            style = "--" if line.peer else "-"
            axes.plot(counts, figures, style, marker="o", markersize=4, color=line.colour, label=line.label)
        if panel.limit:
            level, name = panel.limit
            axes.axhline(level, color="#B00020", linewidth=1, linestyle=":", label=name)
        axes.set(xscale="log", title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
        if panel.y_label == "bytes":
            axes.set_ylim(bottom=0, top=axes.get_ylim()[1] * 1.15)
        else:
            axes.set_yscale("log")
        axes.xaxis.set_major_formatter(with_commas)
        axes.yaxis.set_major_formatter(with_commas)
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.grid(visible=True, which="major", alpha=0.3)
        axes.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    return True


def points(measurements: Sequence[Measurement], line: Line) -> tuple[list[int], list[float]]:
    """Return the numbers of users, items or events, ascending, and the median figure at each."""
    figures = {}
    for row in measurements:
        if row.name.startswith(line.begins) and row.name.endswith(line.ends) and (count := _COUNT.search(row.name)):
            numbers = row.peer_rounds if line.peer else row.rounds
            figures[int(count[1].replace(",", ""))] = median(numbers)
    return sorted(figures), [figures[count] for count in sorted(figures)]

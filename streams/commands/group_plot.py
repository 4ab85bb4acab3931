"""The plot of an evaluation by groups: a panel for each measure, a line for each group. Knows no measure's meaning."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ranker.evaluation.groups import ByGroup
from ranker.evaluation.judge import Estimate

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
"""Of the systems, at most four; colours that colour-blind readers can distinguish (Okabe and Ito's)."""
GREY = "#555555"
PANELS = {"exposure": "exposure", "calibration": "calibration", "ndcg_at_10": "NDCG@10", "coverage": "coverage"}


def draw(title: str, by_system: Mapping[str, ByGroup], fair: tuple[float, float], path: Path) -> None:
    """Draw a PNG or SVG file, by the path's ending. Needs matplotlib.

    Parameters
    ----------
    title : str
    by_system : mapping of str to ByGroup
        The first four are drawn.
    fair : tuple of (float, float)
        The calibrations that need no remark.
    path : Path
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    systems = dict(list(by_system.items())[: len(COLOURS)])
    first = next(iter(systems.values()))
    figure = Figure(figsize=(15, 2.4 + 0.5 * len(first)), layout="constrained")
    FigureCanvasAgg(figure)
    rows = range(len(first))
    for axes, (measure, heading) in zip(figure.subplots(1, len(PANELS), sharey=True), PANELS.items(), strict=True):
        for place, (system, groups) in enumerate(systems.items()):
            offset = 0.5 * (place - (len(systems) - 1) / 2) / len(systems)
            _points(axes, [groups[name][measure] for name in first], offset, COLOURS[place], system)
        if measure == "exposure":
            chosen = [measures["chosen"].value for measures in first.values()]
            axes.plot(chosen, rows, "|", color=GREY, markersize=22, label="chosen by the users")
        if measure == "calibration":
            axes.axvspan(*fair, color=GREY, alpha=0.15)
            axes.axvline(1, color=GREY, linewidth=1)
        axes.set(title=heading, yticks=rows, yticklabels=list(first), ylim=(len(first) - 0.5, -0.5))
        axes.set_xlim(left=0)
        axes.grid(visible=True, axis="x", alpha=0.3)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(systems) + 1)
    figure.suptitle(f"{title}, with 95% intervals")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def _points(axes: Any, estimates: Sequence[Estimate], offset: float, colour: str, label: str) -> None:
    """One system's values with their intervals; none where nothing was measured."""
    known = [(row + offset, one) for row, one in enumerate(estimates) if math.isfinite(one.value)]
    spread = [
        [_finite(one.value - one.low) for _, one in known],
        [_finite(one.high - one.value) for _, one in known],
    ]
    values, rows = [one.value for _, one in known], [row for row, _ in known]
    axes.errorbar(values, rows, xerr=spread, fmt="o", markersize=5, capsize=3, color=colour, label=label)


def _finite(length: float) -> float:
    return max(0.0, length) if math.isfinite(length) else 0.0

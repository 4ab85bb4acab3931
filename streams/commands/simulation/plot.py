"""The plot of a simulation: a panel for each measure by day, a line for each ranker. Knows no measure's meaning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from streams.commands.group_plot import COLOURS
from streams.commands.simulation.report import MEASURES
from streams.offline.life import DayFigures


def draw(users: int, figures: Mapping[str, Sequence[DayFigures]], path: Path) -> None:
    """Draw a PNG or SVG file, by the path's ending. Needs matplotlib.

    Parameters
    ----------
    users : int
        How many people there were in the beginning.
    figures : mapping of str to sequence of DayFigures
        By ranker.
    path : Path
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(15, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (measure, heading) in zip(figure.subplots(1, len(MEASURES)), MEASURES.items(), strict=True):
        for place, (ranker, days) in enumerate(figures.items()):
            values = [getattr(day, measure) for day in days]
            style = "-" if place < len(COLOURS) else "--"
            axes.plot(range(1, len(days) + 1), values, style, color=COLOURS[place % len(COLOURS)], label=ranker)
        axes.set(title=heading, xlabel="day")
        axes.set_ylim(bottom=0, top=1.05 * users if measure == "people" else None)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(visible=True, alpha=0.3)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(figures))
    figure.suptitle(f"{users:,} generated users")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)

"""What a simulation found: its tables, its small plot for a terminal, and its JSON. Knows no ranker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import isfinite, nan
from typing import Any

from streams.offline.life import DayFigures
from streams.terminal.report import Field, Report

MEASURES = {"people": "users", "clicks": "clicks", "purchases": "purchases", "diversity": "diversity", "score": "score"}
"""Fields of `DayFigures` that are plotted, and their headings."""
SHARES = ("diversity", "score")
BARS = "▁▂▃▄▅▆▇█"
MOST_BARS = 40

Figures = Mapping[str, Sequence[DayFigures]]


def totals(days: Sequence[DayFigures]) -> dict[str, float]:
    """Return the figures of a whole month: sums, and means weighted by lists and visits."""
    sums = {name: sum(getattr(day, name) for day in days) for name in ("visits", "lists", "clicks", "purchases")}
    return {
        "kept": days[-1].people,
        "first_day_clicks": days[0].clicks,
        **sums,
        "diversity": _mean([(day.diversity, day.lists) for day in days]),
        "score": _mean([(day.score, day.visits) for day in days]),
    }


def as_json(facts: Mapping[str, Any], figures: Figures) -> dict[str, Any]:
    """Return the figures as JSON has them. NaN (nobody came) becomes null."""
    return {
        **facts,
        "rankers": {
            ranker: {
                **_plain(totals(days)),
                "by_day": [{"day": number, **_plain(day._asdict())} for number, day in enumerate(days, 1)],
            }
            for ranker, days in figures.items()
        },
    }


def tables(facts: Mapping[str, Any], figures: Figures) -> tuple[Report, Report, Report]:
    """Return the whole month of each ranker, a plot of its days, and the days in numbers."""
    bored = "" if facts["boredom"] else ", whom nothing bores"
    title = f"{facts['days']} days of {facts['users']:,} generated users{bored}, seed {facts['seed']}"
    return _whole(title, figures), _plotted(figures), _by_day(figures)


def _whole(title: str, figures: Figures) -> Report:
    columns = {
        "kept": "users kept",
        "visits": "visits",
        "clicks": "clicks",
        "first_day_clicks": "first day's",
        "purchases": "purchases",
        "diversity": "diversity",
        "score": "score",
    }
    report = Report((Field("ranker"), *(Field(heading, number=True) for heading in columns.values())), title)
    for ranker, days in figures.items():
        found = totals(days)
        report.add(ranker, *(_cell(name, found[name]) for name in columns))
    return report


def _plotted(figures: Figures) -> Report:
    """A line of bars for each measure and ranker; those of a measure have one scale, from 0."""
    length = max(map(len, figures.values()))
    fields = (Field("by day"), Field("ranker"), Field(f"1 to {length}"), Field("first", True), Field("last", True))
    report = Report(fields, keys=2)
    for measure, heading in MEASURES.items():
        lines = {ranker: [getattr(day, measure) for day in days] for ranker, days in figures.items()}
        top = max((value for line in lines.values() for value in line if isfinite(value)), default=0.0)
        for ranker, line in lines.items():
            report.add(heading, ranker, bars(line, top), _cell(measure, line[0]), _cell(measure, line[-1]))
    return report


def _by_day(figures: Figures) -> Report:
    caption = (
        "users: who had not left by the evening. clicks, purchases: on lists. diversity: the share of the pairs of "
        "items in view that are of different categories. score: satisfaction of those who came, 0 to 1"
    )
    fields = (Field("day", number=True), *(Field(heading, number=True) for heading in MEASURES.values()))
    report = Report(fields, f"each day: {' / '.join(figures)}", caption)
    for number, days in enumerate(zip(*figures.values(), strict=True), 1):
        report.add(f"{number}", *(" / ".join(_cell(name, getattr(day, name)) for day in days) for name in MEASURES))
    return report


def bars(values: Sequence[float], top: float) -> str:
    """Return a line of bars from 0 to `top`, at most `MOST_BARS`; a space where there is no value.

    >>> bars([0, 1, 2, float("nan")], 2)
    '▁▄█ '
    """
    count = min(len(values), MOST_BARS)
    edges = [round(number * len(values) / count) for number in range(count + 1)]
    means = [_mean([(value, 1) for value in values[begin:end]]) for begin, end in pairwise(edges)]
    return "".join(
        BARS[int(value / top * (len(BARS) - 1)) if top else 0] if isfinite(value) else " " for value in means
    )


def _mean(weighted: Sequence[tuple[float, float]]) -> float:
    known = [(value, weight) for value, weight in weighted if isfinite(value) and weight]
    return sum(value * weight for value, weight in known) / sum(weight for _, weight in known) if known else nan


def _cell(name: str, value: float) -> str:
    if not isfinite(value):
        return "-"
    return f"{value:.2f}" if name in SHARES else f"{value:,}"


def _plain(figures: Mapping[str, float]) -> dict[str, float | None]:
    return {name: (round(value, 4) if isfinite(value) else None) for name, value in figures.items()}

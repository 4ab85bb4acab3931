"""What an evaluation finds by groups: a table, JSON and a verdict in words. Knows how no measure is computed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ranker.evaluation.groups import MEASURES, ByGroup
from ranker.evaluation.judge import Estimate, Groups
from streams.commands import group_plot
from streams.commands.evaluation_report import System, cell, number
from streams.terminal.report import SENTENCE, Field, Report

TOO_LITTLE, TOO_MUCH = 0.8, 1.25
"""The four-fifths rule (Uniform Guidelines on Employee Selection Procedures, 1978), and its inverse."""
HEADINGS = {"ndcg_at_10": "NDCG@10"}


class GroupReport:
    """The measures of each group, of all systems.

    Parameters
    ----------
    field : str
        What the groups are by.
    groups : Groups
    systems : mapping of str to System
    """

    def __init__(self, field: str, groups: Groups, systems: Mapping[str, System]) -> None:
        self._field, self._groups = field, groups
        self._found: dict[str, ByGroup] = {name: system.by_group for name, system in systems.items()}
        self._overall = {name: system.measures["ndcg_at_10"] for name, system in systems.items()}

    def as_object(self) -> dict[str, Any]:
        """Return what JSON has under `by`. NaN (nothing was measured) becomes null."""
        return {
            "field": self._field,
            "systems": {
                system: {group: _as_object(measures) for group, measures in groups.items()}
                for system, groups in self._found.items()
            },
            "verdicts": self._verdicts(),
        }

    def tables(self) -> tuple[Report, Report]:
        """Return a row for each system and group, and what they say in words."""
        shown = "the popular fifth of the items" if self._groups.of_users else "the group"
        caption = (
            f"exposure: the share of a list that {shown} gets, rank r counting 1 / log2(r + 1). chosen: its share of "
            "what users chose, in a log that may have shown it less. calibration: exposure / chosen. Below each value "
            "its 95% interval: bootstrap over users"
        )
        size = Field("lists" if self._groups.of_users else "items", number=True)
        figures = [Field(HEADINGS.get(name, name), number=True) for name in MEASURES]
        whole = Report((Field("system"), Field(self._field), size, *figures), f"by {self._field}", caption, keys=2)
        sizes = dict(zip(self._groups.names, self._groups.members.sum(1).tolist(), strict=True))
        for system, groups in self._found.items():
            for group, measures in groups.items():
                whole.add(system, group, f"{sizes[group]:,}", *(cell(measures[name]) for name in MEASURES))
        words = Report((Field("system"), Field("verdict", wrap=2 * SENTENCE)))
        for system, verdict in self._verdicts().items():
            words.add(system, verdict)
        return whole, words

    def draw(self, path: Path) -> None:
        """Draw the plot."""
        group_plot.draw(f"by {self._field}", self._found, (TOO_LITTLE, TOO_MUCH), path)

    def _verdicts(self) -> dict[str, str]:
        subject = "popular items in the lists of {}" if self._groups.of_users else "{}"
        return {system: verdict(groups, self._overall[system], subject) for system, groups in self._found.items()}


def verdict(groups: ByGroup, overall: Estimate, subject: str = "{}") -> str:
    """Say what is shown too little or too much, and whom a system serves worse, as far as the intervals tell.

    Parameters
    ----------
    groups : ByGroup
    overall : Estimate
        NDCG@10 of all lists.
    subject : str
        What the exposure of a group is the exposure of.
    """
    found = []
    for name, measures in groups.items():
        ratio = measures["calibration"]
        wrong = "little" if ratio.high < TOO_LITTLE else "much" if ratio.low > TOO_MUCH else None
        if wrong:
            span = f"{ratio.value:.2f} times its choices ({ratio.low:.2f} to {ratio.high:.2f})"
            found.append(f"too {wrong} exposure: {subject.format(name)}, {span}")
    for name, measures in groups.items():
        ndcg = measures["ndcg_at_10"]
        if ndcg.high < overall.low:
            found.append(f"served worse: {name}, NDCG@10 {ndcg.value:.3f}, of all lists {overall.value:.3f}")
    return "; ".join(found) or (
        f"no exposure is shown to be under {TOO_LITTLE:g} or over {TOO_MUCH:g} times the choices, and no group to be "
        "served worse than all"
    )


def _as_object(measures: Mapping[str, Estimate]) -> dict[str, Any]:
    intervals = {name: [number(one.low), number(one.high)] for name, one in measures.items()}
    return {**{name: number(one.value) for name, one in measures.items()}, "intervals": intervals}

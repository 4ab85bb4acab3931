"""What `deploy/prometheus` and `deploy/grafana` ask Prometheus: every expression, and the metrics and labels in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

from tests.documents import ROOT

PROMETHEUS = ROOT / "deploy/prometheus"
DASHBOARD = ROOT / "deploy/grafana/afterclick.json"
ADDED = {"job", "instance", "le"}
"""Labels that Prometheus adds to every series, and that of a histogram's buckets."""
VARIABLES = {"$__rate_interval": "30s", "$job": ".*", "$tier": ".*", "$instance": ".*", "$model": ".*"}
_SELECTOR = re.compile(r"\b((?:[a-z_]+:)?(?:afterclick|process)_[a-z0-9_]+(?::[a-z0-9_]+)?)(?:\{([^}]*)\})?")


class Expression(NamedTuple):
    """A PromQL expression, and where it stands."""

    where: str
    text: str


class Selector(NamedTuple):
    """A metric that an expression reads, and the labels that it matches: label -> the pattern."""

    metric: str
    labels: dict[str, str]


def rules(file: str) -> list[dict[str, Any]]:
    """Return the rules of a file in `deploy/prometheus`."""
    groups = yaml.safe_load((PROMETHEUS / file).read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> Any:
    return json.loads(DASHBOARD.read_text(encoding="utf-8"))


def panels() -> list[dict[str, Any]]:
    """Return the panels of the dashboard that show something: all but rows."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def dashboard_expressions() -> list[Expression]:
    """Return the expressions of all panels, with a value for each variable."""
    found = []
    for panel in panels():
        for target in panel["targets"]:
            text = target["expr"]
            for name, value in VARIABLES.items():
                text = text.replace(name, value)
            found.append(Expression(f"{panel['title']} {target['refId']}", text))
    return found


def rule_expressions() -> list[Expression]:
    found = [*rules("rules.yml"), *rules("alerts.yml")]
    return [Expression(rule.get("alert") or rule["record"], rule["expr"]) for rule in found]


def selectors(expression: str) -> Iterator[Selector]:
    """Yield what an expression reads of Afterclick.

    >>> list(selectors('rate(afterclick_lists_total{job="a",model=~"b|c"}[5m]) / job:afterclick_lists:sum'))
    [Selector(metric='afterclick_lists_total', labels={'job': 'a', 'model': 'b|c'}), \
Selector(metric='job:afterclick_lists:sum', labels={})]
    """
    for metric, matchers in _SELECTOR.findall(expression):
        yield Selector(metric, dict(re.findall(r'(\w+)\s*[=!]~?\s*"([^"]*)"', matchers)))

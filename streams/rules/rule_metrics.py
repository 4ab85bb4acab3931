"""The Prometheus metrics of the team's rules."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

from ranker.rules.effects import EXCLUDE, FILTER, PIN
from ranker.rules.exposure import OUTCOMES
from ranker.rules.item_table import ItemTable
from ranker.wishes.effects import RULES
from streams.metrics import from_zero

moved = Counter(
    "afterclick_rules_total",
    "Items that a rule kept out of a list, pinned or gave another rank, by rule; 'request.…' are fields of requests, "
    "'wish.…' wishes of users. What a rule excludes from every list is no candidate: see afterclick_rules_items",
    ["rule"],
)
from_zero(moved, (EXCLUDE, PIN, FILTER, *RULES.values()))
items = Gauge(
    "afterclick_rules_items",
    "Items of the catalogue that a rule is about, or may be if it refers to the context of a request, by rule",
    ["rule"],
)
exposure = Counter(
    "afterclick_rules_exposure_total",
    "Lists under a rule on exposure, by rule and outcome: 'within' its bounds without a change, 'reached' by other "
    "ranks, or 'missed' because candidates or other rules do not allow it",
    ["rule", "outcome"],
)
exposure_cut = Counter(
    "afterclick_rules_exposure_cut_total",
    "Lists for which the search of the smallest loss under rules on exposure ended early",
)
changes = Counter(
    "afterclick_rules_changes_total",
    "Changes of the rules' file that a worker has seen: 'served', its rules apply, or 'refused', the rules before it "
    "stay and the log says why",
    ["outcome"],
)
from_zero(changes, ("served", "refused"))
refused = Gauge("afterclick_rules_refused", "1 while the rules' file is one that cannot be used; earlier rules apply")


def show(table: ItemTable) -> None:
    """Show how many items each rule is about."""
    for rule, number in zip(table.rules.rules, table.matching, strict=True):
        items.labels(rule.name).set(number)


def begin(table: ItemTable, before: ItemTable) -> None:
    """Have a label for each rule that applies from now on, and none for those that do not any more."""
    names = [rule.name for rule in table.rules.rules]
    from_zero(moved, names)
    bounded = [rule.name for rule in table.rules.rules if rule.exposure]
    from_zero(exposure, bounded, OUTCOMES)
    for rule in before.rules.rules:
        if rule.name not in names:
            moved.remove(rule.name)
            items.remove(rule.name)
        for outcome in OUTCOMES if rule.exposure and rule.name not in bounded else ():
            exposure.remove(rule.name, outcome)
    show(table)

"""What the rules do to the candidates of one request: which a list may not have, where others belong.

Knows no score.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, Protocol

from ranker.rules.conditions import DAY_MS, Conditions, Values, bind, hold
from ranker.rules.exposure import Bounds
from ranker.rules.item_table import Facts, ItemTable

NEVER = -(2**63)
EXCLUDE, PIN, FILTER = "request.exclude", "request.pin", "request.filter"
"""The names under which the fields of a request are counted."""
MAX_MOVED = 20
"""Items that a list names for one rule; chosen by us: enough to see what a rule does, and a kilobyte at most."""
ALWAYS_KNOWN = ("item_id", "categories")
"""The fields that every candidate has."""


class RuledCandidate(Protocol):
    """The fields of a candidate that rules need, as in a rank request."""

    @property
    def item_id(self) -> str: ...
    @property
    def categories(self) -> list[str]: ...
    @property
    def unclicked(self) -> int: ...


@dataclass(frozen=True)
class Asked:
    """What the rules read of a request.

    Attributes
    ----------
    context : mapping
    exclude : collection of str
        Ids of items that may not be in the list.
    pin : sequence of str
        Ids of the items that the list begins with.
    filter : Conditions
        Items that do not fulfil them may not be in the list.
    as_of_ms : int
        Milliseconds since the epoch.
    bought_ms : mapping of str to int
        When the user bought items, by their ids: the newest purchase of each.
    not_inserted : collection of str
        Ids of items that no pin brings into the list if they are not among the candidates.
    inserts : bool
        Whether a pin brings any item into the list that is not among the candidates.
    domain : str
        Of which the list is: a pin brings in no item of another one. Empty: of all.
    """

    context: Mapping[str, Any] = field(default_factory=dict)
    exclude: Collection[str] = ()
    pin: Sequence[str] = ()
    filter: Conditions = field(default_factory=dict)
    as_of_ms: int = 0
    bought_ms: Mapping[str, int] = field(default_factory=dict)
    not_inserted: Collection[str] = ()
    inserts: bool = True
    domain: str = ""


class Pin(NamedTuple):
    """One of these items gets the rank: the best of the candidates, else the first of the inserted items.

    Attributes
    ----------
    rule : str
    rank : int
        From 1.
    indices : list of int
        Of the items, ascending.
    """

    rule: str
    rank: int
    indices: list[int]


class Cap(NamedTuple):
    """At most so many of a group.

    Attributes
    ----------
    rule : str
    at_most : int
    groups : dict of int to tuple of str
        The groups of each index. An index without a group is not limited.
    """

    rule: str
    at_most: int
    groups: dict[int, Values]


@dataclass
class Effects:
    """Where the rules want items. Indices are those of the candidates, followed by those of the inserted items.

    Attributes
    ----------
    inserted : list of str
        Ids of pinned items that are not among the candidates.
    factors : dict of int to float
        By which ranks are divided.
    boosted : dict of int to list of str
        The rules that say so.
    pins : list of Pin
        In the order in which they are placed.
    caps : list of Cap
    bounds : list of Bounds
        On the exposure of groups.
    """

    inserted: list[str] = field(default_factory=list)
    factors: dict[int, float] = field(default_factory=dict)
    boosted: dict[int, list[str]] = field(default_factory=dict)
    pins: list[Pin] = field(default_factory=list)
    caps: list[Cap] = field(default_factory=list)
    bounds: list[Bounds] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.inserted or self.factors or self.pins or self.caps or self.bounds)


def removals(table: ItemTable, asked: Asked, candidates: Sequence[RuledCandidate]) -> dict[int, str]:
    """Return which candidates the list may not have: for the index of each the rule that says so.

    Parameters
    ----------
    table : ItemTable
        The rules, and the items.
    asked : Asked
    candidates : sequence of RuledCandidate
    """
    applying = table.applying(asked.context, asked.as_of_ms, table.removing if asked.bought_ms else table.excluding)
    excluded, wanted = frozenset(asked.exclude), bind(asked.filter, {})
    bought: dict[str, int] | None = None  # by group
    removed: dict[int, str] = {}
    for index, candidate in enumerate(candidates):
        facts = table.facts(candidate.item_id, candidate.categories)
        for rule in table.about(facts, applying, candidate.unclicked) if facts.rules & applying.rules else ():
            if rule.not_after_purchase_days is not None:
                bought = _bought_groups(table, asked) if bought is None else bought
                times = [bought.get(group, NEVER) for group in table.value(facts, "group_id")]
                bought_ms = max([asked.bought_ms.get(candidate.item_id, NEVER), *times])
                if bought_ms <= asked.as_of_ms - rule.not_after_purchase_days * DAY_MS:
                    continue
            removed.setdefault(index, rule.name)
        if candidate.item_id in excluded:
            removed.setdefault(index, EXCLUDE)
        elif wanted and not hold(wanted, partial(_value, table, facts, candidate)):
            removed.setdefault(index, FILTER)
    return removed


def effects(table: ItemTable, asked: Asked, candidates: Sequence[RuledCandidate]) -> Effects:
    """Return where the rules want these candidates, none of which is to be removed, and which items they add.

    Parameters
    ----------
    table : ItemTable
    asked : Asked
    candidates : sequence of RuledCandidate
    """
    rules, applying = table.rules.rules, table.applying(asked.context, asked.as_of_ms, ~table.removing)
    made = Effects()
    entries: list[RuledCandidate] = [*candidates, *_inserted(table, asked, candidates, applying.rules)]
    made.inserted = [entry.item_id for entry in entries[len(candidates) :]]
    about: dict[str, list[int]] = {}
    of_entries = [table.facts(entry.item_id, entry.categories) for entry in entries]
    for index, facts in enumerate(of_entries):
        for rule in table.about(facts, applying, entries[index].unclicked):
            if rule.boost is None:
                about.setdefault(rule.name, []).append(index)
            else:
                made.factors[index] = made.factors.get(index, 1.0) * rule.boost
                made.boosted.setdefault(index, []).append(rule.name)
    for rank, item_id in enumerate(asked.pin, 1):
        made.pins.append(Pin(PIN, rank, [index for index, entry in enumerate(entries) if entry.item_id == item_id]))
    for number, rule in enumerate(rules):
        indices = about.get(rule.name, [])
        if rule.pin is not None and indices:
            made.pins.append(Pin(rule.name, rule.pin, indices))
        elif rule.at_most is not None and rule.per is not None and indices:
            made.caps.append(
                Cap(rule.name, rule.at_most, {i: _groups(table, of_entries[i], rule.per) for i in indices})
            )
        elif rule.exposure is not None and applying.rules >> number & 1:
            groups: dict[str, list[int]] = {} if rule.per else {rule.name: indices}
            for index in indices if rule.per else ():
                for group in _groups(table, of_entries[index], rule.per or ""):
                    groups.setdefault(group, []).append(index)
            made.bounds += [Bounds(rule.name, *rule.exposure, frozenset(of)) for of in groups.values()]
    return made


@dataclass(frozen=True)
class _Inserted:
    """A pinned item that is not among the candidates."""

    item_id: str
    categories: list[str] = field(default_factory=list)
    unclicked: int = 0


def _inserted(table: ItemTable, asked: Asked, candidates: Sequence[RuledCandidate], active: int) -> list[_Inserted]:
    """The pinned items that the catalogue has and no rule removes, in the order of the rules."""
    wanted = list(asked.pin)
    for number, rule in enumerate(table.rules.rules):
        if rule.pin is not None and active >> number & 1 and "item_id" in rule.items:
            wanted += rule.items["item_id"].any_of
    if not wanted or not asked.inserts:
        return []
    known = {*asked.not_inserted, *(candidate.item_id for candidate in candidates)}
    found = [_Inserted(one) for one in dict.fromkeys(wanted) if one not in known and one in table]
    if asked.domain:
        found = [one for one in found if asked.domain in table.value(table.facts(one.item_id, ()), "domain")]
    removed = removals(table, asked, found)
    return [one for index, one in enumerate(found) if index not in removed]


def _bought_groups(table: ItemTable, asked: Asked) -> dict[str, int]:
    """When the user bought a variant of a product last, by the products' `group_id`."""
    bought: dict[str, int] = {}
    for item_id, time_ms in asked.bought_ms.items():
        for group in table.value(table.facts(item_id, ()), "group_id"):
            bought[group] = max(time_ms, bought.get(group, time_ms))
    return bought


def _value(table: ItemTable, facts: Facts, candidate: RuledCandidate, name: str) -> Values:
    if name == "item_id":
        return (candidate.item_id,)
    return table.value(facts, name) or (tuple(candidate.categories) if name == "categories" else ())


def _groups(table: ItemTable, facts: Facts, per: str) -> Values:
    values = table.value(facts, per)
    return values[-1:] if per == "categories" else values

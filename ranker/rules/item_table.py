"""What the rules need to know of each item: which rules are about it, and some of its values.

An item's own fields are looked at once, when it comes. Knows neither where items come from nor any list.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from ranker.rules.conditions import (
    AGE,
    DAY_MS,
    TIME,
    BoundConditions,
    BoundTest,
    Conditions,
    Read,
    Values,
    bind,
    hold,
    look_up,
    values_of,
)
from ranker.rules.rule import Rule, RuleSet

SPARE = 1_024
"""Facts that no item has any more, kept in a small catalogue; in a large one as many as it has items."""


class Facts(NamedTuple):
    """What is known of an item. Items that are alike share one object.

    Attributes
    ----------
    rules : int
        A bit for each rule that is about the item; of a rule that refers to the context, for each that may be.
    values : tuple of tuple of str
        The values of the fields in `RuleSet.kept`, in their order.
    """

    rules: int
    values: tuple[Values, ...]


IndexedTests = Sequence[tuple[int, BoundTest]]


class Applying(NamedTuple):
    """The rules that apply to a request.

    Attributes
    ----------
    rules : int
        As bits.
    exact : dict of int to two sequences of (int, BoundTest)
        For the bit of each of them that refers to the context: its conditions `items` and `unless`, each with the index
        of its field in `Facts.values`.
    """

    rules: int
    exact: Mapping[int, tuple[IndexedTests, IndexedTests]]


class ItemTable:
    """The items of the catalogue, as one set of rules sees them.

    Parameters
    ----------
    rules : RuleSet

    Attributes
    ----------
    rules : RuleSet
    excluded : set of str
        Ids of the items that no list may show, whatever is asked.
    matching : list of int
        By rule: the number of available items that it is about, or may be.
    context_keys : frozenset of str
        The keys of a context that the rules read.
    reads_purchases : bool
        Whether a rule needs to know when the user bought what.
    excluding : int
        The rules that exclude items, as bits.
    removing : int
        The rules that keep items out of lists: those, and those about purchases.
    """

    def __init__(self, rules: RuleSet) -> None:
        self.rules = rules
        self.excluded: set[str] = set()
        self.matching = [0] * len(rules.rules)
        self._kept = {field: index for index, field in enumerate(rules.kept)}
        self._all = (1 << len(rules.rules)) - 1
        self._of_items = [_of_items(1 << number, rule) for number, rule in enumerate(rules.rules)]
        self._conditional = [
            (1 << number, bind(rule.when, {}), rule)
            for number, rule in enumerate(rules.rules)
            if rule.when or rule.references or rule.reads_age
        ]
        self._for_all = _bits(rules, lambda rule: rule.holds_for_all)
        self.excluding = _bits(rules, lambda rule: rule.exclude)
        self.context_keys = frozenset(key for rule in rules.rules for key in (*rule.when, *rule.references))
        self.reads_purchases = any(rule.not_after_purchase_days is not None for rule in rules.rules)
        self.removing = _bits(rules, lambda rule: rule.exclude or rule.not_after_purchase_days is not None)
        self._facts: dict[str, Facts] = {}
        self._shared: dict[Facts, Facts] = {}

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._facts

    def put(self, item: Any) -> None:
        """Insert an item, or replace it. An item that is not available is none.

        Another thread may ask meanwhile: it gets the facts before or after.

        Parameters
        ----------
        item : object
            With the fields of the contract's item as attributes.
        """
        if not item.available:
            self.delete(item.item_id)
            return
        facts = self._seen(lambda field: values_of(item, field))
        before = self._facts.get(item.item_id)
        self._facts[item.item_id] = self._shared.setdefault(facts, facts)
        if len(self._shared) > 2 * len(self._facts) + SPARE:
            self._shared = {facts: facts for facts in self._facts.values()}
        self._count(before, -1)
        self._count(facts, 1)
        if facts.rules & self._for_all:
            self.excluded.add(item.item_id)
        else:
            self.excluded.discard(item.item_id)

    def delete(self, item_id: str) -> None:
        """Remove an item; nothing happens if it is not there. It stays excluded until it comes back otherwise."""
        self._count(self._facts.pop(item_id, None), -1)

    def facts(self, item_id: str, categories: Collection[str]) -> Facts:
        """Return what is known of an item; of one that the catalogue does not have, what the arguments say."""
        known = self._facts.get(item_id)
        if known is not None:
            return known
        given = {"item_id": (item_id,), "categories": tuple(categories)}
        return self._seen(lambda field: given.get(field, ()))

    def value(self, facts: Facts, field: str) -> Values:
        """Return the values of a field; none of a field that is not in `RuleSet.kept`."""
        index = self._kept.get(field)
        return () if index is None else facts.values[index]

    def applying(self, context: Mapping[str, Any], as_of_ms: int, among: int = -1) -> Applying:
        """Return those rules that apply to a request with this context.

        Parameters
        ----------
        context : mapping
        as_of_ms : int
            The time of the request, milliseconds since the epoch. 0: unknown; no rule about items' ages applies.
        among : int
            The rules that matter, as bits: such as `removing`.
        """
        bits, exact = self._all & among, dict[int, tuple[IndexedTests, IndexedTests]]()
        for bit, when, rule in self._conditional:
            if not bits & bit:
                continue
            is_known = all(look_up(context, key) for key in rule.references) and (as_of_ms or not rule.reads_age)
            if not (is_known and hold(when, partial(look_up, context))):
                bits ^= bit
            elif rule.references or rule.reads_age:
                of_items = (self._indexed(conditions, context, as_of_ms) for conditions in (rule.items, rule.unless))
                exact[bit] = next(of_items), next(of_items)
        return Applying(bits, exact)

    def about(self, facts: Facts, applying: Applying, unclicked: int = 0) -> Iterator[Rule]:
        """Yield the rules that apply to a request and are about an item, which was shown so often without a click."""
        left = facts.rules & applying.rules
        while left:
            lowest = left & -left
            left ^= lowest
            if lowest in applying.exact:
                items, unless = applying.exact[lowest]
                if not _hold(items, facts.values) or (unless and _hold(unless, facts.values)):
                    continue
            rule = self.rules.rules[lowest.bit_length() - 1]
            if rule.fatigued_after is None or unclicked >= rule.fatigued_after:
                yield rule

    def _indexed(self, conditions: Conditions, context: Mapping[str, Any], as_of_ms: int) -> IndexedTests:
        tests = []
        for field, test in conditions.items():
            bound = test.bound(context)
            if field == AGE:
                bound = BoundTest(None, as_of_ms - bound.high * DAY_MS, as_of_ms - bound.low * DAY_MS)
            tests.append((self._kept[TIME if field == AGE else field], bound))
        return tests

    def _seen(self, read: Read) -> Facts:
        about = 0
        for bit, items, unless in self._of_items:
            if hold(items, read) and not (unless and hold(unless, read)):
                about |= bit
        return Facts(about, tuple(tuple(map(sys.intern, read(field))) for field in self._kept))

    def _count(self, facts: Facts | None, change: int) -> None:
        left = facts.rules if facts else 0
        while left:
            lowest = left & -left
            self.matching[lowest.bit_length() - 1] += change
            left ^= lowest


def _bits(rules: RuleSet, belongs: Callable[[Rule], bool]) -> int:
    return sum(1 << number for number, rule in enumerate(rules.rules) if belongs(rule))


def _hold(tests: IndexedTests, values: Sequence[Values]) -> bool:
    """Whether all tests hold. As short as it can be: this is what rules with a context cost."""
    for index, test in tests:
        if test.any_of is None:
            if not test.holds(values[index]):
                return False
        elif test.any_of.isdisjoint(values[index]):
            return False
    return True


def _of_items(bit: int, rule: Rule) -> tuple[int, BoundConditions, BoundConditions]:
    """The conditions that an item alone decides. Those that refer to the request are left open."""
    items = {field: test for field, test in rule.items.items() if field != AGE and not test.references}
    return bit, bind(items, {}), {} if rule.references or rule.reads_age else bind(rule.unless, {})

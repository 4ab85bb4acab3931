"""A rule, and the rules of a file. Knows neither the file nor an item."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from ranker.rules.conditions import AGE, TIME, Conditions, references


@dataclass(frozen=True)
class Rule:
    """One rule: exactly one effect, and when it applies to which items.

    Attributes
    ----------
    name : str
        Its label in metrics and lists.
    line : int
        Where it begins in its file.
    exclude : bool
        The items are in no list.
    boost : float, optional
        The items' ranks are divided by this number: 2 moves an item from rank 10 to 5, 0.5 to rank 20.
    pin : int, optional
        The best of the items gets this rank.
    at_most : int, optional
        A list has at most this many of the items for each value of `per`.
    per : str, optional
        A field of items; `categories` stands for the leaf category.
    exposure : tuple of (float, float), optional
        The bounds on the share of a list's exposure that the items get; for each value of `per`, if there is one.
    not_after_purchase_days : float, optional
        An item, or a variant of it, is in no list for this time after the user bought it.
    fatigued_after : int, optional
        The rule is only about items that the user was shown so often since they did anything with them.
    items : Conditions
        On fields: the items that the rule is about. None: all items.
    unless : Conditions
        On fields: the items that the rule spares. None: it spares no item.
    when : Conditions
        On keys of the context: the requests that the rule applies to.
    """

    name: str
    line: int
    exclude: bool = False
    boost: float | None = None
    pin: int | None = None
    at_most: int | None = None
    per: str | None = None
    exposure: tuple[float, float] | None = None
    not_after_purchase_days: float | None = None
    fatigued_after: int | None = None
    items: Conditions = field(default_factory=dict)
    unless: Conditions = field(default_factory=dict)
    when: Conditions = field(default_factory=dict)

    @cached_property
    def references(self) -> set[str]:
        """The keys of the context that the conditions on items need. Without one of them the rule does not apply."""
        return references(self.items) | references(self.unless)

    @property
    def reads_age(self) -> bool:
        """Whether it depends on the time of a request which items the rule is about."""
        return AGE in self.items or AGE in self.unless

    @property
    def holds_for_all(self) -> bool:
        """Whether the rule excludes its items from every list, whatever is asked."""
        always = not self.when and not self.references and not self.reads_age
        return self.exclude and always and self.fatigued_after is None

    @property
    def effect(self) -> str:
        """The effect in words."""
        return self._effect if self.fatigued_after is None else f"{self._effect}, if shown {self.fatigued_after} times"

    @property
    def _effect(self) -> str:
        if self.exclude:
            return "exclude"
        if self.boost is not None:
            return f"{'boost' if self.boost >= 1 else 'bury'} by {self.boost:g}"
        if self.pin is not None:
            return f"pin to rank {self.pin}"
        if self.at_most is not None:
            return f"at most {self.at_most} per {self.per}"
        if self.exposure is not None:
            low, high = self.exposure
            bounds = [f"at least {low:.0%}"] * (low > 0) + [f"at most {high:.0%}"] * (high < 1)
            return f"{' and '.join(bounds)} of the exposure" + (f" per {self.per}" if self.per else "")
        return f"not within {self.not_after_purchase_days:g} days of purchase"


@dataclass(frozen=True)
class RuleSet:
    """The rules of a file.

    Attributes
    ----------
    rules : tuple of Rule
        In the order of the file.
    filter_fields : tuple of str
        The fields of items that the filter of a request may name.
    """

    rules: tuple[Rule, ...] = ()
    filter_fields: tuple[str, ...] = ()

    @property
    def kept(self) -> tuple[str, ...]:
        """The fields of which an item's values are needed when a list is made."""
        fields = dict.fromkeys(self.filter_fields)
        for rule in self.rules:
            if rule.per is not None:
                fields[rule.per] = None
            if rule.references or rule.reads_age:
                fields |= dict.fromkeys(TIME if field == AGE else field for field in (*rule.items, *rule.unless))
            if rule.not_after_purchase_days is not None:
                fields["group_id"] = None
            if rule.pin is not None:
                fields["domain"] = None
        return tuple(fields)

"""The team's rules, as the lists of rank requests need them. Knows neither the rules' file nor Kafka."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import UNSET, UnsetType

from encoders.event_time import milliseconds
from ranker.rules.conditions import Conditions, Test, in_words
from ranker.rules.effects import ALWAYS_KNOWN, MAX_MOVED, Asked, Effects, effects, removals
from ranker.rules.exposure import Bounded
from ranker.rules.item_table import ItemTable
from ranker.rules.reading import BadCondition, conditions
from ranker.rules.rule import RuleSet
from ranker.select import NO_EFFECTS
from streams.contracts import Candidate, RankRequest
from streams.rank.list_wishes import add_factors, are_hard, kept_out
from streams.rules import rule_metrics

MAX_NAMED = 200
"""Items that a list names for all rules together; chosen by us: some kilobytes."""
PINNED = "pinned"
"""The source of an item that a pin brought into a list."""


class ListRules:
    """Applies the rules to requests.

    Attributes
    ----------
    table : ItemTable
        The rules, and the items as they see them. Replaced as a whole when the rules change.
    """

    def __init__(self) -> None:
        self.table = ItemTable(RuleSet())

    def keep(self, table: ItemTable, *_: object) -> None:
        """Apply these rules from now on."""
        self.table = table

    def check(self, request: RankRequest) -> None:
        """Raise `BadCondition` if the filter of the request cannot be applied."""
        if request.filter:
            conditions(request.filter, (*ALWAYS_KNOWN, *self.table.rules.filter_fields), with_references=False)

    def unread(self, request: RankRequest) -> set[str]:
        """Return the items that the state tier recalled and the rules have not read yet: they may be about them."""
        if not self.table.rules.rules or not request.state_version:
            return set()
        return {one.item_id for one in request.candidates if one.sources and one.item_id not in self.table}

    def removals(self, request: RankRequest) -> dict[int, str]:
        """Return which candidates the list may not have: for the index of each the rule that says so."""
        wished = kept_out(request)
        if not (self.table.removing or request.exclude or request.filter):
            return wished
        return {**wished, **removals(self.table, self._asked(request), request.candidates)}

    def effects(self, request: RankRequest, candidates: Sequence[Candidate]) -> Effects:
        """Return where the rules want those candidates that the list may have, and which items they add."""
        if not (self.table.rules.rules or request.pin or request.wishes):
            return NO_EFFECTS
        return add_factors(request, candidates, effects(self.table, self._asked(request), candidates))

    def _asked(self, request: RankRequest) -> Asked:
        bought_ms = _bought_ms(request)
        return Asked(
            context=in_words(request.context),
            exclude=request.exclude,
            pin=request.pin,
            filter=_filter(request),
            as_of_ms=milliseconds(request.as_of),
            bought_ms=bought_ms,
            not_inserted={*bought_ms, *(event.item_id for event in request.history[-1:])},
            inserts=not are_hard(request),
            domain=request.domain,
        )


def _filter(request: RankRequest) -> Conditions:
    """The filter. A field that it names and the rules' file names no more lets nothing in."""
    try:
        return conditions(request.filter, None, with_references=False) if request.filter else {}
    except BadCondition:
        return {"item_id": Test(low="1", high="0")}


def inserted(found: Effects) -> list[Candidate]:
    """Return the pinned items that are not among the candidates, as candidates."""
    return [Candidate(item_id=item_id, text="", sources=[PINNED]) for item_id in found.inserted]


def noted(
    kept_out: Mapping[str, Sequence[str]],
    moved: Mapping[str, Sequence[int]],
    candidates: Sequence[Candidate],
    exposure: Bounded | None = None,
) -> dict[str, list[str]] | UnsetType:
    """Count what each rule did to a list. Returns the list's field `rules`."""
    named = {rule: list(item_ids) for rule, item_ids in kept_out.items()}
    for rule, positions in moved.items():
        named.setdefault(rule, []).extend(candidates[position].item_id for position in positions)
    for rule, item_ids in named.items():
        rule_metrics.moved.labels(rule).inc(len(item_ids))
    if exposure is not None:
        for rule, outcome in exposure.outcomes.items():
            rule_metrics.exposure.labels(rule, outcome).inc()
        rule_metrics.exposure_cut.inc(exposure.cut)
    most = max(1, min(MAX_MOVED, MAX_NAMED // max(1, len(named))))
    return {rule: item_ids[:most] for rule, item_ids in named.items()} or UNSET


def _bought_ms(request: RankRequest) -> dict[str, int]:
    """When the user bought what, as far as the request says it."""
    bought_ms = {one.item_id: one.bought_at for one in request.candidates if one.bought_at is not None}
    for event in request.history:
        if event.type == "purchase":
            bought_ms[event.item_id] = max(milliseconds(event.timestamp), bought_ms.get(event.item_id, 0))
    return bought_ms

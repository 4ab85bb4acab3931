"""Rules, and what they did to a list, as tables and as JSON. Knows no list's history: a list says what moved it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from ranker.rules.conditions import Conditions, Test
from ranker.rules.effects import EXCLUDE, FILTER, MAX_MOVED, PIN
from ranker.rules.rule import Rule, RuleSet
from ranker.wishes.effects import RULES
from streams.contracts import COLD_START_USER
from streams.publish.list_cache import ListCache
from streams.receive.pseudonym import pseudonym
from streams.settings import Settings
from streams.terminal.report import SENTENCE, Field, Report

OF_REQUESTS = {
    EXCLUDE: "exclude, by the request",
    PIN: "pin, by the request",
    FILTER: "filter, by the request",
    **{name: f"{effect}, by a wish of the user" for effect, name in RULES.items()},
}


class _Shown(msgspec.Struct):
    item_id: str
    rank: int


class RuledList(msgspec.Struct):
    """What the report reads of a list."""

    user_id: str
    list_id: str
    items: list[_Shown]
    rules: dict[str, list[str]] = {}


class Move(msgspec.Struct):
    """What a rule did to an item. `rank` is null for an item that is not in the list."""

    rule: str
    item_id: str
    rank: int | None


async def list_of(settings: Settings, user_id: str, placement: str | None) -> RuledList | None:
    """Read a user's list, or the cold-start list; None if there is neither.

    Raises
    ------
    streams.publish.redis_refusal.CacheUnavailable
        Redis does not answer, or refuses.
    streams.settings.SettingsError
        The placement is not declared.
    """
    stored = await ListCache.read_once(settings, pseudonym(user_id, settings.pseudonym_key), placement)
    if stored is None:
        stored = await ListCache.read_once(settings, COLD_START_USER)
    return None if stored is None else msgspec.json.decode(stored, type=RuledList)


def moves(list_: RuledList) -> list[Move]:
    """Return what the rules did to a list, rule by rule."""
    ranks = {item.item_id: item.rank for item in list_.items}
    return [Move(rule, item_id, ranks.get(item_id)) for rule, items in list_.rules.items() for item_id in items]


def of_list(list_: RuledList, rules: Sequence[Rule]) -> Report:
    """Draw what the rules did to a list."""
    effects = OF_REQUESTS | {rule.name: rule.effect for rule in rules}
    of = "the cold-start list" if list_.user_id == COLD_START_USER else f"the list of {list_.user_id}"
    fields = (Field("rule"), Field("effect", wrap=SENTENCE), Field("item"), Field("now"))
    report = Report(fields, f"{of}, {len(list_.items)} items", keys=3)
    for move in moves(list_):
        now = "not in the list" if move.rank is None else f"rank {move.rank}"
        report.add(move.rule, effects.get(move.rule, "a rule that the file has no more"), move.item_id, now)
    return report


def notes(list_: RuledList, rules: Sequence[Rule]) -> list[str]:
    """Say what the table cannot show."""
    found = [] if list_.rules else ["no rule moved an item of this list"]
    if cut := [rule for rule, items in list_.rules.items() if len(items) == MAX_MOVED]:
        found.append(f"a list names {MAX_MOVED} items of a rule at most: there may be more of {', '.join(cut)}")
    if for_all := [rule.name for rule in rules if rule.holds_for_all]:
        found.append(f"excluded from all lists, so no candidate of any, by {', '.join(for_all)}")
    return found


def of_file(rules: RuleSet, name: str) -> Report:
    """Draw the rules of a file."""
    words = [Field(heading, wrap=SENTENCE) for heading in ("effect", "items", "unless", "when")]
    report = Report((Field("line", number=True), Field("rule"), *words), f"{name}: {len(rules.rules)} rules", keys=2)
    for rule in rules.rules:
        of_items = [in_words(conditions) for conditions in (rule.items, rule.unless, rule.when)]
        report.add(str(rule.line), rule.name, rule.effect, of_items[0] or "all", *of_items[1:])
    if rules.filter_fields:
        report.caption = f"requests may filter by {', '.join(rules.filter_fields)}"
    return report


def as_object(rule: Rule) -> Mapping[str, Any]:
    """Return a rule as JSON has it."""
    return {
        "name": rule.name,
        "line": rule.line,
        "effect": rule.effect,
        **{key: in_words(getattr(rule, key)) for key in ("items", "unless", "when")},
    }


def in_words(conditions: Conditions) -> str:
    """Say what conditions ask for."""
    return " and ".join(f"{field} {_test(test)}" for field, test in conditions.items())


def _test(test: Test) -> str:
    if test.any_of:
        return f"is {_one_of(test.any_of)}"
    bounds = [f"{sign} {number}" for sign, number in ((">=", test.low), ("<=", test.high)) if number is not None]
    return " and ".join(bounds)


def _one_of(values: Collection[str]) -> str:
    return " or ".join(values)

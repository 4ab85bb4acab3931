"""Read rules from TOML, and say what is wrong with them: file, line, what is there, what is expected.

    [[rule]]
    name = "own brand first"        # a label in metrics and in lists
    boost = 1.5                     # or exclude, pin, at_most with per, exposure, not_after_purchase_days: one effect
    items = { brand = "Acme" }      # which items; none: all
    unless = { "attributes.season" = ["summer", "autumn"] }
    when = { country = "DE" }       # on the request's context
    fatigued_after = 3              # only items that the user was shown so often without a click

A condition is a value, a list of values, or `{ min = 10, max = 20 }`. On items a value may be "$context.country".
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from encoders.errors import AfterclickError
from encoders.events.shown_lists import MAX_LISTS
from ranker.rules.conditions import AGE, FIELDS, REFERENCE, Conditions, Test, as_number, texts
from ranker.rules.rule import Rule, RuleSet

MAX_RULES = 200
"""Each is a label of metrics and costs time in every list; chosen by us."""
MAX_RANK = 1_000
"""The longest list."""
MAX_NAME = 64
LEAST_PER = 0.23
"""A share that an item at rank 1 does not exceed, if it is the only one of its group in ten ranks."""
PER = ("brand", "categories", "provider", "group_id")
EFFECTS = ("exclude", "boost", "pin", "at_most", "exposure", "not_after_purchase_days")
KEYS = ("name", *EFFECTS, "per", "fatigued_after", "items", "unless", "when")


class RulesError(AfterclickError):
    """Rules cannot be used. The message has one line for each thing that is wrong, with file and line."""


class BadCondition(ValueError):
    """A condition is wrong: the message says what was given and what is expected."""


def read(path: Path) -> RuleSet:
    """Read a file.

    Raises
    ------
    RulesError
        It cannot be read, or something in it is wrong.
    """
    try:
        return parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise RulesError(
            f"{path}: got a file that cannot be read ({why}), expected rules in TOML; check the path"
        ) from error


def parse(text: str, name: str) -> RuleSet:
    """Parse the text of a file. See `read`."""
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = found[1] if (found := re.search(r"line (\d+)", str(error))) else str(len(text.splitlines()))
        raise RulesError(f"{name}:{line}: got invalid TOML, expected TOML 1.0; {error}") from error
    lines = _Lines(text)
    problems = [
        (lines.top(key), f"got {key!r}, expected {_close(key, ('rule', 'filter_fields'))}; rename it")
        for key in tree.keys() - {"rule", "filter_fields"}
    ]
    tables = tree.get("rule", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        problems.append((lines.top("rule"), "got 'rule' that is no table, expected [[rule]]; write two brackets"))
        tables = []
    if len(tables) > MAX_RULES:
        problems.append((1, f"got {len(tables)} rules, expected at most {MAX_RULES}; join rules with lists of values"))
    fields = tree.get("filter_fields", [])
    if not isinstance(fields, list) or (fields := [field for field in fields if not _is_field(field)]):
        got = fields[0] if isinstance(fields, list) else fields
        problems.append((lines.top("filter_fields"), f"filter_fields: got {got!r}, expected names of {_fields()}"))
    rules, names = [], set[str]()
    for number, table in enumerate(tables):
        rule, wrong = _rule(table, lines.of(number), names)
        problems += [(lines.of(number, key), f"{_title(table)}: {problem}") for key, problem in wrong]
        names.add(rule.name)
        rules.append(rule)
    if problems:
        raise RulesError("\n".join(f"{name}:{line}: {problem}" for line, problem in sorted(problems)))
    return RuleSet(tuple(rules), tuple(tree.get("filter_fields", ())))


def conditions(table: Any, fields: Collection[str] | None, *, with_references: bool) -> Conditions:
    """Read conditions.

    Parameters
    ----------
    table : object
        Field or key of the context -> value, list of values, or object with `min` and `max`.
    fields : collection of str, optional
        The names that conditions may be on. None: any.
    with_references : bool
        Whether values may refer to the context.

    Raises
    ------
    BadCondition
    """
    if not isinstance(table, Mapping) or not table:
        raise BadCondition(f'got {table!r}, expected conditions such as {{ brand = "Acme" }}')
    for field in table:
        if (
            fields is not None
            and field not in fields
            and not (field.startswith("attributes.") and "attributes" in fields)
        ):
            raise BadCondition(f"got the field {field!r}, expected {_close(field, fields)}")
        if fields is not None and field == AGE and not isinstance(table[field], Mapping):
            raise BadCondition(f"{field}: got {table[field]!r}, expected days such as {{ max = 14 }}")
    return {field: _test(field, value, with_references) for field, value in table.items()}


def _test(field: str, value: Any, with_references: bool) -> Test:
    entries = [*value.values()] if isinstance(value, Mapping) else value if isinstance(value, list) else [value]
    found = [texts(entry) for entry in entries]
    if not found or any(len(text) != 1 or isinstance(entry, list) for text, entry in zip(found, entries, strict=True)):
        raise BadCondition(f"{field}: got {value!r}, expected a value, a list of values, or {{ min = 1, max = 2 }}")
    if not with_references and any(text.startswith(REFERENCE) for (text,) in found):
        raise BadCondition(
            f"{field}: got {value!r}, expected a value; only conditions on items of a rule refer to the context"
        )
    if not isinstance(value, Mapping):
        return Test(any_of=tuple(text for (text,) in found))
    bounds = dict(zip(value, (text for (text,) in found), strict=True))
    if bounds.keys() - {"min", "max"} or any(
        as_number(text) is None for text in bounds.values() if not text.startswith(REFERENCE)
    ):
        raise BadCondition(f"{field}: got {value!r}, expected numbers for min, max or both")
    return Test(low=bounds.get("min"), high=bounds.get("max"))


def _rule(table: Mapping[str, Any], line: int, names: Collection[str]) -> tuple[Rule, list[tuple[str, str]]]:
    """A rule, and what is wrong with it: the key, and a problem in words."""
    problems = list(_problems(table, names))
    parts: dict[str, Conditions] = {}
    for key in ("items", "unless", "when"):
        if key in table:
            try:
                known = None if key == "when" else (*FIELDS, AGE)
                parts[key] = conditions(table[key], known, with_references=key != "when")
            except BadCondition as error:
                problems.append((key, f"{key}: {error}"))
    if problems:
        return Rule(str(table.get("name")), line), problems
    effect: dict[str, Any] = {key: table[key] for key in ("name", *EFFECTS, "fatigued_after") if key in table}
    if "exposure" in table:
        effect["exposure"] = float(table["exposure"].get("min", 0)), float(table["exposure"].get("max", 1))
    per = "categories" if table.get("per") == "category" else table.get("per")
    of_items = parts.get("items", {}), parts.get("unless", {})
    return Rule(line=line, per=per, items=of_items[0], unless=of_items[1], when=parts.get("when", {}), **effect), []


def _problems(table: Mapping[str, Any], names: Collection[str]) -> Iterator[tuple[str, str]]:
    """Everything but the conditions."""
    unknown = table.keys() - set(KEYS)
    for key in unknown:
        yield key, f"got {key!r}, expected {_close(key, KEYS)}; rename it"
    name = table.get("name")
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or not name.isprintable():
        yield "name", f"got name = {name!r}, expected a text of 1 to {MAX_NAME} printable characters"
    elif name in names:
        yield "name", "got the name of an earlier rule, expected another; metrics count each rule by its name"
    elif name.startswith(("request.", "wish.")):
        begin = name.partition(".")[0]
        yield "name", f"got a name that begins with '{begin}.', expected another; those count what else moves items"
    effects = [key for key in EFFECTS if key in table]
    if len(effects) > 1 or not (effects or unknown):
        got = " and ".join(effects) or "no effect"
        yield (effects or [""])[-1], f"got {got}, expected one of {', '.join(EFFECTS)}; write a rule for each"
    for key, is_right, expected in (
        ("exclude", table.get("exclude", True) is True, "true; delete the rule to turn it off"),
        (
            "boost",
            _is_number(table.get("boost", 1.0)) and table.get("boost", 1.0) > 0,
            "a number above 0; below 1 it buries",
        ),
        ("pin", _is_count(table.get("pin", 1), 1, MAX_RANK), f"a rank from 1 to {MAX_RANK}"),
        ("at_most", _is_count(table.get("at_most", 1), 1, MAX_RANK), f"a number from 1 to {MAX_RANK}"),
        (
            "fatigued_after",
            _is_count(table.get("fatigued_after", 1), 1, MAX_LISTS),
            f"a number from 1 to {MAX_LISTS}, the lists that a user's state keeps",
        ),
        (
            "not_after_purchase_days",
            _is_number(table.get("not_after_purchase_days", 1)) and table.get("not_after_purchase_days", 1) > 0,
            "a number of days above 0",
        ),
    ):
        if not is_right:
            yield key, f"got {key} = {table[key]!r}, expected {expected}"
    yield from _exposure_problems(table)
    per = table.get("per")
    if "at_most" in table and "per" not in table:
        yield "at_most", "got one of at_most and per, expected both"
    elif "per" in table and not table.keys() & {"at_most", "exposure"}:
        yield "per", "got per, expected it with at_most or exposure"
    elif per is not None and not (
        per in (*PER, "category") or (isinstance(per, str) and _is_field(per) and "." in per)
    ):
        yield "per", f"got per = {per!r}, expected brand, category, provider, group_id or attributes.NAME"
    if ("exclude" in table or "pin" in table) and not table.keys() & {"items", "unless", "fatigued_after"}:
        yield (
            effects[0] if effects else "",
            "got a rule about all items, expected `items`, `unless` or `fatigued_after`",
        )


def _exposure_problems(table: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if "exposure" not in table:
        return
    bounds = table["exposure"]
    if (
        not isinstance(bounds, Mapping)
        or not bounds
        or bounds.keys() - {"min", "max"}
        or not all(map(_is_number, bounds.values()))
        or not 0 <= bounds.get("min", 0) <= bounds.get("max", 1) <= 1
    ):
        yield "exposure", f"got exposure = {bounds!r}, expected shares such as {{ min = 0.2, max = 0.5 }}"
    elif "per" in table and ("min" in bounds or bounds["max"] < LEAST_PER):
        yield (
            "exposure",
            f"got exposure = {bounds!r} with per, expected a max of {LEAST_PER} or more: rank 1 alone has 22% of the "
            "first ten's; for a min write a rule for each group",
        )
    elif not table.keys() & {"per", "items", "unless"}:
        yield "exposure", "got a rule about all items, expected `items`, `unless` or `per`"


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value and abs(value) < 1e9


def _is_count(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_field(field: object) -> bool:
    return isinstance(field, str) and (field in FIELDS or (field.startswith("attributes.") and len(field) > 11))


def _fields() -> str:
    return f"{', '.join(field for field in FIELDS if field != 'attributes')} or attributes.NAME"


def _close(name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return close[0] if close else f"one of {', '.join(known)}"


def _title(table: Mapping[str, Any]) -> str:
    return f"rule {table['name']!r}" if isinstance(table.get("name"), str) else "a rule without a name"


class _Lines:
    """Finds the lines of rules and keys. A text inside quotes that looks like a header is taken for one."""

    def __init__(self, text: str) -> None:
        self._lines = text.splitlines()
        self._headers = [
            number for number, line in enumerate(self._lines, 1) if re.match(r"\s*\[\[\s*[\"']?rule[\"']?\s*\]\]", line)
        ]

    def top(self, key: str) -> int:
        """The line of a key before or outside the rules; 1 if it is not found."""
        return self._find(key, 1, len(self._lines)) or 1

    def of(self, number: int, key: str = "") -> int:
        """The line of a rule, by its index, or of a key in it."""
        if number >= len(self._headers):  # an inline array
            return self._headers[-1] if self._headers else self.top("rule")
        begin = self._headers[number]
        end = self._headers[number + 1] - 1 if number + 1 < len(self._headers) else len(self._lines)
        return (self._find(key, begin, end) if key else 0) or begin

    def _find(self, key: str, begin: int, end: int) -> int:
        pattern = re.compile(rf"\s*(\[+\s*(rule\s*\.\s*)?)?[\"']?{re.escape(key)}[\"']?\s*([=.\]])")
        return next((number for number in range(begin, end + 1) if pattern.match(self._lines[number - 1])), 0)

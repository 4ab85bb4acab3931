"""Rules applied to drawn candidates, against a plain reference that decides rank by rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from ranker.rules.conditions import texts
from ranker.rules.effects import EXCLUDE, FILTER, PIN, Asked, effects, removals
from ranker.rules.item_table import ItemTable
from ranker.rules.reading import conditions, parse
from ranker.select import select
from streams.contracts import Candidate, Item

DAY_MS = 86_400_000
NOW = 100 * DAY_MS
IDS = [f"i{number}" for number in range(8)]
BRANDS = ["a", "b"]
COUNTRIES = ["DE", "AT", "FR"]

ABOUT: list[dict[str, Any]] = [
    {"brand": "a"},
    {"brand": ["a", "b"]},
    {"categories": "x"},
    {"price": {"min": 10}},
    {"price": {"max": "$context.budget"}},
    {"attributes.stock": {"max": 0}},
    {"attributes.countries": "$context.country"},
    {"item_id": ["i1", "i2"]},
    {"group_id": "g", "brand": "b"},
]
WHEN = [None, None, {"country": "DE"}, {"country": ["DE", "AT"]}, {"page": "cart"}]


def item(draw: Random, item_id: str) -> Item:
    return Item(
        item_id=item_id,
        title="a thing",
        brand=draw.choice(["", *BRANDS]),
        categories=draw.choice([[], ["x"], ["x", "y"], ["z"]]),
        price=draw.choice([None, 5.0, 20.0]),
        group_id=draw.choice([None, "g", "h"]),
        attributes={"countries": draw.sample(COUNTRIES, draw.randint(0, 3)), "stock": draw.choice([0, 3, "0", 9])},
        available=draw.random() < 0.85,
    )


def rule(draw: Random) -> tuple[Any, ...]:
    effects: list[dict[str, Any]] = [
        {"exclude": True},
        {"boost": draw.choice([0.25, 0.5, 2, 3])},
        {"boost": draw.choice([0.25, 0.5, 2, 3])},
        {"pin": draw.randint(1, 4)},
        {"at_most": draw.randint(1, 2), "per": draw.choice(["brand", "category", "group_id", "attributes.countries"])},
        {"not_after_purchase_days": draw.randint(1, 5)},
    ]
    return draw.choice(effects), draw.choice(ABOUT), draw.choice([None, None, *ABOUT]), draw.choice(WHEN)


def context(draw: Random) -> dict[str, str]:
    drawn = {
        "country": draw.choice([None, *COUNTRIES]),
        "page": draw.choice([None, "cart", "home"]),
        "budget": draw.choice([None, "5", "19.5", "much"]),
    }
    return {key: value for key, value in drawn.items() if value is not None}


def toml(drawn: Sequence[tuple[Any, ...]]) -> str:
    """The file of these rules."""

    def value(given: Any) -> str:
        if isinstance(given, dict):
            return "{ " + ", ".join(f'"{key}" = {value(inner)}' for key, inner in given.items()) + " }"
        return msgspec.json.encode(given).decode()

    blocks = []
    for number, (done, of, spared, asked) in enumerate(drawn):
        table = {"name": f"r{number}", **done, "items": of, "unless": spared, "when": asked}
        blocks.append(
            "[[rule]]\n" + "".join(f"{key} = {value(one)}\n" for key, one in table.items() if one is not None)
        )
    return "\n".join(['filter_fields = ["brand", "price"]', *blocks])


class Plain:
    """The reference. It looks at items themselves, and at one thing at a time."""

    candidates: Sequence[str] = ()

    def __init__(self, drawn: Sequence[tuple[Any, ...]], known: Mapping[str, Item], asked: Asked) -> None:
        self.rules = [
            {"name": f"r{number}", **done, "items": of, "unless": spared}
            for number, (done, of, spared, asked_of) in enumerate(drawn)
            if self.applies(of, spared, asked_of, asked.context)
        ]
        self.known, self.asked = known, asked

    @staticmethod
    def applies(of: Any, spared: Any, asked_of: Any, context: Mapping[str, Any]) -> bool:
        needs = {key for key in ("budget", "country") if f"$context.{key}" in f"{of}{spared}"}
        if needs - context.keys():
            return False
        return all(
            context.get(key) in (value if isinstance(value, list) else [value])
            for key, value in (asked_of or {}).items()
        )

    def values(self, item_id: str, field: str) -> list[str]:
        item = self.known.get(item_id)
        if item is None:
            return [item_id] if field == "item_id" else []
        if field.startswith("attributes."):
            return list(texts(item.attributes.get(field.removeprefix("attributes."))))
        return list(texts(getattr(item, field)))

    def fulfils(self, item_id: str, wanted: Mapping[str, Any]) -> bool:
        for field, one_of in wanted.items():
            mine = self.values(item_id, field)
            if isinstance(one_of, dict):
                low, high = (self.number(one_of.get(key), other) for key, other in (("min", -1e9), ("max", 1e9)))
                if low is None or high is None or not any(low <= float(one) <= high for one in mine):
                    return False
            else:
                expected = []
                for one in one_of if isinstance(one_of, list) else [one_of]:
                    key = str(one).removeprefix("$context.")
                    expected.append(self.asked.context[key] if key != one else one)
                if not set(expected) & set(mine):
                    return False
        return True

    def number(self, given: Any, default: float) -> float | None:
        if isinstance(given, str):
            try:
                return float(self.asked.context[given.removeprefix("$context.")])
            except ValueError:
                return None
        return default if given is None else float(given)

    def about(self, item_id: str) -> list[dict[str, Any]]:
        return [
            rule
            for rule in self.rules
            if self.fulfils(item_id, rule["items"]) and not (rule["unless"] and self.fulfils(item_id, rule["unless"]))
        ]

    def may_be_in(self, item_id: str, filtered: Mapping[str, Any]) -> bool:
        for rule in self.about(item_id):
            if "exclude" in rule:
                return False
            if "not_after_purchase_days" in rule:
                mine = self.values(item_id, "group_id")
                for other, time_ms in self.asked.bought_ms.items():
                    same = other == item_id or set(mine) & set(self.values(other, "group_id"))
                    if same and time_ms > NOW - rule["not_after_purchase_days"] * DAY_MS:
                        return False
        return item_id not in self.asked.exclude and (not filtered or self.fulfils(item_id, filtered))

    def groups(self, item_id: str, per: str) -> list[str]:
        if per == "category":
            return self.values(item_id, "categories")[-1:]
        return self.values(item_id, per)

    def fits(self, item_id: str, shown: Sequence[str]) -> bool:
        """Whether no cap is exceeded if this item joins those that are shown."""
        for rule in self.about(item_id):
            for group in self.groups(item_id, rule["per"]) if "at_most" in rule else ():
                alike = [one for one in shown if rule in self.about(one) and group in self.groups(one, rule["per"])]
                if len(alike) >= rule["at_most"]:
                    return False
        return True

    def lists(self, ranked: Sequence[str], filtered: Mapping[str, Any], size: int) -> list[str]:
        """The list: pins first, then rank by rank."""
        order = [item_id for item_id in ranked if self.may_be_in(item_id, filtered)]
        factor = dict.fromkeys(order, 1.0)
        for item_id in order:
            for rule in self.about(item_id):
                factor[item_id] *= rule.get("boost", 1.0)
        place = {item_id: rank / factor[item_id] for rank, item_id in enumerate(order, 1)}
        order.sort(key=lambda item_id: place[item_id])
        pins: dict[int, str] = {}
        for rank, choices in self.pins(order, filtered):
            while rank in pins:
                rank += 1
            for item_id in choices if rank <= size else ():
                if item_id not in pins.values() and self.fits(item_id, [*pins.values()]):
                    pins[rank] = item_id
                    break
        shown = list(pins.values())
        rest = []
        for item_id in order:
            if item_id not in shown and len(shown) < size and self.fits(item_id, shown):
                rest.append(item_id)
                shown.append(item_id)
        out: list[str] = []
        while rest or len(out) + 1 in pins:
            out.append(pins.pop(len(out) + 1) if len(out) + 1 in pins else rest.pop(0))
        return out + [pins[rank] for rank in sorted(pins)]

    def pins(self, order: Sequence[str], filtered: Mapping[str, Any]) -> list[tuple[int, list[str]]]:
        wanted = list(self.asked.pin)
        for rule in self.rules:
            wanted += rule["items"].get("item_id", []) if "pin" in rule else []
        more = [
            item_id
            for item_id in dict.fromkeys(wanted)
            if item_id in self.known
            and item_id not in self.candidates
            and item_id not in self.asked.not_inserted
            and self.may_be_in(item_id, filtered)
        ]
        every = [*order, *more]
        asked = [(rank, [one for one in every if one == item_id]) for rank, item_id in enumerate(self.asked.pin, 1)]
        return asked + [
            (rule["pin"], [one for one in every if rule in self.about(one)]) for rule in self.rules if "pin" in rule
        ]


def judge(draw: Random) -> None:
    """Compare one list."""
    known = [item(draw, item_id) for item_id in draw.sample(IDS, draw.randint(0, 8))]
    drawn = [rule(draw) for _ in range(draw.randint(0, 5))]
    filtered: dict[str, Any] = draw.choice([{}, {}, {"brand": "a"}, {"price": {"max": 10}}])
    bought_ms = {item_id: NOW - draw.randint(0, 6) * DAY_MS for item_id in draw.sample(IDS, draw.randint(0, 2))}
    table = ItemTable(parse(toml(drawn), "rules.toml"))
    for one in known:
        table.put(one)
    available = {one.item_id: one for one in known if one.available}
    asked = Asked(
        context=context(draw),
        exclude=draw.sample(IDS, draw.choice([0, 0, 1, 2])),
        pin=draw.sample(IDS, draw.choice([0, 0, 1, 3])),
        filter=conditions(filtered, ("brand", "price"), with_references=False) if filtered else {},
        as_of_ms=NOW,
        bought_ms=bought_ms,
        not_inserted=set(bought_ms),
    )
    ranked = draw.sample(IDS, draw.randint(0, 8))
    categories = {item_id: one.categories for item_id, one in available.items()}
    offered = [Candidate(item_id=one, text=one, categories=categories.get(one, [])) for one in ranked]
    removed = removals(table, asked, offered)
    left = [one for index, one in enumerate(offered) if index not in removed]
    found = effects(table, asked, left)
    both = [*left, *(Candidate(item_id=one, text=one) for one in found.inserted)]
    size = draw.randint(1, 8)
    chosen, moved, _ = select(both, [-float(rank) for rank in range(len(both))], [], size, 100, effects=found)
    plain = Plain(drawn, available, asked)
    plain.candidates = [one.item_id for one in left]
    assert [both[one.position].item_id for one in chosen] == plain.lists(ranked, filtered, size)
    names = {f"r{number}" for number in range(len(drawn))} | {EXCLUDE, FILTER, PIN}
    assert {*removed.values(), *moved} <= names
    assert all(0 <= position < len(both) for positions in moved.values() for position in positions)


@settings(max_examples=40)
@given(st.integers(0, 2**32))
def test_a_list_is_as_the_plain_reference_says(seed: int) -> None:
    draw = Random(seed)
    for _ in range(25):
        judge(draw)

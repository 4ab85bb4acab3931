"""The file of rules: what is wrong with one is said by line, and a running process follows a right one alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from ranker.recall.candidates import BUILT_IN
from ranker.rules.effects import MAX_MOVED
from ranker.rules.item_table import SPARE, ItemTable
from ranker.rules.reading import RulesError, parse
from streams.contracts import Candidate, HistoryEvent, Item, RankRequest
from streams.rank.tier import RankTier
from streams.rules import live_rules, rule_metrics
from streams.rules.live_rules import LiveRules
from streams.settings import CandidatesSettings, RankerSettings, Settings
from streams.state.withheld_items import WithheldItems
from tests.unit.test_state_worker import World

NOW = 1_795_400_000_000
DAY_MS = 86_400_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x = [", "r.toml:1: got invalid TOML"),
        ("rules = 1", "r.toml:1: got 'rules', expected rule; rename it"),
        ('[[rule]]\nname = "a"', "r.toml:1: rule 'a': got no effect, expected one of exclude, boost"),
        ('[[rule]]\nname = "a"\nboost = 0', "r.toml:3: rule 'a': got boost = 0, expected a number above 0"),
        ('[[rule]]\nname = "a"\npin = true\nitems = { brand = "b" }', "r.toml:3: rule 'a': got pin = True, expected a"),
        ('[[rule]]\nname = "a"\nexclude = true', "r.toml:3: rule 'a': got a rule about all items"),
        ('[[rule]]\nname = "a"\nat_most = 1', "r.toml:3: rule 'a': got one of at_most and per, expected both"),
        ('[[rule]]\nname = "a"\nat_most = 1\nper = "price"', "r.toml:4: rule 'a': got per = 'price', expected brand"),
        ("[[rule]]\nboost = 2", "r.toml:1: a rule without a name: got name = None, expected a text"),
        (
            '[[rule]]\nname = "a"\nboost = 2\n\n[[rule]]\nname = "a"\nboost = 3',
            "r.toml:6: rule 'a': got the name of an",
        ),
        ('[[rule]]\nname = "a"\nbost = 2', "r.toml:3: rule 'a': got 'bost', expected boost; rename it"),
        (
            '[[rule]]\nname = "a"\nboost = 2\nitems = { brnd = "x" }',
            "r.toml:4: rule 'a': items: got the field 'brnd', expected brand",
        ),
        (
            '[[rule]]\nname = "a"\nboost = 2\n[rule.items]\nprice = { over = 3 }',
            "r.toml:4: rule 'a': items: price: got {'over': 3}, expected numbers for min, max or both",
        ),
        (
            '[[rule]]\nname = "a"\nboost = 2\nwhen = { page = "$context.page" }',
            "r.toml:4: rule 'a': when: page: got '$context.page', expected a value",
        ),
        ('filter_fields = ["colour"]', "r.toml:1: filter_fields: got 'colour', expected names of item_id"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_line(text: str, expected: str) -> None:
    with pytest.raises(RulesError) as raised:
        parse(text, "r.toml")
    assert str(raised.value).startswith(expected)
    if "no effect" not in expected:
        assert len(str(raised.value).splitlines()) <= 2


def item(number: int, **more: Any) -> Item:
    return Item(item_id=f"i{number}", title=f"thing {number}", **more)


def tier_with(rules: str, items: Sequence[Item]) -> RankTier:
    tier = RankTier(Settings(ranker=RankerSettings(list_size=5)), None)
    tier.rules.table = ItemTable(parse(rules, "r.toml"))
    for each in items:
        tier.rules.table.put(each)
    return tier


def request(*numbers: int, **more: Any) -> RankRequest:
    candidates = [
        Candidate(item_id=f"i{number}", text="", retrieval_score=-float(rank)) for rank, number in enumerate(numbers)
    ]
    return RankRequest(
        **{"request_id": "r", "user_id": "ann", "as_of": NOW, "history": [], "candidates": candidates, **more}
    )


def ids(tier: RankTier, asked: RankRequest) -> list[str]:
    return [shown.item_id for shown in tier.rank([asked], NOW)[0].items]


def test_a_variant_is_not_shown_soon_after_a_purchase() -> None:
    """Of the product that the user bought within the history, or longer ago than it goes back."""
    rule = '[[rule]]\nname = "soon"\nnot_after_purchase_days = 30'
    tier = tier_with(rule, [item(number, group_id="shoe" if number in (1, 2) else None) for number in range(4)])
    bought = HistoryEvent(item_id="i1", type="purchase", timestamp=NOW - 20 * DAY_MS, title="a shoe")
    asked = request(0, 1, 2, 3, history=[bought])
    assert ids(tier, asked) == ["i0", "i3"]
    earlier = [msgspec.structs.replace(one, bought_at=NOW - 40 * DAY_MS) for one in asked.candidates]
    assert ids(tier, request(0, 1, 2, 3, candidates=earlier)) == ["i0", "i1", "i2", "i3"]
    lately = [msgspec.structs.replace(one, bought_at=NOW - 29 * DAY_MS) for one in asked.candidates[:1]]
    assert ids(tier, request(0, 1, 2, 3, candidates=lately + asked.candidates[1:])) == ["i1", "i2", "i3"]


def test_a_filter_whose_fields_the_file_names_no_more_lets_nothing_in() -> None:
    tier = tier_with('filter_fields = ["brand"]', [item(number, brand="ab"[number % 2]) for number in range(4)])
    asked = request(0, 1, 2, 3, filter={"brand": "a"})
    tier.rules.check(asked)
    assert ids(tier, asked) == ["i0", "i2"]
    tier.rules.keep(ItemTable(parse("", "r.toml")))
    assert ids(tier, asked) == []
    assert ids(tier, request(0, 1, filter={"brand": {}})) == []


def test_what_the_rules_have_not_read_is_in_no_list_of_the_state_tier() -> None:
    tier = tier_with('[[rule]]\nname = "a"\nboost = 2\nitems = { brand = "x" }', [item(0), item(1)])
    recalled = [msgspec.structs.replace(one, sources=["nearest"]) for one in request(2, 1, 0).candidates]
    assert ids(tier, request(candidates=recalled, state_version=1)) == ["i1", "i0"]
    assert ids(tier, request(2, 1, 0)) == ["i2", "i1", "i0"], "another recommender may know more items than we do"


def test_a_list_says_what_moved_it_and_a_list_without_rules_says_nothing() -> None:
    rules = '[[rule]]\nname = "out"\nexclude = true\nitems = { brand = "x" }\nwhen = { page = "cart" }'
    tier = tier_with(rules, [item(number, brand="x" if number < 2 else "") for number in range(4)])
    before = _moved("out")
    [list_] = tier.rank([request(0, 2, 1, context={"page": "cart"})], NOW)
    assert list_.rules == {"out": ["i0", "i1"]}
    assert _moved("out") == before + 2
    assert b'"rules"' not in msgspec.json.encode(tier.rank([request(0, 2, 1)], NOW)[0])


COUNTRY = '[[rule]]\nname = "sold"\nexclude = true\nunless = { "attributes.in" = "$context.country" }'


def test_recall_finds_others_in_place_of_what_rules_exclude_and_a_state_remembers_the_context() -> None:
    items = [item(number, attributes={"in": "AT" if number % 4 else "DE"}) for number in range(40)]
    small = Settings(candidates=CandidatesSettings(limit=5), ranker=RankerSettings(list_size=5))
    shop = World(BUILT_IN, items=[one.item_id for one in items], settings=small)
    table = ItemTable(parse(COUNTRY, "r.toml"))
    for one in items:
        table.put(one)
    shop.tier.requests.keep_rules(table)
    click = {"event_id": "e", "user_id": "ann", "item_id": "i1", "timestamp": NOW, "context": {"country": "DE"}}
    asyncio.run(shop.work([shop.event("clicks", "ann", msgspec.json.encode(click), written_ms=NOW)]))
    shop.tier.users.drop_cache()  # as a restart does
    later = shop.tier.request("ann", None, None, context={"device": "phone"})
    assert later.context == {"country": "DE", "device": "phone"}
    allowed = [one.item_id for one in later.candidates if int(one.item_id[1:]) % 4 == 0]
    assert len(allowed) == 5
    assert 0 < len(later.candidates) - len(allowed) <= MAX_MOVED, "and some that the list names"
    ranking = RankTier(small, None)
    ranking.rules.keep(table)
    [list_] = ranking.rank([later], NOW)
    assert {shown.item_id for shown in list_.items} == set(allowed)
    assert list_.rules is not msgspec.UNSET
    assert set(list_.rules) == {"sold"}


def test_recall_finds_no_item_that_is_withheld() -> None:
    shop = World(BUILT_IN, items=["a", "b", "c"])
    withheld = WithheldItems(shop.tier.catalogue)

    async def change(excluded: set[str], released: set[str]) -> set[str]:
        task = asyncio.create_task(withheld.run())
        withheld.change(ItemTable(parse("", "r.toml")), excluded, released)
        for _ in range(5):
            await asyncio.sleep(0)
        task.cancel()
        return {one.item_id for one in shop.tier.request("ann", None, None).candidates}

    async def changes() -> list[set[str]]:
        return [await change({"a", "d"}, set()), await change(set(), {"a"})]

    assert asyncio.run(changes()) == [{"b", "c"}, {"a", "b", "c"}]
    shop.tier.put_item(Item(item_id="d", title="d"), np.eye(8, dtype=np.float32)[0], NOW)
    assert "d" not in {one.item_id for one in shop.tier.request("ann", None, None).candidates}


def test_the_facts_of_changed_items_do_not_pile_up() -> None:
    table = ItemTable(parse('filter_fields = ["price"]', "r.toml"))
    for price in range(5_000):
        table.put(item(0, price=float(price)))
    assert len(table._shared) <= 2 + SPARE
    assert table.value(table.facts("i0", ()), "price") == ("4999",)


def _moved(rule: str) -> float:
    return float(rule_metrics.moved.labels(rule)._value.get())


class _Follower:
    """Reads a fixed topic; `items` is what it holds."""

    items: Sequence[Item] = ()

    def __init__(self, _: object, handlers: Mapping[str, Any]) -> None:
        self.caught_up = asyncio.Event()
        [self._put] = handlers.values()

    async def run(self) -> None:
        await self._put(list(self.items))
        self.caught_up.set()
        await asyncio.Event().wait()


async def until(happened: Callable[[], object]) -> None:
    for _ in range(1_000):
        await asyncio.sleep(0.01)
        if happened():
            return
    raise TimeoutError


def test_a_process_follows_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong file changes nothing, and a right one tells what it excludes from all lists, and what it does not."""

    async def items_of(records: Sequence[Item], _: object) -> tuple[dict[str, tuple[Item, int]], None]:
        return {one.item_id: (one, NOW) for one in records}, None

    monkeypatch.setattr(live_rules, "Follower", _Follower)
    monkeypatch.setattr(live_rules, "items_of", items_of)
    monkeypatch.setattr(live_rules, "CHECK_EVERY_S", 0.01)
    monkeypatch.setattr(_Follower, "items", [item(number, brand="ab"[number % 2]) for number in range(4)])
    file = tmp_path / "rules.toml"
    rule = '[[rule]]\nname = "{0}"\nexclude = true\nitems = {{ brand = "{1}" }}'
    file.write_text(rule.format("one", "a"), encoding="utf-8")
    changes: list[tuple[Set[str], Set[str]]] = []

    async def follow() -> None:
        rules = LiveRules(Settings(rules=file))
        rules.on_change.append(lambda _, newly, released: changes.append((newly, released)))
        task = asyncio.create_task(rules.run())
        await asyncio.wait_for(rules.caught_up.wait(), 10)
        file.write_text("[[rule]]", encoding="utf-8")
        await until(rule_metrics.refused._value.get)
        assert [each.name for each in rules.table.rules.rules] == ["one"]
        file.write_text(rule.format("two", "b"), encoding="utf-8")
        await until(lambda: len(changes) == 2)
        assert not rule_metrics.refused._value.get()
        task.cancel()

    asyncio.run(follow())
    assert changes == [({"i0", "i2"}, set()), ({"i1", "i3"}, {"i0", "i2"})]
    with pytest.raises(RulesError, match="got a file that cannot be read"):
        LiveRules(Settings(rules=tmp_path / "none.toml"))

"""Rules on exposure, from the file to the list: beside other effects, on pages, for new items, and what is counted."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import log2

import msgspec
import pytest

from ranker.rules.item_table import ItemTable
from ranker.rules.reading import RulesError, parse
from streams.commands import rules_report
from streams.contracts import Item, RankRequest
from streams.rank.tier import RankTier
from streams.rules import rule_metrics
from streams.serve.pages import part_of
from streams.settings import RankerSettings, Settings
from tests.unit.test_rules import DAY_MS, NOW, ids, item, request

SMALL = '[[rule]]\nname = "small sellers"\nexposure = { min = 0.3 }\nitems = { provider = "small" }\n'
BALANCED = '[[rule]]\nname = "balanced"\nexposure = { max = 0.5 }\nper = "provider"\n'
FRESH = '[[rule]]\nname = "fresh"\nexposure = { min = 0.1 }\nitems = { age_days = { max = 14 } }\n'


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("exposure = 0.3", "r.toml:3: rule 'a': got exposure = 0.3, expected shares such as"),
        ("exposure = { min = 0.5, max = 0.4 }", "r.toml:3: rule 'a': got exposure = {'min': 0.5, 'max': 0.4}"),
        ("exposure = { least = 0.5 }", "r.toml:3: rule 'a': got exposure = {'least': 0.5}"),
        ("exposure = { min = 0.5 }", "r.toml:3: rule 'a': got a rule about all items, expected `items`, `unless` or"),
        ('exposure = { min = 0.2 }\nper = "provider"', "r.toml:3: rule 'a': got exposure = {'min': 0.2} with per"),
        ('exposure = { max = 0.1 }\nper = "provider"', "r.toml:3: rule 'a': got exposure = {'max': 0.1} with per"),
        ('boost = 2\nper = "provider"', "r.toml:4: rule 'a': got per, expected it with at_most or exposure"),
        ("boost = 2\nitems = { age_days = 3 }", "r.toml:4: rule 'a': items: age_days: got 3, expected days such as"),
    ],
)
def test_wrong_bounds_are_said_with_file_and_line(lines: str, expected: str) -> None:
    with pytest.raises(RulesError) as raised:
        parse(f'[[rule]]\nname = "a"\n{lines}', "r.toml")
    assert str(raised.value).startswith(expected)


def of_two_sellers(count: int = 40) -> list[Item]:
    """Every third item from the tenth on is a small seller's; the newest are the last."""
    return [
        item(
            number,
            provider="small" if number >= 10 and number % 3 == 1 else "big",
            timestamp=NOW - (count - number) * DAY_MS,
            group_id=f"g{number // 2}",
            brand="Acme" if number == 31 else None,
        )
        for number in range(count)
    ]


def tier_of(rules: str, items: Sequence[Item], size: int = 20) -> RankTier:
    tier = RankTier(Settings(ranker=RankerSettings(list_size=size)), None)
    table = ItemTable(parse(rules, "r.toml"))
    rule_metrics.begin(table, tier.rules.table)
    for each in items:
        table.put(each)
    tier.rules.keep(table)
    return tier


def ask(count: int = 40) -> RankRequest:
    return request(*range(count))


def share(shown: Sequence[str], of: Sequence[str]) -> float:
    discounts = [1 / log2(rank + 1) for rank in range(1, len(shown) + 1)]
    return sum(one for item_id, one in zip(shown, discounts, strict=True) if item_id in of) / sum(discounts)


def small(items: Sequence[Item]) -> list[str]:
    return [one.item_id for one in items if one.provider == "small"]


def counted(rule: str, outcome: str) -> float:
    return float(rule_metrics.exposure.labels(rule, outcome)._value.get())


def test_a_group_gets_its_share_on_every_page_and_the_list_says_who_moved() -> None:
    items = of_two_sellers()
    tier = tier_of(SMALL, items)
    before = counted("small sellers", "reached")
    [list_] = tier.rank([ask()], NOW)
    shown = [one.item_id for one in list_.items]
    first = part_of(msgspec.json.encode(list_), 10, 0, "")
    second = part_of(msgspec.json.encode(list_), 10, 0, first.seen)
    pages = [[one["item_id"] for one in msgspec.json.decode(part.content)["items"]] for part in (first, second)]
    assert pages[0] + pages[1] == shown
    assert share(pages[0], small(items)) >= 0.3
    assert share(shown, small(items)) >= 0.3
    assert isinstance(list_.rules, dict)
    assert set(list_.rules["small sellers"]) == set(shown) & set(small(items))
    assert counted("small sellers", "reached") == before + 1
    moves = rules_report.moves(msgspec.json.decode(msgspec.json.encode(list_), type=rules_report.RuledList))
    assert {move.rank for move in moves} == {shown.index(one) + 1 for one in small(items) if one in shown}
    of_big = [int(one[1:]) for one in shown if one not in small(items)]
    assert all(a < b for a, b in pairwise(of_big)), "the others keep their order"


def test_no_provider_has_more_than_its_share() -> None:
    items = of_two_sellers()
    shown = ids(tier_of(BALANCED, items, 10), ask())
    assert share(shown, small(items)) == pytest.approx(0.5, abs=0.05)
    assert shown[0] == "i0"


def test_new_items_get_theirs_and_age_is_of_the_time_of_the_request() -> None:
    items = of_two_sellers()
    tier = tier_of(FRESH, items, 10)
    new = [f"i{number}" for number in range(26, 40)]
    assert share(ids(tier, ask()), new) >= 0.1
    later = request(*range(40), as_of=NOW + 10 * DAY_MS)
    assert share(ids(tier, later), [f"i{number}" for number in range(36, 40)]) >= 0.1
    undated = tier_of(FRESH, [item(number) for number in range(40)], 10)
    before = counted("fresh", "missed")
    assert ids(undated, ask()) == [f"i{number}" for number in range(10)], "no item is known to be new"
    assert counted("fresh", "missed") == before + 1


def test_an_age_is_a_condition_of_every_rule() -> None:
    """Of the time of the request, so such a rule excludes an item from today's lists alone."""
    old = (
        '[[rule]]\nname = "old"\nexclude = true\nitems = { age_days = { min = 30 } }\nunless = { provider = "small" }\n'
    )
    tier = tier_of(old, of_two_sellers(), 5)
    assert ids(tier, request(9, 10, 11, 12)) == ["i10", "i11", "i12"]
    assert ids(tier, request(9, 10, 11, 12, as_of=NOW + 5 * DAY_MS)) == ["i10"]
    assert not tier.rules.table.excluded
    assert ids(tier_of(SMALL + 'when = { age_days = "9" }\n', of_two_sellers(), 2), ask()) == ["i0", "i1"], "of users"


def test_it_keeps_to_what_stricter_rules_say() -> None:
    items = of_two_sellers()
    others = """
[[rule]]
name = "launch"
pin = 1
items = { item_id = "i39" }
[[rule]]
name = "one variant"
at_most = 1
per = "group_id"
[[rule]]
name = "never"
exclude = true
items = { item_id = "i10" }
[[rule]]
name = "own"
boost = 6
items = { brand = "Acme" }
"""
    shown = ids(tier_of(SMALL + others, items, 10), ask())
    assert shown[0] == "i39"
    assert "i10" not in shown
    assert len({int(one[1:]) // 2 for one in shown}) == 10
    assert share(shown, small(items)) >= 0.3
    assert shown.index("i31") == min(shown.index(one) for one in small(items) if one in shown), (
        "the boosted one is best"
    )


def test_a_rule_for_a_context_and_a_rule_that_nothing_breaks_change_nothing() -> None:
    items = of_two_sellers()
    tier = tier_of(SMALL + 'when = { page = "cart" }\n', items, 10)
    assert ids(tier, ask()) == [f"i{number}" for number in range(10)]
    assert share(ids(tier, request(*range(40), context={"page": "cart"})), small(items)) >= 0.3
    loose = tier_of(SMALL.replace("min = 0.3", "max = 0.3"), items, 10)
    before = counted("small sellers", "within")
    [list_] = loose.rank([ask()], NOW)
    assert list_.rules is msgspec.UNSET
    assert counted("small sellers", "within") == before + 1


def test_the_rules_are_told_in_words() -> None:
    rules = parse(SMALL + BALANCED + FRESH, "r.toml")
    assert [rule.effect for rule in rules.rules] == [
        "at least 30% of the exposure",
        "at most 50% of the exposure per provider",
        "at least 10% of the exposure",
    ]
    assert rules_report.as_object(rules.rules[2])["items"] == "age_days <= 14"

"""Measure what rules cost: a list with them beside the same list without, and an item that they have to know.

The lists are made without a model, so that nothing else varies. Knows no Kafka.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from ranker.progress import StageProgress
from ranker.rules.item_table import ItemTable
from ranker.rules.reading import parse
from ranker.rules.rule import RuleSet
from streams.bench.measurement import Measurement
from streams.bench.timing import seconds
from streams.contracts import Candidate, Item, RankRequest
from streams.rank.tier import RankTier
from streams.settings import Settings
from streams.terminal.progress_bar import track

ITEMS, CANDIDATES, REQUESTS, ROUNDS, SEED = 50_000, 100, 200, 7, 7
NOW_MS = 1_795_400_000_000
OF_ITEMS = """
[[rule]]
name = "boost"
boost = 1.5
items = { brand = "b1" }

[[rule]]
name = "stock"
exclude = true
items = { "attributes.stock" = { max = 0 } }

[[rule]]
name = "bury"
boost = 0.5
items = { price = { max = 3 } }

[[rule]]
name = "variants"
at_most = 1
per = "group_id"

[[rule]]
name = "purchases"
not_after_purchase_days = 30
"""
OF_CONTEXT = """
[[rule]]
name = "country"
exclude = true
unless = { "attributes.countries" = "$context.country" }

[[rule]]
name = "budget"
exclude = true
items = { price = { min = "$context.budget" } }

[[rule]]
name = "launch"
pin = 1
items = { item_id = ["i7", "i8"] }
when = { page = "home" }

[[rule]]
name = "adult"
exclude = true
items = { categories = "c9" }
when = { country = "DE" }

[[rule]]
name = "brands"
at_most = 3
per = "brand"
"""
OF_EXPOSURE = """
[[rule]]
name = "exposure"
exposure = { min = 0.3 }
items = { brand = ["b2", "b3", "b4", "b5", "b6"] }
"""


def measure(stage: StageProgress) -> list[Measurement]:
    """Time lists, in turns, and the items as rules take them in."""
    random = Random(SEED)
    items = [_item(random, number) for number in range(ITEMS)]
    tables = {
        "five rules on items": OF_ITEMS,
        "ten rules, five of them with a context": OF_ITEMS + OF_CONTEXT,
        "five rules, and one on exposure that moves items": OF_ITEMS + OF_EXPOSURE,
    }
    filled = {name: ItemTable(parse(text, name)) for name, text in tables.items()}
    put_us = [seconds(_put, table, items) / ITEMS * 1e6 for table in filled.values()]
    tier, off = RankTier(Settings(), None), ItemTable(RuleSet())
    rounds: dict[str, list[float]] = {name: [] for name in filled}
    peers: dict[str, list[float]] = {name: [] for name in filled}
    for _ in track(range(ROUNDS), "Lists", stage):
        requests = [_request(random, items) for _ in range(REQUESTS)]
        for name, table in filled.items():
            for used, figures in ((off, peers[name]), (table, rounds[name])):
                tier.rules.table = used
                figures.append(seconds(tier.rank_without_model, requests, "overload", NOW_MS) / REQUESTS * 1e6)
    lists = [
        Measurement(f"list with {name}, {CANDIDATES} candidates", "µs", rounds[name], "without rules", peers[name])
        for name in filled
    ]
    return [*lists, Measurement("an item of the catalogue, as rules take it in", "µs", put_us)]


def _put(table: ItemTable, items: Sequence[Item]) -> None:
    for item in items:
        table.put(item)


def _item(random: Random, number: int) -> Item:
    attributes = {"stock": number % 9, "countries": random.sample(["DE", "AT", "FR", "CH"], 3)}
    return Item(
        item_id=f"i{number}",
        title=f"thing {number}",
        brand=f"b{random.randrange(50)}",
        price=50 * random.random(),
        categories=["all", f"c{number % 40}"],
        group_id=f"g{number // 3}",
        attributes=attributes,
    )


def _request(random: Random, items: Sequence[Item]) -> RankRequest:
    candidates = [
        Candidate(item_id=item.item_id, text="", retrieval_score=random.random(), categories=item.categories)
        for item in random.sample(items, CANDIDATES)
    ]
    context = {"country": "DE", "page": "home", "budget": "40"}
    return RankRequest(request_id="r", user_id="u", as_of=NOW_MS, history=[], candidates=candidates, context=context)

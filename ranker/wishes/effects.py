"""What the clauses of wishes do to candidates: which a list may not have, and which get another rank.

Pure. Knows neither users nor requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Protocol

from ranker.wishes.grammar import EFFECTS, HARD, Clause, Effect
from ranker.wishes.words import has_any

FACTORS: dict[Effect, float] = {"more": 3.0, "less": 1 / 3, "cheaper": 3.0, "dearer": 3.0}
"""By what the rank of an item is divided that a soft clause is about; chosen by us: 30 becomes 10, 10 becomes 30."""
RULES: dict[Effect, str] = {effect: f"wish.{effect}" for effect in EFFECTS}
"""The names under which lists and metrics count what wishes do, as they count rules."""


class WishedItem(Protocol):
    """The fields of an item that wishes read. `text` is its description, see `encoders.describe`."""

    @property
    def text(self) -> str: ...
    @property
    def price(self) -> float | None: ...
    @property
    def currency(self) -> str | None: ...


def keeps_out(clause: Clause, item: WishedItem) -> bool:
    """Return whether a list may not have an item because of a clause.

    A bound keeps items out that have no price, or a price in another currency than the bound names.
    """
    if clause.effect == "exclude":
        return has_any(item.text, clause.any_of)
    if clause.effect == "only":
        return not has_any(item.text, clause.any_of)
    if clause.price is None:
        return False
    if item.price is None or (clause.currency and item.currency and clause.currency != item.currency):
        return True
    return item.price > clause.price if clause.effect == "max-price" else item.price < clause.price


def at_work(clauses: Sequence[Clause], items: Sequence[WishedItem]) -> list[list[int]]:
    """Return which clauses do something to each item, by their indices.

    Those are the hard ones that keep the item out of a list; if there is none, the soft ones that change its rank.
    "Cheaper" is about the items below the median price of those that may be in the list, "dearer" about those above it.

    Parameters
    ----------
    clauses : sequence of Clause
    items : sequence of WishedItem
        The candidates.
    """
    hard = [index for index, clause in enumerate(clauses) if clause.effect in HARD]
    soft = [index for index, clause in enumerate(clauses) if clause.effect not in HARD]
    found = [[index for index in hard if keeps_out(clauses[index], item)] for item in items]
    if not soft:
        return found
    left = [index for index, kept_out in enumerate(found) if not kept_out]
    prices = [price for index in left if (price := items[index].price) is not None]
    middle = median(prices) if prices else 0.0
    for index in left:
        found[index] = [one for one in soft if _is_about(clauses[one], items[index], middle)]
    return found


def _is_about(clause: Clause, item: WishedItem, middle: float) -> bool:
    """Whether a soft clause changes the rank of an item."""
    if clause.any_of:
        return has_any(item.text, clause.any_of)
    if item.price is None:
        return False
    return item.price < middle if clause.effect == "cheaper" else item.price > middle

"""The shop's side of the page: search the catalogue by words and by category.

A plain search for people who look at a demo or at their own catalogue: every word has to begin a word of the title, the
brand or a category. Knows no HTTP.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import islice

import msgspec

from ranker.recall.catalogue import Catalogue, CatalogueItem

CATEGORIES = 12
MAX_ITEMS = 200
SCANNED = 50_000
"""Items that one search reads; chosen by us: about 0.1 s. In a larger catalogue a search finds what is among these."""
_WORD = re.compile(r"\w+")


class ShownItem(msgspec.Struct, frozen=True):
    """An item as the page shows it. `title` is None where the catalogue does not have the item."""

    item_id: str
    title: str | None
    categories: Sequence[str] = ()
    brand: str = ""
    price: float | None = None
    currency: str | None = None

    @classmethod
    def of(cls, item: CatalogueItem) -> ShownItem:
        """An item of the catalogue."""
        return cls(item.item_id, item.title, item.categories, item.brand, item.price, item.currency)


class FoundCategory(msgspec.Struct, frozen=True):
    """A top category, and how many of the found items it has."""

    name: str
    count: int


class SearchResult(msgspec.Struct, frozen=True):
    """What a search found.

    `total` counts the found items of the category, `catalogue` all items.
    """

    items: list[ShownItem]
    total: int
    categories: list[FoundCategory]
    catalogue: int


def search(catalogue: Catalogue, words: str, category: str, limit: int) -> SearchResult:
    """Search the available items.

    Parameters
    ----------
    catalogue : Catalogue
    words : str
        Each has to begin a word of the item; empty for all items.
    category : str
        A top category; empty for all.
    limit : int
        Items to return; at most `MAX_ITEMS`.

    Returns
    -------
    SearchResult
        The categories are those of all items that have the words, so that another can be chosen.
    """
    wanted = _words(words)
    counts: Counter[str] = Counter()
    found: list[CatalogueItem] = []
    for item in islice(catalogue, SCANNED):
        if not item.available or not _matches(item, wanted):
            continue
        top = item.categories[0] if item.categories else ""
        counts[top] += 1
        if category in ("", top):
            found.append(item)
    if not category:
        found = _spread(found)
    categories = [FoundCategory(name, count) for name, count in counts.most_common() if name][:CATEGORIES]
    shown = [ShownItem.of(item) for item in found[: max(0, min(limit, MAX_ITEMS))]]
    return SearchResult(shown, len(found), sorted(categories, key=lambda one: one.name), len(catalogue))


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _matches(item: CatalogueItem, wanted: Sequence[str]) -> bool:
    """Whether each wanted text begins a word: stands after a blank or a hyphen."""
    if not wanted:
        return True
    text = f" {item.title} {item.brand} {' '.join(item.categories)}".lower().replace("-", " ")
    return all(f" {part}" in text for part in wanted)


def _spread(items: Sequence[CatalogueItem]) -> list[CatalogueItem]:
    """Order the items so that neighbours are of different categories: the first of each leaf, then the second."""
    seen: Counter[str] = Counter()
    rounds = []
    for item in items:
        leaf = item.categories[-1] if item.categories else ""
        rounds.append((seen[leaf], item))
        seen[leaf] += 1
    return [item for _, item in sorted(rounds, key=lambda pair: pair[0])]

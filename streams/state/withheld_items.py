"""Items that a rule excludes from every list: recall does not find them, so that they take no candidate's place."""

from __future__ import annotations

import asyncio
from collections.abc import Set
from itertools import islice

from encoders.events.entries import item_key
from ranker.recall.catalogue import Catalogue
from ranker.rules.item_table import ItemTable

ITEMS_PER_TURN = 16
"""Items that change before events get a turn: a few milliseconds if the catalogue is large."""


class WithheldItems:
    """Withholds items from recall, and lets them return.

    Parameters
    ----------
    catalogue : Catalogue
        The items. One that is put there while it is withheld is not found either.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._changed: dict[int, None] = {}
        self._awake = asyncio.Event()

    def change(self, _: ItemTable, excluded: Set[str], released: Set[str]) -> None:
        """Withhold items, and let others return; those that are in the catalogue within the next moments."""
        withheld = set(map(item_key, excluded))
        returned = set(map(item_key, released))
        self._catalogue.withheld |= withheld
        self._catalogue.withheld -= returned
        self._changed |= dict.fromkeys(withheld | returned)
        self._awake.set()

    async def run(self) -> None:
        """Change the items that are in the catalogue, for ever."""
        while True:
            await self._awake.wait()
            self._awake.clear()
            while self._changed:
                for key in list(islice(self._changed, ITEMS_PER_TURN)):
                    del self._changed[key]
                    item, vector = self._catalogue.get(key), self._catalogue.vector(key)
                    if item is not None and vector is not None:
                        self._catalogue.put(item, vector)
                await asyncio.sleep(0)

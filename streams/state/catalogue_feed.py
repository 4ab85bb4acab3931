"""Feed the catalogue from the topic `items`, which every worker reads whole, whatever its partitions of users are."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor

from encoders.events.entries import item_key
from encoders.interest import Vector
from encoders.text.vector_store import Encoder
from ranker.recall.catalogue import CatalogueItem
from streams import metrics
from streams.contracts import Item
from streams.kafka.compacted_reader import Records, items_of
from streams.kafka.record_reader import RecordReader
from streams.kafka.reject import summary
from streams.state.catalogue_metrics import catalogue_records, catalogue_vectors
from streams.state.known_items import KnownItems
from streams.state.tier import StateTier

IGNORED = "items bring the vectors {}, which are dropped: AFTERCLICK_CANDIDATES__SPACES does not name them"
ITEMS_PER_TURN = 16
"""Items that enter the catalogue before events get a turn: a few milliseconds if the catalogue is large."""


class CatalogueFeed:
    """Puts items into the tier's catalogue.

    Parameters
    ----------
    tier : StateTier
        Holds the catalogue.
    encoder : Encoder
        Computes the vectors of the items' texts.
    model_thread : Executor
        The thread that waits for the encoder.
    reader : RecordReader
        Decodes the items.
    refresh : callable
        Gets the ids of users whose states an item has changed.

    Attributes
    ----------
    known_items : KnownItems
        The items that a tombstone deletes.
    newest_ms : int
        When the newest record that was read was written.
    """

    def __init__(
        self,
        tier: StateTier,
        encoder: Encoder,
        model_thread: Executor,
        reader: RecordReader,
        refresh: Callable[[Sequence[str]], None],
    ) -> None:
        self.known_items = KnownItems(tier.catalogue)
        self.newest_ms = 0
        self._tier = tier
        self._encoder = encoder
        self._model_thread = model_thread
        self._reader = reader
        self._refresh = refresh
        for name in tier.catalogue.embedding_names:
            catalogue_vectors.labels(name)
        self._rejected = Counter[str]()  # of all partitions, by cause

    async def put(self, records: Records) -> None:
        """Take a batch of the topic into the catalogue. The encoder runs outside the event loop.

        An item that is sent again unchanged costs nothing, and only another text needs another vector.
        """
        items, rejected = await items_of(records, self._reader)
        self._rejected.update(rejected)
        self.newest_ms = max([self.newest_ms, *(written_ms for _, written_ms in items.values())])
        for item_id, (item, _) in items.items():
            if item is None:
                self.known_items.deleted(item_id)
                self._count_vectors(self._tier.catalogue.get(item_key(item_id)), -1)
                catalogue_records.labels("deleted").inc(item_key(item_id) in self._tier.catalogue)
                self._tier.delete_item(item_id)
        changed, refreshed = self._changed(items), list[str]()
        try:
            for number, (dated, vector) in enumerate(await self._with_vectors(changed), 1):
                self._count_vectors(self._tier.catalogue.get(item_key(dated.item_id)), -1)
                self._count_vectors(dated, 1)
                refreshed += self._tier.put_dated(dated, vector)
                if number % ITEMS_PER_TURN == 0:
                    await asyncio.sleep(0)
        finally:
            if changed:
                self._refresh(refreshed)  # last, as their lists may be of all these items
        metrics.catalogue_items.set(len(self._tier.catalogue))

    @staticmethod
    def _count_vectors(item: CatalogueItem | None, change: int) -> None:
        for name, _ in item.embeddings if item else ():
            catalogue_vectors.labels(name).inc(change)

    def _changed(self, items: Mapping[str, tuple[Item | None, int]]) -> list[CatalogueItem]:
        """The items that the catalogue does not have, or has otherwise."""
        changed = []
        for item, written_ms in items.values():
            if item is None:
                continue
            dated, present = self._tier.dates.dated(item, written_ms), self._tier.catalogue.get(item_key(item.item_id))
            catalogue_records.labels("unchanged" if dated == present else "changed" if present else "new").inc()
            if dated != present:
                changed.append(dated)
        return changed

    async def _with_vectors(self, items: Sequence[CatalogueItem]) -> list[tuple[CatalogueItem, Vector]]:
        """The vectors of the items' texts: those of the catalogue where a text is the same, otherwise the encoder's."""
        catalogue = self._tier.catalogue
        present = {item.item_id: catalogue.get(item_key(item.item_id)) for item in items}
        texts = [item.text for item in items if (old := present[item.item_id]) is None or old.text != item.text]
        vectors: dict[str, Vector] = {}
        if texts:
            started = time.monotonic()
            loop = asyncio.get_running_loop()
            encoded = await loop.run_in_executor(self._model_thread, self._encoder.encode, texts)
            vectors = dict(zip(texts, encoded, strict=True))
            metrics.encode_seconds.observe(time.monotonic() - started)
        of_items = [vectors.get(item.text, catalogue.vector(item_key(item.item_id))) for item in items]
        return [(item, vector) for item, vector in zip(items, of_items, strict=True) if vector is not None]

    def notes(self) -> list[str]:
        """Tell an operator what is wrong with the catalogue. Any thread may call this.

        While it is empty every list is empty. A vector that no setting names has no effect.
        """
        rejected = Counter(dict.copy(self._rejected))
        if len(self._tier.catalogue):
            names = ", ".join(sorted(self._reader.embeddings.ignored.copy()))
            return [f"state: {IGNORED.format(names)}"] if names else []
        why = f"; {rejected.total():,} messages of items were rejected: {summary(rejected)}" if rejected else ""
        return [f"state: the catalogue is empty{why}"]

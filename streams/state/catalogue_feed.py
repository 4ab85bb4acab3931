"""Feed the catalogue from the topic `items`, which every worker reads whole, whatever its partitions of users are."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Executor

from encoders.describe import describe_item
from encoders.text.vector_store import Encoder
from streams import metrics
from streams.kafka.compacted_reader import Records, items_of
from streams.kafka.record_time import RecordTimes
from streams.kafka.reject import summary
from streams.settings import Settings
from streams.state.known_items import KnownItems
from streams.state.tier import StateTier

ITEMS_PER_TURN = 16
"""Items that enter the catalogue before events get a turn: a few milliseconds if the catalogue is large."""


class CatalogueFeed:
    """Puts items into the tier's catalogue.

    Parameters
    ----------
    settings : Settings
        Of the worker.
    tier : StateTier
        Holds the catalogue.
    encoder : Encoder
        Computes the vectors of the items' texts.
    model_thread : Executor
        The thread that waits for the encoder.
    times : RecordTimes
        Says which times of records are trusted.
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
        settings: Settings,
        tier: StateTier,
        encoder: Encoder,
        model_thread: Executor,
        times: RecordTimes,
        refresh: Callable[[Sequence[str]], None],
    ) -> None:
        self.known_items = KnownItems(tier.catalogue)
        self.newest_ms = 0
        self._settings = settings
        self._tier = tier
        self._encoder = encoder
        self._model_thread = model_thread
        self._times = times
        self._refresh = refresh
        self._rejected = Counter[str]()  # of all partitions, by cause

    async def put(self, records: Records) -> None:
        """Take a batch of the topic into the catalogue. The encoder runs outside the event loop."""
        items, rejected = await items_of(records, self._times, self._settings.zone)
        self._rejected.update(rejected)
        present = [(item, written_ms) for item, written_ms in items.values() if item]
        self.newest_ms = max([self.newest_ms, *(written_ms for _, written_ms in items.values())])
        started = time.monotonic()
        texts = [describe_item(item) for item, _ in present]
        loop = asyncio.get_running_loop()
        vectors = await loop.run_in_executor(self._model_thread, self._encoder.encode, texts)
        metrics.encode_seconds.observe(time.monotonic() - started)
        for item_id, (item, _) in items.items():
            if item is None:
                self.known_items.deleted(item_id)
                self._tier.delete_item(item_id)
        for index, ((item, written_ms), vector) in enumerate(zip(present, vectors, strict=True)):
            self._refresh(self._tier.put_item(item, vector, written_ms))
            if index % ITEMS_PER_TURN == 0:
                await asyncio.sleep(0)
        metrics.catalogue_items.set(len(self._tier.catalogue))

    def notes(self) -> list[str]:
        """Tell an operator that the catalogue is empty, because then every list is empty. Any thread may call this."""
        rejected = Counter(dict.copy(self._rejected))
        if len(self._tier.catalogue):
            return []
        why = f"; {rejected.total():,} messages of items were rejected: {summary(rejected)}" if rejected else ""
        return [f"state: the catalogue is empty{why}"]

"""The models that lists are made with, each in a process of its own, and what takes their place while we run.

A model's folder is looked at every few seconds. What is new there is loaded beside the old one, has to give its known
answers, and makes lists from the next batch on; if it cannot, the old one goes on. Called by `worker`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress

from encoders.errors import AfterclickError
from ranker import version
from streams import metrics
from streams.models.client import Models, RemoteEncoder, RemoteScorer
from streams.rank.tier import RankTier
from streams.settings import Encoder, Ranker

logger = logging.getLogger(__name__)


class Serving:
    """All models of a worker, which begin to load at once."""

    def __init__(self, encoder: Encoder | None, ranker: Ranker | None) -> None:
        self._variants = [Variant(encoder, ranker)]
        if ranker and ranker.challenger:
            self._variants.append(Variant(None, ranker.model_copy(update={"model": ranker.challenger})))

    def load(self) -> None:
        """Wait until they are loaded; raises what `Models.load` does."""
        for variant in self._variants:
            variant.models.load()

    @property
    def encoder(self) -> RemoteEncoder | None:
        """Puts items' texts into vectors; None if not asked for, or before `load`."""
        return self._variants[0].items.encoder

    @property
    def scorers(self) -> Sequence[RemoteScorer | None]:
        """The model's, and the challenger's if there is one; None for no model, or before `load`."""
        return [variant.models.scorer for variant in self._variants]

    def loaded(self) -> bool:
        return all(variant.items.loaded and variant.models.loaded for variant in self._variants)

    async def follow(self, tier: RankTier) -> None:
        """Serve what takes a model's place, for ever."""
        await asyncio.gather(*(variant.follow(tier, number) for number, variant in enumerate(self._variants)))

    def close(self) -> None:
        for variant in self._variants:
            variant.close()


class Variant:
    """One model, and its successors; without a ranker, the items' encoder alone."""

    def __init__(self, encoder: Encoder | None, ranker: Ranker | None) -> None:
        self._ranker = ranker
        # Items' vectors must stay as they are: where the scorer's folder is the encoder's too, nothing replaces it.
        self._follows = ranker is not None and ranker.follow_s > 0 and (not encoder or encoder.model != ranker.model)
        self._fingerprint = version.fingerprint(ranker.model) if ranker else ()
        self.models = self.items = Models(encoder, ranker)

    async def follow(self, tier: RankTier, number: int) -> None:
        """Look at the folder, for ever; what changed is loaded once it stays as it is for one look."""
        ranker = self._ranker
        if ranker is None or not self._follows or not self._fingerprint:
            return
        seen = self._fingerprint
        metrics.from_zero(metrics.model_swaps, [version.name(ranker.model)], ("served", "refused"))
        while True:
            await asyncio.sleep(ranker.follow_s)
            before, seen = seen, await asyncio.to_thread(_fingerprint, ranker.model)
            if seen != before or seen == self._fingerprint:
                continue
            self._fingerprint = seen
            newer = Models(None, ranker)
            try:
                await asyncio.to_thread(newer.load)
                if newer.scorer is None:
                    raise TypeError("a process without a scorer")
                await asyncio.to_thread(tier.serve, newer.scorer, number)
            except Exception as error:  # noqa: BLE001 whatever is wrong with the new one, the old one serves
                newer.close()
                _refused(ranker, error)
            else:
                await self._replaced(newer, ranker, tier)

    async def _replaced(self, newer: Models, ranker: Ranker, tier: RankTier) -> None:
        """The newer one serves: let the older one finish what it is at, and go."""
        older, self.models = self.models, newer
        scorer = older.scorer
        names = [models.scorer.name for models in (newer, older) if models.scorer]
        logger.info("%s", " makes lists from now on, in the place of ".join(names))
        metrics.model_swaps.labels(version.name(ranker.model), "served").inc()
        await asyncio.sleep(ranker.timeout_ms / 1000)
        if scorer is not None:
            tier.retire(scorer)
        if older.encoder is not None:
            with suppress(BrokenProcessPool):  # then it has dropped everything
                await asyncio.to_thread(older.drop_scorer)
            return
        older.close()
        if older is self.items:
            self.items = newer

    def close(self) -> None:
        self.models.close()
        if self.items is not self.models:
            self.items.close()


def _refused(ranker: Ranker, error: Exception) -> None:
    why = str(error) if isinstance(error, AfterclickError) else repr(error)
    name = version.name(ranker.model)
    logger.error("%s changed and cannot be served; the model from before goes on: %s", name, why)
    metrics.model_swaps.labels(name, "refused").inc()


def _fingerprint(model: str) -> version.Fingerprint:
    """() while it is being written."""
    try:
        return version.fingerprint(model)
    except (OSError, AfterclickError):
        return ()

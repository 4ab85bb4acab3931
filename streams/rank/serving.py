"""The models that lists are made with, each in a process of its own, and their replacement while the worker runs.

A model's folder is checked every few seconds. A model that is new there is loaded beside the old one and must reproduce
its known answers; it then makes lists from the next batch on. If it cannot, the old model stays. Knows no Kafka.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path

from encoders.errors import AfterclickError
from ranker import version
from ranker.score import Scorer
from streams import metrics
from streams.models.child import ChildProcess
from streams.models.child_models import ChildEncoder
from streams.models.client import Models
from streams.rank.tier import RankTier
from streams.settings import EncoderSettings, RankerSettings

logger = logging.getLogger(__name__)


class Serving:
    """All models of a worker. Loading starts at once.

    Parameters
    ----------
    encoder : Encoder, optional
        Settings of the items' encoder; None if the worker needs none.
    ranker : Ranker, optional
        Settings of the model, and of the challenger if there is one; None if the worker makes no lists.
    process : ChildProcess, optional
        See `Models`.
    vectors : Path, optional
        The file of items' vectors; see `ModelChoice`.

    Attributes
    ----------
    others : list of callable
        Give the ids of further processes that hold a model.
    """

    def __init__(
        self,
        encoder: EncoderSettings | None,
        ranker: RankerSettings | None,
        process: ChildProcess | None = None,
        vectors: Path | None = None,
    ) -> None:
        self.others: list[Callable[[], int | None]] = []
        self._variants = [Variant(encoder, ranker, process, vectors)]
        if ranker and ranker.challenger:
            challenger = ranker.model_copy(update={"model": ranker.challenger})
            self._variants.append(Variant(None, challenger, vectors=vectors))

    def load(self) -> None:
        """Wait until all models are loaded. Raises what `Models.load` raises."""
        for variant in self._variants:
            variant.models.load()

    def steps(self) -> dict[str, float]:
        """Return when each step of loading the first model ended, by the monotonic clock."""
        return self._variants[0].models.steps()

    @property
    def encoder(self) -> ChildEncoder | None:
        """The items' encoder; None if the worker needs none, or before `load`."""
        return self._variants[0].encoder_models.encoder

    @property
    def scorers(self) -> Sequence[Scorer | None]:
        """The scorer of each variant; None without a model, or before `load`."""
        return [variant.models.scorer for variant in self._variants]

    def loaded(self) -> bool:
        """Whether all models are in memory now."""
        return all(variant.encoder_models.loaded and variant.models.loaded for variant in self._variants)

    def away(self) -> list[str]:
        """Return which servers that rank do not answer, and why, in words."""
        return [line for variant in self._variants for line in variant.models.servers.away()]

    def pids(self) -> set[int]:
        """The ids of the processes that hold the models."""
        pids = (models.pid() for variant in self._variants for models in (variant.models, variant.encoder_models))
        return set(filter(None, [*pids, *(pid() for pid in self.others)]))

    async def follow(self, tier: RankTier) -> None:
        """Replace models whose folders change, for ever."""
        await asyncio.gather(*(variant.follow(tier, number) for number, variant in enumerate(self._variants)))

    def close(self) -> None:
        """End the models' processes."""
        for variant in self._variants:
            variant.close()


class Variant:
    """One model and its successors.

    Attributes
    ----------
    models : Models
        The process whose scorer serves.
    encoder_models : Models
        The process of the items' encoder: the first one, for items' vectors must not change while the worker runs.
    """

    def __init__(
        self,
        encoder: EncoderSettings | None,
        ranker: RankerSettings | None,
        process: ChildProcess | None = None,
        vectors: Path | None = None,
    ) -> None:
        self._ranker, self._vectors = ranker, vectors
        # Where the scorer's folder is the encoder's too, nothing replaces it.
        self._follows = ranker is not None and ranker.follow_s > 0 and (not encoder or encoder.model != ranker.model)
        self._fingerprint = version.fingerprint(ranker.model) if ranker else ()
        self.models = self.encoder_models = Models(encoder, ranker, process, vectors)

    async def follow(self, tier: RankTier, number: int) -> None:
        """Check the folder for ever. A change is loaded once the folder is the same at two checks in a row.

        Parameters
        ----------
        tier : RankTier
            Gets the new scorers.
        number : int
            The variant's number in the tier.
        """
        ranker = self._ranker
        if ranker is None or not self._follows or not self._fingerprint:
            return
        fingerprint = self._fingerprint
        metrics.from_zero(metrics.model_swaps, [version.name(ranker.model)], ("served", "refused"))
        while True:
            await asyncio.sleep(ranker.follow_s)
            previous, fingerprint = fingerprint, await asyncio.to_thread(version.fingerprint_now, ranker.model)
            if fingerprint != previous or fingerprint == self._fingerprint:
                continue
            self._fingerprint = fingerprint
            await self._try_newer(ranker, tier, number)

    async def _try_newer(self, ranker: RankerSettings, tier: RankTier, number: int) -> None:
        newer = Models(None, ranker, vectors=self._vectors)
        try:
            await asyncio.to_thread(newer.load)
            if newer.scorer is None:
                raise TypeError("a models' process without a scorer")
            await asyncio.to_thread(tier.serve, newer.scorer, number)
        except Exception as error:  # noqa: BLE001 whatever is wrong with the new model, the old one serves
            await asyncio.to_thread(newer.close)
            _refuse(ranker, error)
        else:
            await self._replace(newer, ranker, tier)

    async def _replace(self, newer: Models, ranker: RankerSettings, tier: RankTier) -> None:
        """The newer model serves: let the older one finish its calls, then end it."""
        older, self.models = self.models, newer
        scorer = older.scorer
        names = [models.scorer.name for models in (newer, older) if models.scorer]
        logger.info("%s", " makes lists from now on and replaces ".join(names))
        metrics.model_swaps.labels(version.name(ranker.model), "served").inc()
        await asyncio.sleep(ranker.timeout_ms / 1000)
        if scorer is not None:
            tier.retire(scorer)
        if older.encoder is not None:
            with suppress(BrokenProcessPool):  # a process that died has dropped everything
                await asyncio.to_thread(older.drop_scorer)
            return
        await asyncio.to_thread(older.close)
        if older is self.encoder_models:
            self.encoder_models = newer

    def close(self) -> None:
        """End the processes."""
        self.models.close()
        if self.encoder_models is not self.models:
            self.encoder_models.close()


def _refuse(ranker: RankerSettings, error: Exception) -> None:
    why = str(error) if isinstance(error, AfterclickError) else repr(error)
    name = version.name(ranker.model)
    logger.error("the model %s changed and cannot serve; the previous one stays: %s", name, why)
    metrics.model_swaps.labels(name, "refused").inc()

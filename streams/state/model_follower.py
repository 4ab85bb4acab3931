"""Replace the parts of models that the state tier uses while the worker runs: learnt sources, merge, features.

A model's folder is checked every few seconds, as the rank tier does. What is new there is loaded beside the old parts,
gets the items of the catalogue step by step between events, and replaces the old parts between two requests. If it
cannot be loaded, the old parts stay. Knows no Kafka.
"""

from __future__ import annotations

import asyncio
import logging

from encoders.errors import AfterclickError
from ranker import version
from ranker.load import load_recall
from streams.metrics import from_zero
from streams.settings import RankerSettings
from streams.state import recall_metrics
from streams.state.request_builder import RequestBuilder

logger = logging.getLogger(__name__)


async def follow(requests: RequestBuilder, ranker: RankerSettings) -> None:
    """Check the folders of all models for ever.

    Parameters
    ----------
    requests : RequestBuilder
        Gets the new parts.
    ranker : RankerSettings
        `follow_s` says how often; 0: never.
    """
    if ranker.follow_s:
        await asyncio.gather(
            *(_follow(requests, number, model, ranker.follow_s) for number, model in enumerate(ranker.models))
        )


async def _follow(requests: RequestBuilder, number: int, model: str, every_s: float) -> None:
    """Load a change once the folder is the same at two checks in a row."""
    served = fingerprint = requests.trained[number].files
    from_zero(recall_metrics.swaps, [version.name(model)], ("served", "refused"))
    while True:
        await asyncio.sleep(every_s)
        previous, fingerprint = fingerprint, await asyncio.to_thread(version.fingerprint_now, model)
        if fingerprint == previous and fingerprint not in ((), served):
            served = fingerprint
            await _try_newer(requests, number, model)


async def _try_newer(requests: RequestBuilder, number: int, model: str) -> None:
    try:
        for _ in requests.replace(number, await asyncio.to_thread(load_recall, model)):
            await asyncio.sleep(0)
    except Exception as error:  # noqa: BLE001 whatever is wrong with the new parts, the old ones serve
        why = str(error) if isinstance(error, AfterclickError) else repr(error)
        logger.error("the model %s changed and its recall cannot serve; the previous one stays: %s", model, why)
        recall_metrics.swaps.labels(version.name(model), "refused").inc()
        return
    recall_metrics.swaps.labels(version.name(model), "served").inc()

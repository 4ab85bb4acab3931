"""Lets a language model word the reasons of lists that are out with those of the templates.

    list published -> `waiting_texts` -> the model -> `ranker.reasons.text_check` -> the same list, published again

The texts are checked against the evidence, and a list without an accepted text stays as it is. A list is published
again only while it is the newest of its key. What waits is in memory: after a restart the templates stay. Knows no
prompt and no phrase.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Set

import msgspec
from cachetools import LRUCache

from ranker.reasons.prompt import prompt
from ranker.reasons.text_check import Refused, check
from streams.contracts import Reason
from streams.kafka import client as kafka_client
from streams.kafka.record_time import now_ms
from streams.models.text_model import Writes
from streams.publish.backfill import Backfill
from streams.publish.list_key import ListKeys
from streams.rank import reason_metrics
from streams.rank.batcher import RankedBatch
from streams.rank.list_payloads import ListPayloads
from streams.rank.list_publisher import ListPublisher, Republished
from streams.rank.list_texts import reworded
from streams.rank.ranking import Reading
from streams.rank.stale_lists import StaleLists
from streams.rank.tier import RankTier
from streams.rank.waiting_texts import WaitingList, WaitingTexts, waiting_list
from streams.settings import Settings

logger = logging.getLogger(__name__)

RETRY_AFTER_S = 1.0
MAX_ANSWERS = 10_000
"""Answers that are remembered by their prompts: the same item leads many users to the same other one. Some 10 MB."""


class ReasonWriter:
    """Publishes lists again with texts of a language model.

    Parameters
    ----------
    settings : Settings
        Of the installation.
    tier : RankTier
        Knows each list's language.
    publisher : ListPublisher
        Publishes lists again.
    cache : Backfill
        The lists in Redis.
    stale : StaleLists
        Knows the newest list of each key.
    """

    def __init__(
        self, settings: Settings, tier: RankTier, publisher: ListPublisher, cache: Backfill, stale: StaleLists
    ) -> None:
        self._settings = settings
        self._tier = tier
        self._publisher = publisher
        self._cache = cache
        self._stale = stale
        self._keys = ListKeys(settings)
        self._reading = Reading(settings.interest.weights)
        self._waiting = WaitingTexts()
        self._answers: LRUCache[str, str] = LRUCache(MAX_ANSWERS)

    def note(self, ranked: RankedBatch) -> None:
        """A batch is out: its lists wait for texts from now on, in place of older ones. Without a model none does."""
        if self._settings.reasons.model is None:
            return
        requests = {(one.user_id, one.placement): one.request for one in ranked.pending if one.request}
        for one in ranked.pending:
            if one.request is None:
                self._waiting.discard(key.encode() for key in self._keys.all_of(one.user_id))
        for list_ in ranked.lists:
            key, request = (
                self._keys.of(list_.user_id, list_.placement).encode(),
                requests[list_.user_id, list_.placement],
            )
            self._waiting.discard([key])
            language, items = self._tier.language.of(request), self._settings.reasons.items
            if new := waiting_list(key, list_, request, self._reading, language, items):
                self._waiting.put(new)

    async def run(self, model: Writes) -> None:
        """Word lists for ever, the newest first.

        Raises
        ------
        ModelNotFound, ModelUnsupported, DeviceUnavailable
            The model cannot be loaded.
        streams.kafka.client.KafkaRefuses
        """
        try:
            await asyncio.to_thread(model.load)
            while True:
                await self._waiting.any.wait()
                list_ = self._waiting.take()
                try:
                    outcome = await self._word(list_, model)
                except kafka_client.KafkaUnavailable as error:
                    logger.warning("%s; a list keeps its templates", error)
                    outcome = "failed"
                    await asyncio.sleep(RETRY_AFTER_S)
                reason_metrics.lists.labels(outcome).inc()
        finally:
            model.close()

    async def _word(self, list_: WaitingList, model: Writes) -> str:
        """Have a list worded and published again. Returns what became of it."""
        prompts = {item_id: prompt(grounds, list_.language) for item_id, grounds in list_.grounds.items()}
        of_one = {prompts[item_id] for item_id, grounds in list_.grounds.items() if grounds.search}
        try:
            answers = await self._answers_to(set(prompts.values()), of_one, model)
        except Exception as error:  # noqa: BLE001 whatever the model raises: lists do without it
            logger.warning("the model that words reasons failed, and a list keeps its templates: %r", error)
            await asyncio.sleep(RETRY_AFTER_S)
            return "failed"
        reasons = {}
        for item_id, grounds in list_.grounds.items():
            checked = check(answers[prompts[item_id]], grounds, list_.language)
            if isinstance(checked, Refused):
                reason_metrics.refused.labels(checked.cause).inc()
            else:
                reason_metrics.texts.inc()
                text = list_.language.with_wishes(checked.text, list_.wishes.get(item_id, ()))
                reasons[item_id] = Reason(text=text, evidence=list(checked.evidence))
        return await self._published(list_, reasons) if reasons else "unchanged"

    async def _answers_to(self, prompts: Set[str], of_one_user: Set[str], model: Writes) -> dict[str, str]:
        """The model's answers by prompt. What tells of a search is not remembered: it is one user's."""
        answers = {text: self._answers[text] for text in prompts if text in self._answers}
        if asked := sorted(prompts - answers.keys()):
            answers.update(zip(asked, await asyncio.to_thread(model.write, asked), strict=True))
        self._answers.update((text, answers[text]) for text in asked if text not in of_one_user)
        return answers

    async def _published(self, list_: WaitingList, reasons: Mapping[str, Reason]) -> str:
        """Publish a list again if it is still the newest of its key. Returns what became of it."""
        while (places := self._stale.lists.find([list_.key])) and places[0].partition not in self._stale.complete:
            if places[0].partition not in self._stale.owned:
                return "superseded"
            await asyncio.sleep(RETRY_AFTER_S)  # the index is read again after a rebalance
        if not places:
            return "superseded"
        async with ListPayloads.open(self._settings, self._stale.lists, self._cache) as payloads:
            payload = (await payloads.read(places)).get(places[0])
        if payload is None:
            return "superseded"
        try:
            new = reworded(payload.value, list_.list_id, reasons, now_ms())
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return "superseded"  # by what no worker wrote
        if new.list_ is None:
            return "superseded" if new.superseded else "unchanged"
        if not await self._publisher.republish([Republished(places[0], new.list_, payload.first_written_ms)]):
            return "superseded"
        reason_metrics.seconds.observe(time.monotonic() - list_.since_s)
        return "published"

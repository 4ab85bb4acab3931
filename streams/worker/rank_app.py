"""The rank tier's Faust app: scores candidates, selects, publishes lists."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import faust

from streams.kafka.compacted_reader import Follower
from streams.kafka.reliable_producer import ReliableProducer
from streams.models.text_model import TextModel
from streams.publish.backfill import Backfill
from streams.publish.list_cache import ListCache
from streams.rank.batcher import AT_MODEL
from streams.rank.serving import Serving
from streams.rank.tier import RankTier
from streams.rank.worker import RankWorker
from streams.rules.live_rules import LiveRules
from streams.settings import Settings
from streams.worker.app import build_app
from streams.worker.binding import AllSet, TierBinding, bind
from streams.worker.ending import Ending
from streams.worker.health import Health
from streams.worker.watch import Watch


def rank_app(
    settings: Settings,
    serving: Serving,
    rules: LiveRules,
    health: Health,
    ending: Ending,
    largest: Mapping[str, int],
) -> faust.App:
    """Build the app, and bind the rank tier to it. See `build_app` for `largest`."""
    app = build_app(settings, "rank", ending, largest)
    cache = Backfill(settings, ListCache(settings))
    tier = RankTier(settings, *serving.scorers)
    tier.warm_up()
    health.notes.append(serving.away)
    producer = ReliableProducer(app, largest)
    worker = RankWorker(settings, tier, producer, cache, ThreadPoolExecutor(AT_MODEL, "rank"))
    app.kafka.on_resume = worker.resume
    rules.on_change.append(worker.keep_rules)
    follower = Follower(settings.kafka, {settings.topic("items"): worker.prepare})
    ready = AllSet(follower.caught_up, rules.caught_up)

    async def receive(stream: Any) -> None:
        async for event in stream.noack().events():
            await worker.take(event)

    async def on_assigned() -> None:
        partitions = {tp.partition for tp in app.consumer.assignment()}
        cache.own(partitions)
        worker.own(partitions)

    tasks: tuple[Callable[[], Awaitable[None]], ...] = (
        follower.run,
        rules.run,
        worker.run,
        worker.follow_lists,
        worker.withdraw,
        *_of_texts(settings, worker, serving),
        cache.run,
        partial(serving.follow, tier),
        Watch(app, "rank", settings, health, producer).run,
    )

    def facts() -> str:
        models = ", ".join(scorer.name for scorer in tier.scorers if scorer) or "no model"
        return f"lists are ranked by {models}"

    binding = TierBinding(
        "rank",
        ready,
        receive,
        on_assigned,
        worker.on_revoke,
        worker.close,
        tasks,
        in_hand=lambda: len(worker.acks),
        facts=facts,
    )
    bind(app, binding, settings, health, ending)
    return app


def _of_texts(settings: Settings, worker: RankWorker, serving: Serving) -> list[Callable[[], Awaitable[None]]]:
    """The task that has reasons worded by a language model, if the settings name one."""
    if settings.reasons.model is None:
        return []
    model = TextModel(settings.reasons, "words reasons")
    serving.others.append(model.pid)
    return [partial(worker.word_reasons, model)]

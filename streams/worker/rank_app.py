"""The rank tier's Faust app: scores candidates, selects, publishes lists."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import faust

from streams.kafka.compacted_reader import Follower
from streams.kafka.reliable_producer import ReliableProducer
from streams.publish.backfill import Backfill
from streams.publish.list_cache import ListCache
from streams.rank.batcher import AT_MODEL
from streams.rank.serving import Serving
from streams.rank.tier import RankTier
from streams.rank.worker import RankWorker
from streams.settings import Settings
from streams.worker.app import build_app
from streams.worker.binding import TierBinding, bind
from streams.worker.ending import Ending
from streams.worker.health import Health
from streams.worker.watch import Watch


def rank_app(
    settings: Settings, serving: Serving, health: Health, ending: Ending, largest: Mapping[str, int]
) -> faust.App:
    """Build the app, and bind the rank tier to it. See `build_app` for `largest`."""
    app = build_app(settings, "rank", ending, largest)
    cache = Backfill(settings, ListCache(settings))
    tier = RankTier(settings, *serving.scorers)
    tier.warm_up()
    producer = ReliableProducer(app, largest)
    worker = RankWorker(settings, tier, producer, cache, ThreadPoolExecutor(AT_MODEL, "rank"))
    app.kafka.on_resume = worker.resume
    follower = Follower(settings.kafka, {settings.topic("items"): worker.prepare})

    async def receive(stream: Any) -> None:
        async for event in stream.noack().events():
            await worker.take(event)

    async def on_assigned() -> None:
        cache.own(tp.partition for tp in app.consumer.assignment())

    tasks = (
        follower.run,
        worker.run,
        cache.run,
        partial(serving.follow, tier),
        Watch(app, "rank", settings, health, producer).run,
    )
    binding = TierBinding("rank", follower.caught_up, receive, on_assigned, worker.on_revoke, worker.close, tasks)
    bind(app, binding, settings, health, ending)
    return app

"""The state tier's Faust app: validates events, keeps users' states, recalls candidates."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import faust

from encoders.models.source import ModelUnsupported
from encoders.text.vector_store import StoredEncoder
from ranker.recall.candidates import BUILT_IN, Source
from ranker.recall.catalogue import Catalogue
from streams.faust_compat.arrivals import arrivals
from streams.faust_compat.table_store import TableStore
from streams.kafka.client import partition_of
from streams.kafka.compacted_reader import Follower
from streams.kafka.reliable_producer import ReliableProducer
from streams.kafka.topics import USERS_TABLE, changelog_name
from streams.models.client import RemoteEncoder
from streams.settings import Settings, SettingsError
from streams.settings.import_path import imported
from streams.state import graph_snapshot
from streams.state.item_counts import COUNTS
from streams.state.tier import StateTier, counts_of
from streams.state.users import Users
from streams.state.worker import StateWorker
from streams.worker.app import build_app
from streams.worker.binding import TierBinding, bind
from streams.worker.ending import Ending
from streams.worker.health import Health
from streams.worker.restore import watch_restore
from streams.worker.watch import Watch


def state_app(
    settings: Settings, encoder: RemoteEncoder, health: Health, ending: Ending, largest: Mapping[str, int]
) -> faust.App:
    """Build the app with its table of users, and bind the state tier to it. See `build_app` for `largest`."""
    app = build_app(settings, "state", ending, largest)
    partitions, data_dir = settings.kafka.partitions, settings.tables.data_dir
    table = app.Table(USERS_TABLE, key_type=bytes, value_type=bytes, partitions=partitions, use_partitioner=True)
    store = TableStore(table, changelog_name(settings))
    app.kafka.restore = store.restore
    app.early_tasks = [partial(watch_restore, app)]

    graph_path = data_dir / graph_snapshot.FILE
    catalogue = Catalogue(encoder.dim, graph=graph_snapshot.load(graph_path, encoder.dim, encoder.identity))
    snapshot = graph_snapshot.GraphSnapshot(catalogue, graph_path, encoder.identity)
    tier = StateTier(settings, Users(table.data, encoder.dim), catalogue, counts_of(settings), _sources(settings))
    stored = StoredEncoder(encoder, encoder.identity, data_dir / "item-vectors.sqlite")
    producer = ReliableProducer(app, largest)
    thread = ThreadPoolExecutor(1, "encode")
    worker = StateWorker(settings, tier, stored, thread, producer, store, changelog_name(settings))
    health.notes.append(worker.notes)
    handlers = {settings.topic("items"): worker.put_items, settings.topic(COUNTS): worker.put_counts}
    follower = Follower(settings.kafka, handlers)

    async def receive(stream: Any) -> None:
        async for events in arrivals(stream):
            await worker.take(events)

    async def on_assigned() -> None:
        if not follower.caught_up.is_set():
            return  # no user's items are known yet
        owned = store.partitions()
        tier.counts.writer = min(owned, default=0)
        worker.refresh(tier.resume(lambda user_id: partition_of(user_id.encode(), partitions) in owned))

    async def serve_cold_start() -> None:
        await follower.caught_up.wait()
        await worker.serve_cold_start()

    async def close(timeout_s: float) -> None:
        await worker.close(timeout_s)
        await snapshot.save(settings.grace_s / 4)

    tasks = (
        follower.run,
        partial(snapshot.run, follower.caught_up),
        worker.run,
        worker.store_counts,
        serve_cold_start,
        partial(_look_at_models, tier, settings.ranker.follow_s),
        Watch(app, "state", settings, health, producer).run,
    )
    binding = TierBinding("state", follower.caught_up, receive, on_assigned, worker.on_revoke, close, tasks)
    bind(app, binding, settings, health, ending)
    return app


async def _look_at_models(tier: StateTier, every_s: float) -> None:
    while every_s:
        await asyncio.sleep(every_s)
        with suppress(ModelUnsupported):  # its files are being written
            tier.requests.look_at_models()


def _sources(settings: Settings) -> list[Source]:
    """Return the sources that the settings name: built-in ones, and the user's own by import path."""
    built_in = {source.name: source for source in BUILT_IN}
    return [built_in[name] if name in built_in else _imported(name) for name in settings.candidates.sources]


def _imported(path: str) -> Source:
    setting, expected = (
        "AFTERCLICK_CANDIDATES__SOURCES",
        f"one of {', '.join(source.name for source in BUILT_IN)} or module:Class",
    )
    kind = imported(path, setting, expected)
    try:
        source: Source = kind()
    except TypeError as error:
        raise SettingsError(f"{setting}: got {path!r} ({error}), expected {expected}; correct it") from error
    return source

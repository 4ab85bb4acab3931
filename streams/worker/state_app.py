"""The state tier's Faust app: validates events, keeps users' states, recalls candidates."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import faust

from encoders.text import vector_store
from encoders.text.vector_store import StoredEncoder
from ranker.recall.catalogue import Catalogue
from streams.faust_compat.arrivals import arrivals
from streams.faust_compat.table_store import TableStore
from streams.kafka.client import partition_of
from streams.kafka.compacted_reader import Follower
from streams.kafka.record_reader import RecordReader
from streams.kafka.reliable_producer import ReliableProducer
from streams.kafka.schema_registry import registry_of
from streams.kafka.topics import USERS_TABLE, changelog_name
from streams.models.child_models import ChildEncoder
from streams.models.text_model import TextModel
from streams.rank.serving import Serving
from streams.receive.triples import TOPIC as TRIPLES
from streams.rules.live_rules import LiveRules
from streams.settings import Settings
from streams.state import graph_snapshot
from streams.state.catalogue_languages import CatalogueLanguages
from streams.state.decays import counts_of
from streams.state.graph_snapshot import GraphSnapshot
from streams.state.item_counts import COUNTS
from streams.state.knowledge_feed import KnowledgeFeed
from streams.state.model_follower import follow
from streams.state.sources import catalogue_of, sources_of
from streams.state.tier import StateTier
from streams.state.users import Users
from streams.state.withheld_items import WithheldItems
from streams.state.worker import StateWorker
from streams.worker.app import build_app
from streams.worker.binding import AllSet, TierBinding, bind
from streams.worker.ending import Ending
from streams.worker.health import Health
from streams.worker.restore import watch_restore
from streams.worker.watch import Watch


def state_app(
    settings: Settings,
    serving: Serving,
    encoder: ChildEncoder,
    rules: LiveRules,
    health: Health,
    ending: Ending,
    largest: Mapping[str, int],
) -> faust.App:
    """Build the app with its table of users, and bind the state tier to it. See `build_app` for `largest`."""
    app = build_app(settings, "state", ending, largest)
    partitions, data_dir = settings.kafka.partitions, settings.tables.data_dir
    table = app.Table(USERS_TABLE, key_type=bytes, value_type=bytes, partitions=partitions, use_partitioner=True)
    store = TableStore(table, changelog_name(settings))
    app.kafka.restore = store.restore
    app.early_tasks = [partial(watch_restore, app)]

    catalogue, snapshot = _catalogue(settings, encoder, data_dir / graph_snapshot.FILE)
    tier = StateTier(settings, Users(table.data, encoder.dim), catalogue, counts_of(settings), sources_of(settings))
    stored = StoredEncoder(encoder, encoder.identity, data_dir / vector_store.FILE)
    producer = ReliableProducer(app, largest)
    worker = StateWorker(
        settings, tier, stored, ThreadPoolExecutor(1, "encode"), producer, store, changelog_name(settings)
    )
    health.notes.append(worker.notes)
    follower = _follower(settings, worker, catalogue, health)
    ready = AllSet(follower.caught_up, rules.caught_up)
    withheld = WithheldItems(catalogue)
    rules.on_change += [tier.requests.keep_rules, withheld.change]

    async def on_assigned() -> None:
        if not ready.is_set():
            return  # no user's items are known yet
        owned = store.partitions()
        tier.counts.writer = min(owned, default=0)
        worker.refresh(tier.resume(lambda user_id: partition_of(user_id.encode(), partitions) in owned))

    async def close(timeout_s: float) -> None:
        await worker.close(timeout_s)
        await snapshot.save(settings.grace_s / 4)

    tasks: tuple[Callable[[], Awaitable[None]], ...] = (
        follower.run,
        rules.run,
        withheld.run,
        partial(snapshot.run, follower.caught_up),
        worker.run,
        *_of_wishes(settings, worker, serving),
        registry_of(settings.kafka).run,
        worker.store_counts,
        partial(_after, follower.caught_up, worker.store_dates),
        partial(_after, ready, worker.serve_cold_start),
        partial(follow, tier.requests, settings.ranker),
        partial(_after, follower.caught_up, CatalogueLanguages(catalogue, encoder).follow),
        Watch(app, "state", settings, health, producer).run,
    )
    binding = TierBinding("state", ready, partial(_receive, worker), on_assigned, worker.on_revoke, close, tasks,
                          worker.acks.__len__, partial(_facts, catalogue, store))  # fmt: skip
    bind(app, binding, settings, health, ending)
    return app


def _of_wishes(settings: Settings, worker: StateWorker, serving: Serving) -> list[Callable[[], Awaitable[None]]]:
    """The task that has wishes read by a language model, if the settings name one."""
    if settings.wishes.model is None:
        return []
    model = TextModel(settings.wishes, "reads wishes")
    serving.others.append(model.pid)
    return [partial(worker.read_wishes, model)]


async def _receive(worker: StateWorker, stream: Any) -> None:
    async for events in arrivals(stream):
        await worker.take(events)


def _catalogue(settings: Settings, encoder: ChildEncoder, path: Path) -> tuple[Catalogue, GraphSnapshot]:
    catalogue = catalogue_of(settings, encoder.dim, graph_snapshot.load(path, encoder.dim, encoder.identity))
    return catalogue, GraphSnapshot(catalogue, path, encoder.identity)


def _follower(settings: Settings, worker: StateWorker, catalogue: Catalogue, health: Health) -> Follower:
    """Give what reads the topics that every worker reads whole."""
    knowledge = KnowledgeFeed(catalogue.knowledge, RecordReader(settings))
    health.notes.append(knowledge.notes)
    handlers = {
        settings.topic("items"): worker.put_items,
        settings.topic(TRIPLES): knowledge.put,
        settings.topic(COUNTS): worker.put_counts,
    }
    return Follower(settings.kafka, handlers)


async def _after(event: asyncio.Event | AllSet, task: Callable[[], Awaitable[None]]) -> None:
    await event.wait()
    await task()


def _facts(catalogue: Catalogue, store: TableStore) -> str:
    return f"{len(catalogue):,} items, {store.take_restored():,} records of users restored"

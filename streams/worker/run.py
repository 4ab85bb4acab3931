"""A worker process: Faust apps for the roles asked for, their agents, and what surrounds them.

Two apps at the most, one per tier, each its own consumer group: so `all` in one process, or `state` and `rank` in
many, divide the same partitions. Before Faust starts, every topic is there and every model is loaded: a worker that
cannot work stops with one line. Called by the command line.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, Literal, cast

import faust
from faust.auth import OAuthCredentials
from threadpoolctl import threadpool_limits

from encoders.errors import AfterclickError
from encoders.models.source import ModelUnsupported
from encoders.text.vector_store import StoredEncoder
from ranker.recall.candidates import BUILT_IN, Source
from ranker.recall.catalogue import Catalogue
from streams.faust_compat.table_store import TableStore
from streams.faust_compat.transport import Transport, arrived
from streams.kafka.client import METADATA_AGE_MS, client_options, no_right, partition_of
from streams.kafka.compacted_reader import Follower
from streams.kafka.outgoing import BROKERS_LARGEST
from streams.kafka.reliable_producer import ReliableProducer
from streams.kafka.topics import SOURCES, USERS_TABLE, changelog_name, group_id
from streams.models.client import RemoteEncoder
from streams.publish.backfill import Backfill
from streams.publish.list_cache import ListCache
from streams.rank.batcher import AT_MODEL
from streams.rank.serving import Serving
from streams.rank.tier import RankTier
from streams.rank.worker import RankWorker
from streams.settings import Kafka, Settings, SettingsError
from streams.settings.import_path import imported
from streams.state import graph_snapshot
from streams.state.item_counts import COUNTS
from streams.state.tier import StateTier, counts_of
from streams.state.users import Users
from streams.state.worker import StateWorker
from streams.worker import data_folder, probes, startup
from streams.worker.health import Health
from streams.worker.restore import watch_restore
from streams.worker.watch import Watch

logger = logging.getLogger(__name__)

Tier = Literal["state", "rank"]
Role = Literal["state", "rank", "all"]
CRASH_GRACE_S = 2.0
COLLECT_AFTER = 50_000, 20, 50
"""Allocations, and collections, between garbage collections: what a list takes goes by itself when it is out. In one
pair of runs 4.8 core-ms a list, against 5.6 with Python's own 700."""


class Ending:
    """Why the worker ends, where a person can mend it. What it has taken and not answered, Kafka delivers again."""

    reason: AfterclickError | None = None

    def end(self, reason: AfterclickError) -> None:
        """Stop as SIGTERM would, to end with the reason."""
        if self.reason is None:
            self.reason = reason
            os.kill(os.getpid(), signal.SIGTERM)

    def guarded(self, task: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        """The task, whose error ends the worker with its line if a person can mend it."""

        async def run() -> None:
            try:
                await task()
            except AfterclickError as error:
                self.end(error)

        return run


class App(faust.App):
    """An app that is told of its end while all of it still works.

    Faust's own signal, `on_before_shutdown`, comes when it has closed its tables: every user reads as unknown then.
    """

    close: Callable[[], Awaitable[None]]

    async def on_stop(self) -> None:
        await self.close()
        await super().on_stop()


def run(settings: Settings, role: Role, serving: Serving) -> int:
    """Work until SIGTERM or SIGINT; the process's exit status.

    Parameters
    ----------
    serving : the models that the role needs; they may still be loading.

    Raises
    ------
    SettingsError, TopicError, KafkaRefuses, ModelNotFound, ModelUnsupported
        Before anything was taken from Kafka; a Redis that refuses us is a wrong setting.
    StateUnreadable
        A newer worker wrote the states that were restored; nothing of theirs was changed.
    """
    if role in ("state", "all") and settings.tables.store == "rocksdb":
        data_folder.claim(settings.tables.data_dir)
    tiers: list[Tier] = ["state", "rank"] if role == "all" else [role]
    health = Health(settings.health, tiers)
    if settings.metrics.port:
        probes.serve(settings.metrics, health)
    largest = startup.prepare(settings, tiers, health)
    if largest is None:
        return 0
    threadpool_limits(1, "blas")  # numpy's products here are small: a second thread spins more than it computes
    serving.load()
    health.models_loaded = serving.loaded
    if not startup.wait_for_kafka(settings, health):
        return 0
    ending = Ending()
    apps = []
    if serving.encoder:
        apps.append(state_app(settings, serving.encoder, health, ending, largest))
    if role in ("rank", "all"):
        apps.append(rank_app(settings, serving, health, ending, largest))
    worker = faust.Worker(*apps, override_logging=False, redirect_stdouts=False, quiet=True)
    worker.spinner = None
    threading.Thread(target=_cut_off, args=(worker, settings.grace_s), name="grace", daemon=True).start()
    try:
        worker.execute_from_commandline()
    except SystemExit as stopped:
        if ending.reason:
            raise ending.reason from None
        return int(stopped.code or 0)


def state_app(
    settings: Settings, encoder: RemoteEncoder, health: Health, ending: Ending, largest: Mapping[str, int]
) -> faust.App:
    """The state tier: validates, keeps users' states, recalls candidates."""
    app = _app(settings, "state", ending, largest)
    table = app.Table(
        USERS_TABLE,
        key_type=bytes,
        value_type=bytes,
        partitions=settings.kafka.partitions,
        use_partitioner=True,
    )
    graph_path = settings.tables.data_dir / graph_snapshot.FILE
    catalogue = Catalogue(encoder.dim, graph=graph_snapshot.load(graph_path, encoder.dim, encoder.identity))
    tier = StateTier(settings, Users(table.data, encoder.dim), catalogue, counts_of(settings), _sources(settings))
    stored = StoredEncoder(encoder, encoder.identity, settings.tables.data_dir / "item-vectors.sqlite")
    thread = ThreadPoolExecutor(1, "encode")
    store = TableStore(table, changelog_name(settings))
    cast(Transport, app.transport).restore = store.restore
    producer = ReliableProducer(app, largest)
    worker = StateWorker(settings, tier, stored, thread, producer, store, changelog_name(settings))
    health.notes.append(worker.notes)
    follower = Follower(
        settings.kafka,
        {settings.topic("items"): worker.put_items, settings.topic(COUNTS): worker.put_counts},
    )
    snapshot = graph_snapshot.GraphSnapshot(catalogue, graph_path, encoder.identity)

    @app.agent(_raw(app, [settings.topic(topic) for topic in SOURCES["state"]]))
    async def receive(stream: Any) -> None:
        await follower.caught_up.wait()
        async for events in arrived(stream):
            await worker.take(events)

    async def take_over(*_: Any, **__: Any) -> None:
        """The tables of the partitions that are ours now are restored (by Faust), and all items are known."""
        await follower.caught_up.wait()
        owned = store.partitions()
        tier.counts.writer = min(owned, default=0)
        worker.refresh(tier.resume(lambda user_id: partition_of(user_id.encode(), settings.kafka.partitions) in owned))
        _became_ready("state", health)

    @app.on_partitions_revoked.connect
    async def revoke(*app_and_revoked: Any, **_: Any) -> None:
        health.set_ready("state", False)
        await worker.on_revoke(app_and_revoked[1])

    async def cold_start() -> None:
        await follower.caught_up.wait()
        await worker.serve_cold_start()

    watching: list[Any] = []

    @app.on_partitions_assigned.connect
    async def watch(*_: Any, **__: Any) -> None:
        if not watching:
            watching.append(app.add_future(watch_restore(app)))

    async def close() -> None:
        await worker.close(0 if app.crashed else settings.grace_s / 2)  # crashed: nobody is left to work it off
        await snapshot.save(settings.grace_s / 4)

    app.close = close

    @app.on_rebalance_complete.connect
    async def rebalanced(*_: Any, **__: Any) -> None:
        if follower.caught_up.is_set():
            await ending.guarded(take_over)()

    for task in (
        follower.run,
        partial(snapshot.run, follower.caught_up),
        take_over,
        worker.run,
        worker.store_counts,
        cold_start,
        partial(_look_at_models, tier, settings.ranker.follow_s),
        Watch(app, "state", settings, health, producer).run,
    ):
        app.task(ending.guarded(task))
    return app


def rank_app(
    settings: Settings, serving: Serving, health: Health, ending: Ending, largest: Mapping[str, int]
) -> faust.App:
    """The rank tier: scores, selects, publishes."""
    app = _app(settings, "rank", ending, largest)
    cache = Backfill(settings, ListCache(settings))
    tier = RankTier(settings, *serving.scorers)
    tier.warm_up()
    producer = ReliableProducer(app, largest)
    worker = RankWorker(settings, tier, producer, cache, ThreadPoolExecutor(AT_MODEL, "rank"))
    cast(Transport, app.transport).on_resume = worker.resume

    follower = Follower(settings.kafka, {settings.topic("items"): worker.prepare})

    async def close() -> None:
        await worker.close(0 if app.crashed else settings.grace_s / 2)

    app.close = close

    @app.agent(_raw(app, [settings.topic(topic) for topic in SOURCES["rank"]]))
    async def rank(stream: Any) -> None:
        await follower.caught_up.wait()
        async for event in stream.noack().events():
            await worker.take(event)

    async def prepared() -> None:
        await follower.caught_up.wait()
        _became_ready("rank", health)

    @app.on_partitions_revoked.connect
    async def revoke(*app_and_revoked: Any, **_: Any) -> None:
        health.set_ready("rank", False)
        await worker.on_revoke(app_and_revoked[1])

    @app.on_rebalance_complete.connect
    async def rebalanced(*_: Any, **__: Any) -> None:
        cache.own(tp.partition for tp in app.consumer.assignment())
        if follower.caught_up.is_set():
            health.set_ready("rank", True)

    for task in (
        follower.run,
        prepared,
        worker.run,
        cache.run,
        partial(serving.follow, tier),
        Watch(app, "rank", settings, health, producer).run,
    ):
        app.task(ending.guarded(task))
    return app


def _app(settings: Settings, tier: Tier, ending: Ending, largest: Mapping[str, int]) -> App:
    kafka, tables = settings.kafka, settings.tables
    app = App(
        group_id(settings, tier),
        broker=[f"kafka://{server}" for server in kafka.bootstrap_servers.split(",")],
        broker_credentials=_credentials(kafka),
        broker_session_timeout=kafka.session_timeout_s,
        broker_heartbeat_interval=kafka.heartbeat_s,
        broker_commit_interval=1.0,
        consumer_auto_offset_reset="earliest",
        consumer_metadata_max_age_ms=METADATA_AGE_MS,
        consumer_group_instance_id=f"{kafka.instance_id}-{tier}" if kafka.instance_id else None,
        producer_acks=-1,
        producer_max_request_size=max(largest.values(), default=BROKERS_LARGEST),
        stream_wait_empty=False,  # the workers hand over and drain themselves, in bounded time
        store="memory://" if tables.store == "memory" else "rocksdb://?driver=rocksdict",
        datadir=str(tables.data_dir),
        topic_allow_declare=False,
        topic_partitions=kafka.partitions,
        topic_disable_leader=True,
        table_standby_replicas=0,
        web_enabled=False,
        autodiscover=False,
    )
    transport = app.transport = app.producer_transport = Transport(app, kafka.fetch_wait_ms)
    transport.on_refusal = lambda error: ending.end(no_right(kafka, error))
    return app


def _credentials(kafka: Kafka) -> Any:
    options = client_options(kafka)
    context = options.get("ssl_context")
    if provider := options.get("sasl_oauth_token_provider"):
        return OAuthCredentials(oauth_cb=provider, ssl_context=context)
    if kafka.security.protocol.startswith("SASL"):
        return faust.SASLCredentials(
            username=options["sasl_plain_username"],
            password=options["sasl_plain_password"],
            mechanism=options["sasl_mechanism"],
            ssl_context=context,
        )
    return faust.SSLCredentials(context) if context else None


def _raw(app: faust.App, topics: Sequence[str]) -> Any:
    return app.topic(*topics, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")


def _became_ready(tier: str, health: Health) -> None:
    gc.set_threshold(*COLLECT_AFTER)
    gc.collect()
    gc.freeze()  # models and libraries stay: walking them in every full collection would hold events up for 0.1 s
    health.set_ready(tier, True)
    logger.info("%s: ready", tier)


async def _look_at_models(tier: StateTier, every_s: float) -> None:
    while every_s:
        await asyncio.sleep(every_s)
        with suppress(ModelUnsupported):  # it is being written
            tier.requests.look_at_models()


def _sources(settings: Settings) -> list[Source]:
    """The built-in sources, and the user's own by import path."""
    built_in = {source.name: source for source in BUILT_IN}
    return [built_in[name] if name in built_in else _imported(name) for name in settings.candidates.sources]


def _imported(path: str) -> Source:
    setting, expected = (
        "AFTERCLICK_CANDIDATES__SOURCES",
        f"one of {', '.join(source.name for source in BUILT_IN)} or module:Class",
    )
    found = imported(path, setting, expected)
    try:
        source: Source = found()
    except TypeError as error:
        raise SettingsError(f"{setting}: got {path!r} ({error}), expected {expected}; correct it") from error
    return source


def _cut_off(worker: faust.Worker, grace_s: float) -> None:
    """After SIGTERM Faust drains; what takes longer than the grace period ends here, and Kafka repeats the rest.

    After an error of ours there is nobody to drain.
    """
    while not worker.should_stop:
        time.sleep(0.2)
    time.sleep(CRASH_GRACE_S if worker.crashed else grace_s)
    logger.error("not drained in time; what was not acknowledged will be repeated")
    os._exit(1)

"""A worker process: Faust apps for the roles asked for, their agents, and what surrounds them.

Two apps at the most, one per tier, each its own consumer group: so `all` in one process, or `state` and `rank` in
many, divide the same partitions. Before Faust starts, every topic is there and every model is loaded: a worker that
cannot work stops with one line. Called by the command line.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Literal

import faust
import prometheus_client
from threadpoolctl import threadpool_limits

from encoders.vector_store import StoredEncoder, identity
from ranker import Scorer
from ranker.candidates import BUILT_IN, Source
from ranker.catalogue import Catalogue
from streams import metrics
from streams.follower import Follower
from streams.kafka_client import client_options, partition_of
from streams.models import Models, RemoteEncoder
from streams.outbox import Outbox
from streams.pipeline import RankTier, StateTier, counts_of
from streams.publish import ListCache
from streams.rank_worker import AT_MODEL, RankWorker
from streams.settings import Kafka, Settings, SettingsError
from streams.state_worker import COUNTS, ROUTED, StateWorker
from streams.table_store import TableStore
from streams.topics import DEAD_LETTER_BYTES, USERS_TABLE, app_id, changelog_name, ensure_topics, topic_specs
from streams.transport import Transport, arrived
from streams.users import Users

logger = logging.getLogger(__name__)

Role = Literal["state", "rank", "all"]
LAG_EVERY_S = 1.0


def run(settings: Settings, role: Role) -> int:
    """Work until SIGTERM or SIGINT; the process's exit status.

    Raises
    ------
    SettingsError, TopicError, KafkaUnavailable, ModelNotFound, ModelUnsupported
        Before anything was taken from Kafka.
    """
    asyncio.run(ensure_topics(settings, topic_specs(settings)))
    threadpool_limits(1, "blas")  # numpy's products here are small: a second thread spins more than it computes
    models = Models(
        settings.encoder if role in ("state", "all") else None, settings.ranker if role in ("rank", "all") else None
    )
    apps = []
    if models.encoder:
        apps.append(state_app(settings, models.encoder))
    if role in ("rank", "all"):
        apps.append(rank_app(settings, models.scorer))
    if settings.metrics.port:
        prometheus_client.start_http_server(settings.metrics.port, settings.metrics.host)
    worker = faust.Worker(*apps, override_logging=False, redirect_stdouts=False, quiet=True)
    worker.spinner = None
    threading.Thread(target=_cut_off, args=(worker, settings.grace_s), name="grace", daemon=True).start()
    try:
        worker.execute_from_commandline()
    except SystemExit as stopped:
        return int(stopped.code or 0)
    finally:
        models.close()


def state_app(settings: Settings, encoder: RemoteEncoder) -> faust.App:
    """The state tier: validates, keeps users' states, recalls candidates."""
    app = _app(settings, "state")
    table = app.Table(
        USERS_TABLE,
        key_type=bytes,
        value_type=bytes,
        partitions=settings.kafka.partitions,
        use_partitioner=True,
    )
    tier = StateTier(
        settings,
        Users(table.data, encoder.dim),
        Catalogue(encoder.dim),
        counts_of(settings),
        _sources(settings),
    )
    model = identity(settings.encoder.model, settings.encoder.dtype)
    stored = StoredEncoder(encoder, model, settings.tables.data_dir / "item-vectors.sqlite")
    thread = ThreadPoolExecutor(1, "encode")
    worker = StateWorker(settings, tier, stored, thread, Outbox(app), TableStore(table), changelog_name(settings))
    follower = Follower(
        settings.kafka,
        {settings.topic("items"): worker.put_items, settings.topic(COUNTS): worker.put_counts},
    )
    topics = ("clicks", "purchases", "impressions", "items", "forget", ROUTED)

    @app.agent(_raw(app, [settings.topic(topic) for topic in topics]))
    async def receive(stream: Any) -> None:
        await follower.caught_up.wait()
        async for events in arrived(stream):
            await worker.take(events)

    async def take_over(*_: Any, **__: Any) -> None:
        """The tables of the partitions that are ours now are restored (by Faust), and all items are known."""
        await follower.caught_up.wait()
        owned = {tp.partition for tp in app.consumer.assignment()}
        tier.counts.writer = min(owned, default=0)
        worker.refresh(tier.resume(lambda user_id: partition_of(user_id.encode(), settings.kafka.partitions) in owned))
        _became_ready(app)

    @app.on_partitions_revoked.connect
    async def revoke(*app_and_revoked: Any, **_: Any) -> None:
        await worker.hand_over(app_and_revoked[1])

    @app.on_before_shutdown.connect
    async def drain(*_: Any, **__: Any) -> None:
        await worker.acks.drain(settings.grace_s / 2)

    @app.on_rebalance_complete.connect
    async def rebalanced(*_: Any, **__: Any) -> None:
        if follower.caught_up.is_set():
            await take_over()

    for task in (follower.run, take_over, worker.run, worker.store_counts, partial(_watch_lag, app)):
        app.task(task)
    return app


def rank_app(settings: Settings, scorer: Scorer | None) -> faust.App:
    """The rank tier: scores, selects, publishes."""
    app = _app(settings, "rank")
    cache = ListCache(settings.redis)
    tier = RankTier(settings, scorer)
    tier.warm_up()
    worker = RankWorker(settings, tier, Outbox(app), cache, ThreadPoolExecutor(AT_MODEL, "rank"))

    follower = Follower(settings.kafka, {settings.topic("items"): worker.prepare})

    @app.on_before_shutdown.connect
    async def drain(*_: Any, **__: Any) -> None:
        await worker.acks.drain(settings.grace_s / 2)

    @app.agent(_raw(app, [settings.topic("rank-requests")]))
    async def rank(stream: Any) -> None:
        await follower.caught_up.wait()
        async for event in stream.noack().events():
            await worker.take(event)

    async def prepared() -> None:
        await follower.caught_up.wait()
        _became_ready(app)

    @app.on_partitions_revoked.connect
    async def revoke(*app_and_revoked: Any, **_: Any) -> None:
        worker.drop(app_and_revoked[1])

    for task in (follower.run, prepared, worker.run, cache.retry, partial(_watch_lag, app)):
        app.task(task)
    return app


def _app(settings: Settings, tier: Literal["state", "rank"]) -> faust.App:
    kafka, tables = settings.kafka, settings.tables
    metrics.ready.labels(tier).set(0)
    app = faust.App(
        app_id(settings) if tier == "state" else settings.topic(f"{kafka.group_id}-rank"),
        broker=[f"kafka://{server.strip()}" for server in kafka.bootstrap_servers.split(",")],
        broker_credentials=_credentials(kafka),
        broker_session_timeout=kafka.session_timeout_s,
        broker_heartbeat_interval=kafka.heartbeat_s,
        broker_commit_interval=1.0,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=f"{kafka.instance_id}-{tier}" if kafka.instance_id else None,
        producer_acks=-1,
        producer_max_request_size=DEAD_LETTER_BYTES,
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
    app.transport = Transport(app, kafka.fetch_wait_ms)
    return app


def _credentials(kafka: Kafka) -> Any:
    options = client_options(kafka)
    context = options.get("ssl_context")
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


def _became_ready(app: faust.App) -> None:
    gc.collect()
    gc.freeze()  # models and libraries stay: walking them in every full collection would hold events up for 0.1 s
    metrics.ready.labels(app.conf.id.rsplit("-", 1)[1]).set(1)
    logger.info("%s: ready", app.conf.id)


async def _watch_lag(app: faust.App) -> None:
    while True:
        await asyncio.sleep(LAG_EVERY_S)
        consumer: Any = app.consumer
        committed = app.monitor.tp_committed_offsets
        for tp in consumer.assignment():
            end = consumer.highwater(tp)
            if end is not None and tp.topic not in app.tables.changelog_topics:
                lag = max(0, end - max(committed.get(tp, 0), consumer.committed_at_start.get(tp, 0)))
                metrics.consumer_lag.labels(tp.topic, str(tp.partition)).set(lag)


def _sources(settings: Settings) -> list[Source]:
    """The built-in sources, and the user's own by import path."""
    built_in = {source.name: source for source in BUILT_IN}
    return [built_in[name] if name in built_in else _imported(name) for name in settings.candidates.sources]


def _imported(path: str) -> Source:
    module, _, name = path.partition(":")
    try:
        source: Source = getattr(importlib.import_module(module), name)()
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise SettingsError(
            f"AFTERCLICK_CANDIDATES__SOURCES: got {path!r} ({error}), expected one of "
            f"{', '.join(source.name for source in BUILT_IN)} or module:Class; check that it can be imported"
        ) from error
    return source


def _cut_off(worker: faust.Worker, grace_s: float) -> None:
    """After SIGTERM Faust drains; what takes longer than the grace period ends here, and Kafka repeats the rest."""
    while not worker.should_stop:
        time.sleep(0.2)
    time.sleep(grace_s)
    logger.error("not drained within %g s; what was not acknowledged will be repeated", grace_s)
    os._exit(1)

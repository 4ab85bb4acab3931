"""Check everything that a worker needs: each server, topic and model, with advice for each failure.

The checks change nothing: they create no topic and write no key. They show no secret.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException

from aiokafka.admin import AIOKafkaAdminClient
from rich.table import Column, Table
from rich.text import Text

from streams.commands.doctor import recent_messages, scrape
from streams.kafka import client as kafka_client
from streams.kafka import rights, topics
from streams.publish.backfill import owner_of
from streams.publish.list_cache import ListCache
from streams.publish.redis_refusal import CacheUnavailable
from streams.settings import PREFIX, KafkaSettings, MetricsSettings, RankerSettings, Settings, SettingsError
from streams.state.repeats import ADVICE, MANY


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes
    ----------
    name : str
        What was checked.
    ok : bool
        Whether a worker can work with it.
    found : str
        What is there, in words.
    advice : str
        What to do about it; empty when there is nothing to do.
    """

    name: str
    ok: bool
    found: str
    advice: str = ""


async def examine(settings: Settings) -> list[Check]:
    """Check Kafka, its topics, Redis, the encoder, the ranker and a worker's events. A failed check raises nothing.

    Loading the models takes some seconds.
    """
    return [
        *await _kafka(settings),
        await _redis(settings),
        await asyncio.to_thread(_encoder, settings),
        *[
            await asyncio.to_thread(_ranker, settings.ranker, model)
            for model in (settings.ranker.model, settings.ranker.challenger)
            if model is not None
        ],
        await asyncio.to_thread(_repeats, settings.metrics),
    ]


def render(checks: Sequence[Check]) -> Table:
    """Draw the checks as a table, failures in red."""
    table = Table(*(Column(name, overflow="fold") for name in ("", "check", "found", "what to do")))
    for check in checks:
        mark, style = ("ok", "") if check.ok else ("fails", "red")
        table.add_row(*(Text(text) for text in (mark, check.name, check.found, check.advice)), style=style)
    return table


async def _kafka(settings: Settings) -> list[Check]:
    name = f"Kafka at {settings.kafka.bootstrap_servers}"
    try:
        async with kafka_client.admin(settings.kafka) as admin:
            cluster = await admin.describe_cluster()
            checks = [_brokers(name, cluster, settings.kafka), *await _topics(settings, admin)]
            present = await topics.partitions_by_topic(admin)
        granted = await _rights(settings)
        return [*checks, granted, *(await _messages(settings, present) if granted.ok else [])]
    except (kafka_client.KafkaUnavailable, kafka_client.KafkaRefuses, SettingsError) as error:
        return [
            Check(name, False, "not reachable", str(error)),
            Check("topics", False, "not checked", "make Kafka reachable first"),
        ]


def _brokers(name: str, cluster: dict[str, object], kafka: KafkaSettings) -> Check:
    count = len(list(cluster["brokers"]))  # type: ignore[call-overload]
    found = f"brokers: {count}, cluster {cluster.get('cluster_id')}"
    if kafka.create_topics and kafka.replication_factor > count:
        advice = f"lower {PREFIX}KAFKA__REPLICATION_FACTOR (now {kafka.replication_factor}), or add brokers"
        return Check(name, False, found, advice)
    return Check(name, True, found)


async def _topics(settings: Settings, admin: AIOKafkaAdminClient) -> list[Check]:
    specs = topics.topic_specs(settings)
    present = await topics.partitions_by_topic(admin)
    wrong = await topics.problems_of(admin, specs, present)
    narrow = topics.narrow(specs, await topics.largest_messages(admin, [s.name for s in specs if s.name in present]))
    checks = []
    for spec in specs:
        name = f"topic {spec.name}"
        if spec.name not in present and settings.kafka.create_topics:
            checks.append(Check(name, True, "not there yet", "nothing: the first worker creates it"))
        else:
            count = present.get(spec.name)
            found = f"partitions: {count}" if count else "not there"
            checks.append(Check(name, spec.name not in wrong, found, wrong.get(spec.name, narrow.get(spec.name, ""))))
    return checks


async def _rights(settings: Settings) -> Check:
    """Test each right that a worker of both roles needs, on the topics and groups that exist."""
    refused = await rights.missing(settings, rights.needed(settings, ("state", "rank")))
    advice = "\n".join(rights.describe(settings, right) for right in refused)
    return Check("rights in Kafka", not refused, "a worker needs more" if refused else "enough for both roles", advice)


async def _messages(settings: Settings, present: Mapping[str, int]) -> list[Check]:
    """Check what producers send: the newest messages of each input, and the messages that workers rejected."""
    try:
        findings, letters = await recent_messages.look(settings, present)
    except (kafka_client.KafkaUnavailable, kafka_client.KafkaRefuses) as error:
        return [Check("messages", False, "cannot be read", str(error))]
    checks = []
    for topic, finding in findings.items():
        name = f"messages of {settings.topic(topic)}"
        empty = topic == "items" and finding.whole and not finding.items
        if finding.rejected or finding.coerced or empty:
            text = f"{finding}{'; the catalogue is empty' if empty else ''}"
            advice = "correct the producer, then run: afterclick dead-letters retry" if finding.rejected else ""
            checks.append(Check(name, not finding.too_many, text, "send items" if empty and not advice else advice))
    if letters.causes:
        checks.append(Check("dead letters", True, str(letters), "afterclick dead-letters list shows them"))
    return checks


async def _redis(settings: Settings) -> Check:
    name = f"Redis at {settings.redis.address}"
    with_long_timeout = settings.redis.model_copy(update={"timeout_ms": round(kafka_client.CONNECT_TIMEOUT_S * 1000)})
    cache = ListCache(settings.model_copy(update={"redis": with_long_timeout}))
    owner = None
    with suppress(
        kafka_client.KafkaUnavailable, kafka_client.KafkaRefuses, SettingsError
    ):  # the check of Kafka reports it
        owner = await owner_of(settings)
    try:
        return Check(name, True, await cache.check(owner))
    except (CacheUnavailable, SettingsError) as error:
        return Check(name, False, "cannot be used", str(error))
    finally:
        await cache.close()


def _repeats(metrics: MetricsSettings) -> Check:
    """Ask the worker with these settings. Only a worker knows which events are repeats."""
    name = "repeated events"
    if not metrics.port:
        return Check(name, True, "not checked: AFTERCLICK_METRICS__PORT is 0")
    try:
        samples = scrape.scrape(metrics)
    except (OSError, ValueError, HTTPException) as error:
        found = f"not checked: {scrape.url_of(metrics)}: {error}"
        return Check(name, True, found, "to check it, run doctor with the settings of a running state worker")
    if not any(sample.name == "afterclick_worker_ready" and sample.labels["tier"] == "state" for sample in samples):
        return Check(name, True, f"not checked: no state worker is at {scrape.url_of(metrics)}")
    share = sum(sample.value for sample in samples if sample.name == "afterclick_duplicates_ratio")
    found = f"{share:.1%} of the latest clicks and purchases at {scrape.url_of(metrics)}"
    return Check(name, share <= MANY, found, "" if share <= MANY else ADVICE)


def _encoder(settings: Settings) -> Check:
    from encoders.text.encoder import TextEncoder

    of_encoder = settings.encoder
    name = f"encoder {of_encoder.model}"
    try:
        encoder = TextEncoder(of_encoder.model, of_encoder.device, of_encoder.dtype)
    except Exception as error:  # noqa: BLE001  whatever the loading of a model raises is the result of the check
        return _not_loaded(name, error, "ENCODER")
    placement = encoder.placement
    return Check(name, True, f"{encoder.dim} dimensions, {placement.dtype} on {placement.device}: {placement.reason}")


def _ranker(settings: RankerSettings, model: str) -> Check:
    name = f"ranker {model}"
    if model == "none":
        return Check(name, True, "no model: candidates keep their order, and each list says so")
    from ranker.load import load_scorer
    from ranker.version import version

    try:
        scorer = load_scorer(model, settings.device, settings.dtype)
    except Exception as error:  # noqa: BLE001  whatever the loading of a model raises is the result of the check
        return _not_loaded(name, error, "RANKER")
    placement = scorer.placement
    return Check(name, True, f"{version(scorer.name)}, {placement.dtype} on {placement.device}: {placement.reason}")


def _not_loaded(name: str, error: Exception, group: str) -> Check:
    advice = f"check {PREFIX}{group}__MODEL, {PREFIX}{group}__DEVICE and {PREFIX}{group}__DTYPE"
    return Check(name, False, f"{type(error).__name__}: {error}", advice)

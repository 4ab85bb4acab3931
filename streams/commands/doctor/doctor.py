"""Check everything that a worker needs: each server, topic and model, with advice for each failure.

The checks change nothing: they create no topic and write no key. They show no secret.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from http.client import HTTPException

from aiokafka.admin import AIOKafkaAdminClient

from ranker.rules.reading import RulesError, read
from streams.commands.doctor import recent_messages
from streams.commands.doctor.check import Check, not_loaded
from streams.commands.doctor.reasons import check_reasons, check_wishes
from streams.kafka import client as kafka_client
from streams.kafka import rights, team_topics, topics
from streams.kafka.registry_client import RegistryClient, RegistryUnavailable
from streams.publish.backfill import owner_of
from streams.publish.list_cache import ListCache
from streams.publish.redis_refusal import CacheUnavailable
from streams.receive.schema import is_installed
from streams.settings import (
    PREFIX,
    KafkaSettings,
    MetricsSettings,
    RankerSettings,
    Settings,
    SettingsError,
)
from streams.state.repeats import ADVICE, MANY
from streams.terminal.report import SENTENCE, Field, Report
from streams.worker import scrape


async def examine(settings: Settings) -> list[Check]:
    """Check Kafka, its topics, Redis, the encoder, the ranker and a worker's events. A failed check raises nothing.

    Loading the models takes some seconds.
    """
    of_kafka, texts = await _kafka(settings)
    return [
        *of_kafka,
        *await _schema_registry(settings),
        *_rules(settings),
        *check_reasons(settings.reasons),
        *check_wishes(settings.wishes),
        await _redis(settings),
        await asyncio.to_thread(_encoder, settings, texts),
        *[
            await asyncio.to_thread(_ranker, settings.ranker, model)
            for model in (settings.ranker.model, settings.ranker.challenger)
            if model is not None
        ],
        await asyncio.to_thread(_repeats, settings.metrics),
    ]


def render(checks: Sequence[Check]) -> Report:
    """Draw the checks as a table, failures in red."""
    fields = (Field(""), Field("check"), Field("found", wrap=SENTENCE), Field("what to do", wrap=SENTENCE))
    report = Report(fields, keys=2)
    for check in checks:
        mark, style = ("ok", "") if check.ok else ("fails", "red")
        report.add(mark, check.name, check.found, check.advice, style=style)
    return report


async def _kafka(settings: Settings) -> tuple[list[Check], list[str]]:
    """Check Kafka; also return the texts of the newest items."""
    name = f"Kafka at {settings.kafka.bootstrap_servers}"
    try:
        async with kafka_client.admin(settings.kafka) as admin:
            cluster = await admin.describe_cluster()
            checks = [_brokers(name, cluster, settings.kafka), *await _topics(settings, admin)]
            present = await topics.partitions_by_topic(admin)
        granted = await _rights(settings)
        of_messages, texts = await _messages(settings, present) if granted.ok else ([], [])
        return [*checks, granted, *of_messages], texts
    except (kafka_client.KafkaUnavailable, kafka_client.KafkaRefuses, SettingsError) as error:
        return [
            Check(name, False, "not reachable", str(error)),
            Check("topics", False, "not checked", "make Kafka reachable first"),
        ], []


async def _schema_registry(settings: Settings) -> list[Check]:
    if not settings.kafka.schema_registries:
        return []
    client = RegistryClient(settings.kafka)
    name = f"schema registry at {client.address}"
    try:
        await client.check()
    except (RegistryUnavailable, SettingsError) as error:
        return [Check(name, False, "gives no schemas", str(error))]
    lacks = [package for package in ("fastavro", "google.protobuf") if not is_installed(package)]
    advice = f"pip install 'afterclick[registry]', for {' and '.join(lacks)} is not installed" if lacks else ""
    return [Check(name, not lacks, "answers", advice)]


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
    lacking = team_topics.missing(settings, present)
    for topic, inputs in team_topics.inputs_by_topic(settings).items():
        count = present.get(topic)
        found = f"yours, read as {', '.join(inputs)}; partitions: {count}" if count else "not there"
        checks.append(Check(f"topic {topic}", topic not in lacking, found, lacking.get(topic, "")))
    return checks


async def _rights(settings: Settings) -> Check:
    """Test each right that a worker of both roles needs, on the topics and groups that exist."""
    refused = await rights.missing(settings, rights.needed(settings, ("state", "rank")))
    advice = "\n".join(rights.describe(settings, right) for right in refused)
    return Check("rights in Kafka", not refused, "a worker needs more" if refused else "enough for both roles", advice)


async def _messages(settings: Settings, present: Mapping[str, int]) -> tuple[list[Check], list[str]]:
    """Check the newest messages of each input, and those that workers rejected; also return the texts of the items."""
    try:
        findings, letters = await recent_messages.look(settings, present)
    except (kafka_client.KafkaUnavailable, kafka_client.KafkaRefuses) as error:
        return [Check("messages", False, "cannot be read", str(error))], []
    checks = []
    sent = Counter[str]()
    for finding in findings.values():
        sent += finding.messages
    lack_items = any(sent[topic] for topic in ("clicks", "purchases", "events")) and not sent["items"]
    for topic, finding in findings.items():
        empty = topic == settings.topic("items") and finding.whole and not finding.items
        if finding.mapped or finding.rejected or finding.coerced or empty:
            text = f"{finding}{'; the catalogue is empty' if empty else ''}"
            advice = "send items, or let [topics.items] name a topic of yours that has them" if empty else ""
            if finding.rejected:
                advice = "correct the producer, then run: afterclick dead-letters retry"
            if finding.mapped and (finding.rejected or finding.useless):
                advice = f"correct [topics.…] by what this shows: afterclick map {topic}"
            ok = not (finding.too_many or finding.useless or (empty and lack_items))
            checks.append(Check(f"messages of {topic}", ok, text, advice))
    if letters.causes:
        checks.append(Check("dead letters", True, str(letters), "afterclick dead-letters list shows them"))
    return checks, [text for finding in findings.values() for text in finding.items.values()]


def _rules(settings: Settings) -> list[Check]:
    """Check the file of rules. A running worker keeps the rules that it has when the file cannot be used."""
    if settings.rules is None:
        return []
    name = f"rules {settings.rules}"
    try:
        return [Check(name, True, f"rules: {len(read(settings.rules).rules)}")]
    except RulesError as error:
        return [Check(name, False, "cannot be used; a running worker keeps the rules before them", str(error))]


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


def _encoder(settings: Settings, texts: Sequence[str]) -> Check:
    """Check the encoder, and whether it reads these texts of items."""
    from encoders.text.encoder import TextEncoder
    from streams.models.process import TokenCount
    from streams.state.catalogue_languages import MIN_ITEMS, SAMPLE, readability

    of_encoder = settings.encoder
    name = f"encoder {of_encoder.model}"
    sample = list(dict.fromkeys(texts))[:SAMPLE]
    try:
        encoder = TextEncoder(of_encoder.model, of_encoder.device, of_encoder.dtype)
        enough = len(sample) >= MIN_ITEMS
        read = readability(TokenCount(*encoder.tokens.count(sample)), encoder.encode(sample)) if enough else None
    except Exception as error:  # noqa: BLE001  whatever the loading of a model raises is the result of the check
        return not_loaded(name, error, "ENCODER")
    placement = encoder.placement
    found = f"{encoder.dim} dimensions, {placement.dtype} on {placement.device}: {placement.reason}"
    return Check(name, True, f"{found}; it {read}", read.advice) if read and read.advice else Check(name, True, found)


def _ranker(settings: RankerSettings, model: str) -> Check:
    name = f"ranker {model}"
    if model == "none":
        return Check(name, True, "no model: candidates keep their order, and each list says so")
    from ranker.load import load_scorer, sanity_of
    from ranker.version import version
    from streams.models.remote.servers import RerankServers

    try:
        with closing(RerankServers(settings, must_answer=True)) as servers:
            scorer = load_scorer(
                model, settings.device, settings.dtype, require_sane=settings.require_sane, connect=servers
            )
            sanity = sanity_of(model, scorer)
    except Exception as error:  # noqa: BLE001  whatever the loading of a model raises is the result of the check
        return not_loaded(name, error, "RANKER")
    placement = scorer.placement
    found = f"{version(scorer.name)}, {placement.dtype} on {placement.device}: {placement.reason}"
    return Check(name, True, f"{found}; {sanity}", sanity.advice) if sanity else Check(name, True, found)

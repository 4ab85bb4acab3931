"""`afterclick map`: read the newest records of a topic, and say what each becomes or why not.

Reads without a consumer group, commits nothing and writes nothing. A mapping may be tried before it goes live: from the
TOML file, or from a profile. For a topic that nothing is configured for, it lists the fields and proposes a mapping.
"""

from __future__ import annotations

import difflib
import time
from dataclasses import dataclass, field
from typing import Any

import msgspec

from streams.commands.mapping.outcomes import REJECTED, Outcome, judge
from streams.commands.mapping.proposal import UNKNOWN, propose
from streams.commands.mapping.survey import FoundField, survey
from streams.kafka import client as kafka_client
from streams.kafka.newest_records import newest_records
from streams.kafka.record_reader import RecordReader
from streams.kafka.topics import INPUTS, TopicError, partitions_by_topic, topic_specs
from streams.receive import wire_formats
from streams.receive.message import BadMessage
from streams.settings import Settings
from streams.settings.topics import MAPPED_INPUTS, TopicsSettings, profile_sources

TIME_LIMIT_S = 30.0
"""The longest that reading may take; chosen by us, because a person waits."""
TOPICS_SHOWN = 10


@dataclass
class MappingReport:
    """What the newest records of a topic are.

    Attributes
    ----------
    topic : str
        The full name.
    partitions : int
        How many it has.
    records : int
        How many were read.
    first_ms, last_ms : int
        Times of the oldest and the newest record that were read, in milliseconds since the epoch.
    outcomes : list of Outcome
        By the configured mappings, or by the proposed ones.
    fields : list of FoundField
        Of a topic that nothing is configured for.
    proposed : dict of str to dict
        Likewise: input -> the table to start from.
    unreadable : dict of str to int
        Likewise: what records are that are no JSON -> how many.
    """

    topic: str
    partitions: int
    records: int = 0
    first_ms: int = 0
    last_ms: int = 0
    outcomes: list[Outcome] = field(default_factory=list)
    fields: list[FoundField] = field(default_factory=list)
    proposed: dict[str, dict[str, Any]] = field(default_factory=dict)
    unreadable: dict[str, int] = field(default_factory=dict)

    @property
    def is_configured(self) -> bool:
        """Whether a mapping or the contract says what the records are."""
        return not (self.fields or self.proposed or self.unreadable)

    @property
    def all_well(self) -> bool:
        """Whether no record is rejected, and at least one is taken."""
        return not any(one.name == REJECTED for one in self.outcomes) and any(one.messages for one in self.outcomes)


async def examine(settings: Settings, topic: str, sample: int, profile: str | None) -> MappingReport:
    """Read the newest records of a topic, and judge them.

    Parameters
    ----------
    settings : Settings
        With the mappings to try.
    topic : str
        The full name in Kafka.
    sample : int
        How many records to read.
    profile : str, optional
        The ready-made mapping to try instead of what the settings say of this topic.

    Raises
    ------
    streams.kafka.topics.TopicError
        Kafka has no such topic.
    streams.settings.SettingsError
        There is no such profile.
    streams.kafka.client.KafkaUnavailable, streams.kafka.client.KafkaRefuses
        Kafka does not answer, or does not let us read.
    """
    if profile:
        found = profile_sources(profile, topic)
        settings = with_tables(settings, {name: [source] for name, source in found.items()})
    partitions, records = await _newest(settings, topic, sample)
    times = [record.timestamp for record in records] or [0]
    report = MappingReport(topic, partitions, len(records), min(times), max(times))
    reader = RecordReader(settings)
    if reader.is_mapped(topic) or topic in map(settings.topic, INPUTS):
        report.outcomes = await judge(reader, records, _chosen_by(settings, topic))
        return report
    await reader.prepare(records, wait=False)
    decoded = _decoded(reader, records, report.unreadable)
    report.fields = survey(decoded)
    report.proposed = propose(topic, decoded)
    if report.proposed and UNKNOWN not in str(report.proposed):
        trial = with_tables(settings, {name: [table] for name, table in report.proposed.items()})
        report.outcomes = await judge(RecordReader(trial), records, _chosen_by(trial, topic))
    return report


def with_tables(settings: Settings, tables: dict[str, list[Any]]) -> Settings:
    """Return settings that have only these tables of `[topics]`."""
    return settings.model_copy(update={"topics": TopicsSettings.model_validate(tables)})


def _chosen_by(settings: Settings, topic: str) -> list[str]:
    """Return the paths by which the mappings of a topic choose records."""
    tables = (source for name in MAPPED_INPUTS for source in settings.topics.of(name) if source.name == topic)
    return list(dict.fromkeys(path for source in tables for path in source.where))


async def _newest(settings: Settings, topic: str, sample: int) -> tuple[int, list[Any]]:
    """Return the number of partitions, and the newest records, oldest first."""
    async with kafka_client.admin(settings.kafka) as admin:
        present = await partitions_by_topic(admin)
    if topic not in present:
        ours = {name for name in present if name.startswith("__")} | {one.name for one in topic_specs(settings)}
        others = sorted(present.keys() - ours)
        near = difflib.get_close_matches(topic, others, n=3) or others[:TOPICS_SHOWN]
        raise TopicError(
            f"topic {topic}: got none (or none with leaders), expected its full name in Kafka; there are "
            f"{', '.join(near) or 'no topics'}"
        )
    records: list[Any] = []
    consumer = kafka_client.consumer(settings.kafka, group_id=None)
    deadline = time.monotonic() + TIME_LIMIT_S
    async with kafka_client.started(consumer, settings.kafka):
        async for batch, _ in newest_records(consumer, topic, present[topic], sample, deadline):
            records += batch
    return present[topic], sorted(records, key=lambda record: record.timestamp)[-sample:]


def _decoded(reader: RecordReader, records: list[Any], unreadable: dict[str, int]) -> list[Any]:
    """Return the values of the records that are JSON objects; count what the others are."""
    decoded = []
    for record in records:
        value: bytes | None = record.value
        try:
            value = reader.json_of(record)
            one = None if value is None else msgspec.json.decode(value.removeprefix(wire_formats.BOM))
        except BadMessage as error:
            unreadable[error.cause] = unreadable.get(error.cause, 0) + 1
            continue
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            what = (wire_formats.of_bytes(value or b"") or "no JSON").partition(";")[0]
            unreadable[what] = unreadable.get(what, 0) + 1
            continue
        if isinstance(one, dict):
            decoded.append(one)
        else:
            what = "a null value" if one is None else "JSON, but no object"
            unreadable[what] = unreadable.get(what, 0) + 1
    return decoded

"""`afterclick topics`: print the topics, compare a cluster's with them, or make a cluster's like them.

For teams whose workers may not create topics (`kafka.create_topics` off). Knows no message.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from enum import Enum
from typing import Any

from rich.console import Console

from streams.kafka import client as kafka_client
from streams.kafka import topic_changes
from streams.kafka.team_topics import inputs_by_topic, missing
from streams.kafka.topic_changes import TopicDifference
from streams.kafka.topic_creation import BROKERS_OWN
from streams.kafka.topics import full_config, partitions_by_topic, topic_specs
from streams.settings import Settings
from streams.terminal.report import SENTENCE, Field, Report, show


class Action(str, Enum):
    """What `afterclick topics` does."""

    print = "print"
    diff = "diff"
    apply = "apply"


async def run(settings: Settings, action: Action, as_json: bool, console: Console) -> bool:
    """Do it, and return whether the cluster has every topic as it must be (`print`, which asks none: true).

    Raises
    ------
    streams.kafka.client.KafkaUnavailable
        Kafka does not answer.
    streams.kafka.topics.TopicError
        Kafka refuses.
    """
    if action is Action.print:
        rows = described(settings)
        _show(console, rows, as_json, topics_table(rows))
        return True
    specs = topic_specs(settings)
    async with kafka_client.admin(settings.kafka) as admin:
        if action is Action.apply:
            changed, left = await topic_changes.apply(admin, settings, specs)
        else:
            changed, left = [], await topic_changes.differences(admin, settings, specs)
        lacking = missing(settings, await partitions_by_topic(admin))
    left += [
        TopicDifference(name, topic_changes.TOPIC, "none", "a topic of yours", "create it, or correct its name")
        for name in lacking
    ]
    rows = [{"changed": True} | asdict(one) for one in changed] + [{"changed": False} | asdict(one) for one in left]
    _show(console, rows, as_json, differences_table(changed, left))
    return not left


def described(settings: Settings) -> list[dict[str, Any]]:
    """Return every topic as `--json` prints it: name, partitions, replicas (null: the broker's default), settings.

    A topic of the team's has the inputs that it is `read_as`, and no figures: workers neither create nor change it.
    """
    replicas = settings.kafka.replication_factor
    ours = [
        {
            "topic": spec.name,
            "input": spec.is_input,
            "partitions": spec.partitions,
            "replicas": None if replicas == BROKERS_OWN else replicas,
            "config": full_config(settings, spec),
        }
        for spec in topic_specs(settings)
    ]
    return ours + [
        {"topic": topic, "input": True, "partitions": None, "replicas": None, "config": {}, "read_as": inputs}
        for topic, inputs in inputs_by_topic(settings).items()
    ]


def _show(console: Console, rows: Sequence[dict[str, Any]], as_json: bool, table: Report | None) -> None:
    if as_json:
        console.out(json.dumps(rows, indent=2), highlight=False)
    elif table is None:
        console.print("every topic is there, and as it must be")
    else:
        show(table, console=console)


def topics_table(rows: Sequence[dict[str, Any]]) -> Report:
    """Draw every topic with its settings."""
    fields = (Field("topic"), Field("written by"), Field("partitions", number=True), Field("replicas"))
    table = Report((*fields, Field("settings", wrap=SENTENCE)))
    for row in rows:
        config = " ".join(f"{key}={value}" for key, value in row["config"].items())
        by = "you" if row["input"] else "workers"
        replicas = str(row["replicas"] or "broker's default")
        if "read_as" in row:  # a topic of the team's
            replicas, config = "yours", f"read as {', '.join(row['read_as'])}"
        table.add(row["topic"], by, str(row["partitions"] or "any"), replicas, config)
    table.caption = "A topic that you write may have any number of partitions."
    return table


def differences_table(changed: Sequence[TopicDifference], left: Sequence[TopicDifference]) -> Report | None:
    """Draw what was changed and what is different; None if nothing is."""
    if not changed and not left:
        return None
    fields = [Field(heading, wrap=SENTENCE) for heading in ("got", "expected", "what --apply does")]
    table = Report((Field("topic"), Field("what"), *fields), keys=2)
    for one in changed:
        table.add(one.topic, one.what, one.got, one.expected, "changed")
    for one in left:
        note = f"leaves it: {one.kept}" if one.kept else "changes it"
        table.add(one.topic, one.what, one.got, one.expected, note)
    return table

"""`afterclick topics` on Apache Kafka: what it prints, finds, creates, alters, and leaves as it is."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic  # type: ignore[attr-defined]
from rich.console import Console

from streams.commands.topics import Action, described, run
from streams.kafka import client as kafka_client
from streams.kafka import topic_changes
from streams.kafka.topic_changes import TopicDifference
from streams.kafka.topic_mending import mend
from streams.kafka.topics import TopicError, ensure_topics, topic_specs
from streams.settings import Settings


def topics(settings: Settings, action: Action) -> tuple[bool, list[dict[str, Any]]]:
    """Run the command with `--json`: whether all is as it must be, and the rows."""
    console = Console(file=StringIO())
    done = asyncio.run(run(settings, action, True, console))
    assert isinstance(console.file, StringIO)
    return done, json.loads(console.file.getvalue())


def create(settings: Settings, name: str, partitions: int, **config: str) -> None:
    settings_of_kafka = {key.replace("_", "."): value for key, value in config.items()}
    new = NewTopic(settings.topic(name), partitions, 1, config=settings_of_kafka)
    client = AdminClient({"bootstrap.servers": settings.kafka.bootstrap_servers})
    client.create_topics([new])[settings.topic(name)].result(10)


def config(settings: Settings, name: str) -> dict[str, str]:
    resource = ConfigResource(ConfigResource.Type.TOPIC, settings.topic(name))
    client = AdminClient({"bootstrap.servers": settings.kafka.bootstrap_servers})
    return {key: entry.value for key, entry in client.describe_configs([resource])[resource].result(10).items()}


def produce(settings: Settings, name: str) -> None:
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers})
    producer.produce(settings.topic(name), key="k", value="{}")
    assert producer.flush(10) == 0


def partitions(settings: Settings) -> dict[str, int]:
    client = AdminClient({"bootstrap.servers": settings.kafka.bootstrap_servers})
    found = client.list_topics(timeout=10).topics
    return {n.removeprefix(settings.topic_prefix): len(t.partitions) for n, t in found.items()}


def start(settings: Settings) -> None:
    """Do what a worker does at its start."""
    asyncio.run(mend(settings, topic_specs(settings)))
    asyncio.run(ensure_topics(settings, topic_specs(settings)))


def test_what_is_printed_is_what_a_worker_would_create(settings: Settings) -> None:
    done, rows = topics(settings, Action.print)
    assert done
    assert rows == described(settings)
    assert [row["topic"] for row in rows] == [spec.name for spec in topic_specs(settings)]
    assert {row["partitions"] for row in rows} == {4}


def test_topics_that_a_worker_created_differ_in_nothing(settings: Settings) -> None:
    asyncio.run(ensure_topics(settings, topic_specs(settings)))
    assert topics(settings, Action.diff) == (True, [])


def test_apply_creates_all_that_a_worker_without_the_right_needs(settings: Settings) -> None:
    done, rows = topics(settings, Action.diff)
    assert not done
    assert {(row["what"], row["got"]) for row in rows} == {("topic", "none")}
    done, rows = topics(settings, Action.apply)
    assert done
    assert all(row["changed"] for row in rows)
    assert topics(settings, Action.diff) == (True, [])
    no_right = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"create_topics": False})})
    asyncio.run(ensure_topics(no_right, topic_specs(settings)))


def test_apply_alters_what_is_safe_and_keeps_the_owners_settings(settings: Settings) -> None:
    create(settings, "recommendations", 4, cleanup_policy="compact", segment_ms="3600000")
    create(settings, "items", 7, cleanup_policy="delete", retention_ms="5000000")
    assert topics(settings, Action.apply)[0]
    lists = config(settings, "recommendations")
    assert (lists["max.compaction.lag.ms"], lists["segment.bytes"]) == ("86400000", str(128 << 20))
    assert lists["segment.ms"] == "3600000", "AlterConfigs would have removed it"
    assert (config(settings, "items")["cleanup.policy"], config(settings, "items")["retention.ms"]) == (
        "compact",
        "5000000",
    )


def test_apply_leaves_what_would_delete_messages_move_users_or_stop_writes(settings: Settings) -> None:
    create(settings, "dead-letters", 4, retention_ms="-1", max_message_bytes=str(9 << 20))
    create(settings, "item-counts", 2, cleanup_policy="compact")
    produce(settings, "item-counts")
    create(settings, "clicks", 3, cleanup_policy="compact")
    asyncio.run(ensure_topics(settings, [spec for spec in topic_specs(settings) if spec.name.endswith("forget")]))
    done, rows = topics(settings, Action.apply)
    assert not done
    left = {(row["topic"].removeprefix(settings.topic_prefix), row["what"]): row for row in rows if not row["changed"]}
    assert set(left) == {
        ("dead-letters", "retention.ms"),
        ("item-counts", "partitions"),
        ("clicks", "cleanup.policy"),
    }
    assert all(row["kept"] for row in left.values())
    assert config(settings, "dead-letters")["retention.ms"] == "-1"
    assert config(settings, "dead-letters")["max.message.bytes"] == str(9 << 20), "larger than needed is right"
    assert config(settings, "clicks")["cleanup.policy"] == "compact"
    assert topics(settings, Action.diff) == (False, list(left.values()))


def test_a_setting_that_the_broker_refuses_stays_and_the_others_are_altered(settings: Settings) -> None:
    create(settings, "routed-events", 4)
    (spec,) = (spec for spec in topic_specs(settings) if spec.name == settings.topic("routed-events"))
    odd = replace(spec, config={**spec.config, "max.compaction.lag.ms": "0"})  # Kafka takes 1 or more

    async def apply() -> tuple[list[TopicDifference], list[TopicDifference]]:
        async with kafka_client.admin(settings.kafka) as admin:
            return await topic_changes.apply(admin, settings, [odd])

    changed, left = asyncio.run(apply())
    assert {one.what for one in changed} == {"message.timestamp.type"}
    assert [one.what for one in left] == ["max.compaction.lag.ms"]
    assert left[0].kept.startswith("the broker refuses it (Invalid value 0")
    assert config(settings, "routed-events")["message.timestamp.type"] == "LogAppendTime"


def test_too_few_replicas_are_named_and_do_not_raise_min_insync_replicas(settings: Settings) -> None:
    specs = topic_specs(settings)
    asyncio.run(ensure_topics(settings, [replace(spec) for spec in specs]))
    three = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"replication_factor": 3})})
    done, rows = topics(three, Action.apply)
    assert not done
    assert {row["what"] for row in rows} == {"replicas", "min.insync.replicas"}
    assert not any(row["changed"] for row in rows)
    assert config(settings, "recommendations")["min.insync.replicas"] == "1"


@pytest.mark.parametrize("by_command", [False, True])
def test_topics_that_kafka_made_by_itself_are_mended(
    settings: Settings, by_command: bool, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("clicks", "items", "recommendations", "rank-requests"):
        create(settings, name, 1)  # as `auto.create.topics.enable` does: one partition, no setting
    produce(settings, "clicks")
    produce(settings, "items")
    if by_command:
        no_right = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"create_topics": False})})
        with pytest.raises(TopicError) as refusal:
            start(no_right)
        assert str(refusal.value).count("run `afterclick topics --apply`") == 3
        assert topics(settings, Action.apply)[0]
        caplog.clear()
        start(no_right)
    else:
        with caplog.at_level("INFO"):
            start(settings)
        lines = [line.replace(settings.topic_prefix, "") for line in caplog.messages]
        assert "topic recommendations was created by Kafka itself: partitions is now 4, it was 1" in lines
        assert "topic items was created by Kafka itself: cleanup.policy is now compact, it was delete" in lines
        assert [line for line in lines if "clicks has one partition" in line and "--partitions 4" in line]
    assert {partitions(settings)[name] for name in ("recommendations", "rank-requests", "dead-letters")} == {4}
    assert partitions(settings)["clicks"] == 1
    assert topics(settings, Action.diff) == (True, [])


def test_a_topic_in_which_users_would_move_is_never_mended(settings: Settings) -> None:
    for name in ("rank-requests", "recommendations"):
        create(settings, name, 1)
    produce(settings, "rank-requests")
    with pytest.raises(TopicError, match="got 1 partitions, expected 4"):
        start(settings)
    assert not topics(settings, Action.apply)[0]
    assert {partitions(settings)[name] for name in ("rank-requests", "recommendations")} == {1}


def test_a_wrong_setting_does_not_add_partitions_to_the_topics_of_an_installation(settings: Settings) -> None:
    start(settings)
    wrong = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"partitions": 6})})
    with pytest.raises(TopicError, match="got 4 partitions, expected 6"):
        start(wrong)
    assert {partitions(settings)[name] for name in ("rank-requests", "recommendations")} == {4}

"""Topics on Apache Kafka: created as specified, left unchanged if right, refused in one line if wrong."""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import replace

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource  # type: ignore[attr-defined]

from streams.kafka import client as kafka_client
from streams.kafka.client import KafkaUnavailable
from streams.kafka.topics import INPUTS, TopicError, TopicSpec, changelog_name, ensure_topics, topic_specs
from streams.settings import KafkaSettings, Settings


def ensure(settings: Settings, needed: list[TopicSpec]) -> None:
    asyncio.run(ensure_topics(settings, needed))


def changed(settings: Settings, **kafka: object) -> Settings:
    return settings.model_copy(update={"kafka": settings.kafka.model_copy(update=kafka)})


def admin(settings: Settings) -> AdminClient:
    return AdminClient({"bootstrap.servers": settings.kafka.bootstrap_servers})


def config(settings: Settings, topic: str) -> dict[str, str]:
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    client = admin(settings)  # its answers end with it
    entries = client.describe_configs([resource])[resource].result(10)
    return {name: entry.value for name, entry in entries.items()}


def test_every_topic_is_created_as_specified_and_a_second_start_changes_nothing(settings: Settings) -> None:
    specs = topic_specs(settings)
    ensure(settings, specs)
    ensure(settings, specs)
    topics = admin(settings).list_topics(timeout=10).topics
    assert {name: len(topics[name].partitions) for name in topics if name.startswith(settings.topic_prefix)} == {
        spec.name: 4 for spec in specs
    }


def test_workers_that_start_together_do_not_collide(settings: Settings) -> None:
    async def together() -> None:
        specs = topic_specs(settings)
        await asyncio.gather(*(ensure_topics(settings, specs) for _ in range(4)))

    asyncio.run(together())


@pytest.mark.parametrize(
    ("name", "cleanup"),
    [
        ("clicks", "delete"),
        ("items", "compact"),
        ("recommendations", "compact"),
        ("item-counts", "compact"),
        ("rank-requests", "compact,delete"),
    ],
)
def test_a_topic_has_its_cleanup_policy(settings: Settings, name: str, cleanup: str) -> None:
    ensure(settings, topic_specs(settings))
    assert config(settings, settings.topic(name))["cleanup.policy"] == cleanup


def test_the_changelog_is_compacted_and_dead_letters_may_be_large(settings: Settings) -> None:
    ensure(settings, topic_specs(settings))
    assert config(settings, changelog_name(settings))["cleanup.policy"] == "compact"
    assert int(config(settings, settings.topic("dead-letters"))["max.message.bytes"]) >= 2 << 20


def test_a_wrong_number_of_partitions_is_refused_before_any_topic_is_created(settings: Settings) -> None:
    specs = topic_specs(settings)
    ours = next(spec for spec in specs if spec.name == settings.topic("rank-requests"))
    ensure(settings, [replace(ours, partitions=3)])
    with pytest.raises(TopicError) as caught:
        ensure(settings, specs)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"topic {ours.name}: got 3 partitions, expected 4")
    assert specs[0].name not in admin(settings).list_topics(timeout=10).topics


def test_an_input_may_have_any_number_of_partitions(settings: Settings) -> None:
    specs = topic_specs(settings)
    inputs = [replace(spec, partitions=number + 1) for number, spec in enumerate(specs) if spec.is_input]
    ensure(settings, inputs)
    ensure(settings, specs)
    assert {spec.name.removeprefix(settings.topic_prefix) for spec in inputs} == set(INPUTS)


def test_a_topic_that_would_lose_messages_is_refused(settings: Settings) -> None:
    name = settings.topic("items")
    ensure(settings, [TopicSpec(name, compacted=False, partitions=4)])
    with pytest.raises(TopicError, match=rf"^topic {name}: got cleanup.policy=delete, expected compact"):
        ensure(settings, topic_specs(settings))


def test_with_default_settings_kafkas_message_size_is_enough(settings: Settings) -> None:
    specs = topic_specs(settings)
    plain = [replace(spec, config={k: v for k, v in spec.config.items() if k != "max.message.bytes"}) for spec in specs]
    ensure(settings, plain)
    forbidden = changed(settings, create_topics=False)
    largest = asyncio.run(ensure_topics(forbidden, specs))
    assert largest == {spec.name: 1_048_588 for spec in specs}
    assert {spec.name for spec in specs if "max.message.bytes" in spec.config} == {settings.topic("dead-letters")}


def test_topics_that_take_larger_messages_are_accepted(settings: Settings) -> None:
    specs = topic_specs(settings)
    wide = {"max.message.bytes": str(32 << 20)}
    ensure(settings, [replace(spec, config={**spec.config, **wide}) for spec in specs])
    assert asyncio.run(ensure_topics(settings, specs)) == {spec.name: 32 << 20 for spec in specs}


def test_long_lists_and_many_candidates_set_the_message_size_and_warn_where_it_is_smaller(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    roomy = settings.model_copy(
        update={
            "candidates": settings.candidates.model_copy(update={"limit": 1_000}),
            "ranker": settings.ranker.model_copy(update={"list_size": 500}),
        }
    )
    specs = topic_specs(roomy)
    asked = {spec.name: spec.largest for spec in specs if spec.largest}
    assert list(asked) == [settings.topic("rank-requests"), settings.topic("recommendations")]
    assert all(1 << 20 < size < 9 << 20 for size in asked.values())
    assert asyncio.run(ensure_topics(roomy, specs)).items() >= asked.items()
    assert caplog.messages == []
    others = roomy.model_copy(update={"topic_prefix": f"{settings.topic_prefix}narrow."})
    ensure(
        changed(others),
        topic_specs(others.model_copy(update={"ranker": settings.ranker, "candidates": settings.candidates})),
    )
    ensure(others, topic_specs(others))
    assert [message.split(" for ")[0] for message in caplog.messages] == [
        f"topic {others.topic(name)}: got max.message.bytes=1048588, expected {asked[settings.topic(name)]}"
        for name in ("rank-requests", "recommendations")
    ]


def test_a_changelog_too_small_for_a_state_is_refused(settings: Settings) -> None:
    specs = topic_specs(settings)
    narrow = replace(specs[-1], config={**specs[-1].config, "max.message.bytes": "100000"})
    ensure(settings, [replace(narrow, least=0)])
    with pytest.raises(TopicError, match=rf"^topic {narrow.name}: got max.message.bytes=100000, expected at least"):
        ensure(settings, specs)


def test_the_brokers_default_replication_can_be_used(settings: Settings) -> None:
    ensure(changed(settings, replication_factor=-1), topic_specs(settings))
    assert len(admin(settings).list_topics(timeout=10).topics[settings.topic("clicks")].partitions[0].replicas) == 1


def test_more_replicas_than_brokers_is_refused(settings: Settings) -> None:
    with pytest.raises(TopicError, match=r"^AFTERCLICK_KAFKA__REPLICATION_FACTOR: got 99, expected at most"):
        ensure(changed(settings, replication_factor=99), topic_specs(settings))


def test_with_creation_off_each_missing_topic_has_its_line(settings: Settings) -> None:
    specs = topic_specs(settings)
    ensure(settings, specs[1:])
    forbidden = changed(settings, create_topics=False)
    with pytest.raises(TopicError) as caught:
        ensure(forbidden, specs)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"topic {specs[0].name}: got none (or none with leaders), expected 4 partitions")
    ensure(settings, specs)
    ensure(forbidden, specs)


def test_a_kafka_that_never_answers_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_client, "CONNECT_TIMEOUT_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = Settings(kafka=KafkaSettings(bootstrap_servers=f"127.0.0.1:{silent.getsockname()[1]}"))
        before = time.monotonic()
        with pytest.raises(KafkaUnavailable, match="AFTERCLICK_KAFKA__BOOTSTRAP_SERVERS"):
            ensure(settings, topic_specs(settings))
        assert time.monotonic() - before < 5

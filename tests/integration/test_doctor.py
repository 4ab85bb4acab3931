"""The doctor on Apache Kafka and a real Redis: it finds existing topics, and what is wrong with a topic."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from streams.commands.doctor import doctor
from streams.kafka import topics
from streams.settings import RankerSettings, Settings
from tests.client import Client


def test_the_doctor_sees_topics_become_right_and_wrong(settings: Settings) -> None:
    settings = settings.model_copy(update={"ranker": RankerSettings(model="none")})
    specs = topics.topic_specs(settings)
    input_, ours = (next(spec for spec in specs if spec.is_input is is_input) for is_input in (True, False))
    asyncio.run(
        topics.ensure_topics(settings, [replace(ours, partitions=2), *(spec for spec in specs if spec != ours)])
    )
    found = {check.name: check for check in asyncio.run(doctor.examine(settings))}
    assert "expected 4" in found[f"topic {ours.name}"].advice
    assert [name for name, check in found.items() if not check.ok] == [f"topic {ours.name}"]
    assert found[f"topic {input_.name}"].found == "partitions: 4"


def test_events_without_a_catalogue_are_a_failure(settings: Settings) -> None:
    settings = settings.model_copy(update={"ranker": RankerSettings(model="none")})
    client = Client(settings)
    checks = {check.name: check for check in asyncio.run(doctor.examine(settings))}
    items = f"messages of {settings.topic('items')}"
    assert checks[items].ok
    client.click("ann", "item-1")
    client.flush()
    checks = {check.name: check for check in asyncio.run(doctor.examine(settings))}
    assert not checks[items].ok
    assert "send items" in checks[items].advice
    for number in range(60):
        title = f"\u7ea2\u8272\u767b\u5c71\u978b {number}"  # red hiking boots
        client.produce("items", f"item-{number}", {"item_id": f"item-{number}", "title": title})
    client.flush()
    checks = {check.name: check for check in asyncio.run(doctor.examine(settings))}
    encoder = checks[f"encoder {settings.encoder.model}"]
    assert "of the tokens of the catalogue" in encoder.found
    assert "such as sentence-transformers/" in encoder.advice


def test_a_missing_topic_that_nobody_creates_is_a_failure(settings: Settings) -> None:
    kafka = settings.kafka.model_copy(update={"create_topics": False})
    settings = settings.model_copy(update={"ranker": RankerSettings(model="none"), "kafka": kafka})
    failures = [check for check in asyncio.run(doctor.examine(settings)) if not check.ok]
    assert [check.name for check in failures] == [f"topic {spec.name}" for spec in topics.topic_specs(settings)]
    assert all("create it" in check.advice for check in failures)

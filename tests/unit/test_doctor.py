"""The doctor: each failure has advice, no failure hides the next check, and no secret is shown."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from pydantic import SecretStr
from rich.console import Console

import encoders.text
import ranker
from streams import doctor
from streams.doctor import Check
from streams.embedded import PARTITIONS, EmbeddedKafka, EmbeddedRedis, free_port
from streams.settings import Encoder, Kafka, Ranker, Redis, Settings

PLACEMENT = SimpleNamespace(device="cpu", dtype="float32", reason="no accelerator")


@pytest.fixture(autouse=True)
def _no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(model: str, device: str, dtype: str) -> SimpleNamespace:
        if model == "broken":
            raise OSError("no such model")
        return SimpleNamespace(placement=PLACEMENT, dim=384, name="bi-encoder")

    monkeypatch.setattr(encoders.text, "TextEncoder", load)
    monkeypatch.setattr(ranker, "load_scorer", load)


def examine(settings: Settings) -> dict[str, Check]:
    """Run all checks; by the first word of their names, of the topics the last."""
    return {check.name.split()[0]: check for check in asyncio.run(doctor.examine(settings))}


def test_all_is_well_and_topics_need_not_be_there_yet() -> None:
    with EmbeddedKafka() as kafka, EmbeddedRedis() as cache:
        settings = Settings(
            kafka=Kafka(bootstrap_servers=kafka.bootstrap_servers, partitions=PARTITIONS),
            redis=Redis(url=SecretStr(cache.url)),
        )
        found = examine(settings)
    assert [name for name, check in found.items() if not check.ok] == []
    assert found["Kafka"].found.startswith("brokers: 1")
    assert "first worker" in found["topic"].advice
    assert found["Redis"].found == "takes lists"
    assert found["encoder"].found == "384 dimensions, float32 on cpu: no accelerator"
    assert found["ranker"].found == "bi-encoder, float32 on cpu: no accelerator"


def test_each_failure_has_advice_and_hides_no_other() -> None:
    settings = Settings(
        kafka=Kafka(bootstrap_servers=f"127.0.0.1:{free_port()}"),
        redis=Redis(url=SecretStr(f"redis://:hunter2@127.0.0.1:{free_port()}/0")),
        encoder=Encoder(model="broken"),
        ranker=Ranker(model="broken"),
    )
    found = examine(settings)
    assert list(found) == ["Kafka", "topics", "Redis", "encoder", "ranker"]
    assert not any(check.ok for check in found.values())
    assert all(check.advice for check in found.values())
    assert "no such model" in found["ranker"].found
    assert "hunter2" not in str(found)


def test_too_few_brokers_for_the_replicas() -> None:
    with EmbeddedKafka() as kafka:
        settings = Settings(
            kafka=Kafka(bootstrap_servers=kafka.bootstrap_servers, partitions=PARTITIONS, replication_factor=3),
            ranker=Ranker(model="none"),
        )
        found = examine(settings)
    assert not found["Kafka"].ok
    assert "AFTERCLICK_KAFKA__REPLICATION_FACTOR" in found["Kafka"].advice
    assert found["ranker"].ok


def test_the_table_shows_everything_as_it_is() -> None:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(doctor.render([Check("a", True, "[bold]fine"), Check("b", False, "gone", "mend it")]))
    assert "[bold]fine" in capture.get()
    assert "mend it" in capture.get()

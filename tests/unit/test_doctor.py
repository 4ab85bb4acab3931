"""The doctor: each failure has advice, no failure hides the next check, and no secret is shown."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydantic import SecretStr
from rich.console import Console

import encoders.text.encoder
import ranker.load
from streams import metrics
from streams.commands.doctor import doctor
from streams.commands.doctor.check import Check
from streams.commands.doctor.reasons import check_reasons, check_wishes
from streams.settings import (
    EncoderSettings,
    HealthSettings,
    KafkaSettings,
    MetricsSettings,
    RankerSettings,
    ReasonsSettings,
    RedisSettings,
    Settings,
    WishesSettings,
)
from streams.testing.embedded import PARTITIONS, EmbeddedKafka, EmbeddedRedis, free_port
from streams.worker import health, probes
from tests import models

PLACEMENT = SimpleNamespace(device="cpu", dtype="float32", reason="no accelerator")


@pytest.fixture(autouse=True)
def _no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(model: str, device: str, dtype: str, **_: object) -> SimpleNamespace:
        if model == "broken":
            raise OSError("no such model")
        return SimpleNamespace(placement=PLACEMENT, dim=384, name="bi-encoder")

    monkeypatch.setattr(encoders.text.encoder, "TextEncoder", load)
    monkeypatch.setattr(ranker.load, "load_scorer", load)
    monkeypatch.setattr(ranker.load, "sanity_of", lambda model, scorer: None)


def examine(settings: Settings) -> dict[str, Check]:
    """Run all checks. The key is the first word of a check's name; of the topics only the last is kept."""
    return {check.name.split()[0]: check for check in asyncio.run(doctor.examine(settings))}


def test_all_is_well_and_topics_need_not_be_there_yet() -> None:
    with EmbeddedKafka() as kafka, EmbeddedRedis() as cache:
        settings = Settings(
            kafka=KafkaSettings(bootstrap_servers=kafka.bootstrap_servers, partitions=PARTITIONS),
            redis=RedisSettings(url=SecretStr(cache.url)),
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
        kafka=KafkaSettings(bootstrap_servers=f"127.0.0.1:{free_port()}"),
        redis=RedisSettings(url=SecretStr(f"redis://:hunter2@127.0.0.1:{free_port()}/0")),
        encoder=EncoderSettings(model="broken"),
        ranker=RankerSettings(model="broken"),
        metrics=MetricsSettings(port=free_port()),
    )
    found = examine(settings)
    assert list(found) == ["Kafka", "topics", "Redis", "encoder", "ranker", "repeated"]
    assert [name for name, check in found.items() if check.ok] == ["repeated"]
    assert found["repeated"].found.startswith("not checked: http://127.0.0.1:")
    assert all(check.advice for check in found.values())
    assert "no such model" in found["ranker"].found
    assert "hunter2" not in str(found)


def test_rules_that_cannot_be_used_are_named_by_line(tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text('[[rule]]\nname = "a"\nboost = 0', encoding="utf-8")
    [check] = doctor._rules(Settings(rules=file))
    assert not check.ok
    assert check.advice.startswith(f"{file}:3: rule 'a': got boost = 0, expected a number above 0")
    file.write_text('[[rule]]\nname = "a"\nboost = 2', encoding="utf-8")
    [check] = doctor._rules(Settings(rules=file))
    assert (check.ok, check.found) == (True, "rules: 1")


def test_the_languages_of_reasons_and_their_model_are_checked(tmp_path: Path) -> None:
    assert check_reasons(ReasonsSettings()) == check_wishes(WishesSettings()) == []
    said = models.decoder_that_says(tmp_path / "model", "Yes")
    [language, model] = check_reasons(ReasonsSettings(language="de", model=str(said), device="cpu", dtype="float32"))
    assert (language.ok, model.ok) == (True, True)
    assert check_wishes(WishesSettings(model=str(said), device="cpu", dtype="float32"))[0].ok
    assert "AFTERCLICK_WISHES__" in check_wishes(WishesSettings(model=str(tmp_path / "none")))[0].advice
    [language, model] = check_reasons(ReasonsSettings(language="tlh", model=str(tmp_path / "none")))
    assert (language.ok, model.ok) == (False, False)
    assert "AFTERCLICK_REASONS__LANGUAGE" in language.advice
    assert "AFTERCLICK_REASONS__MODEL" in model.advice


def test_too_few_brokers_for_the_replicas() -> None:
    with EmbeddedKafka() as kafka:
        settings = Settings(
            kafka=KafkaSettings(bootstrap_servers=kafka.bootstrap_servers, partitions=PARTITIONS, replication_factor=3),
            ranker=RankerSettings(model="none"),
        )
        found = examine(settings)
    assert not found["Kafka"].ok
    assert "AFTERCLICK_KAFKA__REPLICATION_FACTOR" in found["Kafka"].advice
    assert found["ranker"].ok


@pytest.mark.parametrize("token", [None, "a-token-of-some-length"])
@pytest.mark.parametrize("share", [0.04, 0.8])
def test_a_running_state_worker_reports_too_many_repeats(share: float, token: str | None) -> None:
    found = MetricsSettings(port=free_port(), token=token and SecretStr(token))
    server = probes.serve(found, health.Health(HealthSettings(), ("state",)))
    try:
        metrics.ready.labels("state").set(1)
        metrics.duplicates_ratio.set(share)
        check = doctor._repeats(found)
    finally:
        server.shutdown()
        server.server_close()
        metrics.ready.clear()
    assert check.ok == (share < 0.05)
    assert check.found.startswith(f"{share:.1%} of the latest clicks and purchases")
    assert check.ok or "event_id" in check.advice


def test_repeats_are_not_checked_without_a_state_worker() -> None:
    elsewhere = MetricsSettings(port=free_port())
    server = probes.serve(elsewhere, health.Health(HealthSettings(), ("rank",)))
    try:
        metrics.ready.clear()
        assert doctor._repeats(elsewhere).found.startswith("not checked: no state worker")
    finally:
        server.shutdown()
        server.server_close()
    assert doctor._repeats(MetricsSettings(port=0)).found.startswith("not checked")


def test_the_table_shows_everything_as_it_is() -> None:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(doctor.render([Check("a", True, "[bold]fine"), Check("b", False, "gone", "mend it")]))
    assert "[bold]fine" in capture.get()
    assert "mend it" in capture.get()

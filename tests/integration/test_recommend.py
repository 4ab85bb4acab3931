"""`afterclick recommend` on a real Kafka and Redis: titles, and why a list is missing or was made without a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import redis
from typer.testing import CliRunner

from encoders.events.entries import Event, item_key
from encoders.interest import Decay, empty, update
from streams import cli
from streams.commands import recommend
from streams.contracts import COLD_START_USER
from streams.kafka import topics
from streams.kafka.client import partition_of
from streams.settings import KafkaSettings, Settings
from streams.state.user_record import UserRecord, encode_record
from streams.testing.embedded import free_port
from streams.testing.worker_process import environment
from tests.client import Client, now_ms

DIM = 384


def list_of(user: str, items: int = 1, degraded: str | None = None) -> bytes:
    ranked: list[dict[str, Any]] = [
        {
            "item_id": f"i{number}",
            "rank": number,
            "score": 0.5,
            "sources": ["nearest"],
            "reason": {"text": "Because you viewed Mug", "evidence": []},
        }
        for number in range(1, items + 1)
    ]
    content = {"schema": 2, "list_id": "l", "user_id": user, "as_of": 1, "generated_at": 2, "state_version": 3}
    return msgspec.json.encode(content | {"model": "none", "trigger": None, "degraded": degraded, "items": ranked})


def record(age_s: int, known: bool) -> bytes:
    """A user's record with one event, about an item that the catalogue has or not."""
    event = Event(item_key("i1"), now_ms() - age_s * 1000, "click")
    vector = np.full(DIM, 0.05, np.float32) if known else None
    return encode_record(UserRecord(update(empty(DIM), event, vector, Decay())))


def run(settings: Settings, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, str, str]:
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr("streams.commands.lookup.LIMIT_S", 20.0)  # of a busy machine
    result = CliRunner().invoke(cli.app, ["recommend", *arguments], catch_exceptions=False)
    return result.exit_code, result.stdout, result.stderr


def test_a_list_has_titles_and_a_missing_one_its_reason(
    settings: Settings, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = client.redis
    stored.set(settings.key_prefix + COLD_START_USER, list_of(COLD_START_USER, degraded="cold-user"))
    status, _, notes = run(settings, monkeypatch, "ann")
    assert status == 0
    assert f"no list for 'ann': the catalogue is empty: {settings.topic('items')} has no item" in notes
    assert "no state and no rank worker runs" in notes

    client.produce("items", "i1", b'{"item_id": "i1", "title": "Trail [red] jacket"}')
    client.produce("items", "i2", b'{"item_id": "i2", "title": "Old name"}')
    client.produce("items", "i2", b'{"item_id": "i2", "title": "Rain jacket"}')
    changelog = topics.changelog_name(settings).removeprefix(settings.topic_prefix)
    for user, value in (("bea", record(9, known=False)), ("cem", record(9, True)), ("dan", record(90 * 86_400, True))):
        client.produce(changelog, f"u{user}", value, partition_of(user.encode(), settings.kafka.partitions))
    client.flush()
    for user, reason in (
        ("ann", "no list for 'ann': no event of this user was accepted, or the user was forgotten;"),
        ("bea", "no list for 'bea': no event of the user (1) is about an item that the catalogue has"),
        ("cem", "no list for 'cem': events of this user were accepted (1), but no rank worker has written the list"),
        ("dan", "no list for 'dan': it expired: the newest event is 90.0 days old, and AFTERCLICK_REDIS__TTL_S"),
    ):
        status, shown, notes = run(settings, monkeypatch, user)
        assert status == 0
        assert reason in notes
        assert "this is the cold-start list ('*')" in notes
        assert "Trail [red] jacket" in shown

    stored.set(settings.key_prefix + "eve", list_of("eve", items=2, degraded="overload"))
    status, shown, notes = run(settings, monkeypatch, "eve")
    assert {"Rain", "Trail"} <= set(shown.split())
    assert "Old" not in shown
    assert "eve: 3 events, made without the model" in shown
    assert "made without the model: overload: the request would have waited longer" in notes
    status, shown, _ = run(settings, monkeypatch, "eve", "--json")
    assert (status, shown.encode().strip()) == (0, list_of("eve", items=2, degraded="overload"))


def test_a_list_is_printed_where_kafka_is_away(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    away = settings.model_copy(update={"kafka": KafkaSettings(bootstrap_servers=f"127.0.0.1:{free_port()}")})
    stored = redis.Redis.from_url(settings.redis.url.get_secret_value())
    stored.set(settings.key_prefix + "ann", list_of("ann"))
    status, shown, notes = run(away, monkeypatch, "ann")
    assert (status, "Because you viewed Mug" in shown) == (0, True)
    assert notes.startswith("no titles: Kafka cannot be asked: ")
    status, shown, notes = run(away, monkeypatch, "bea")
    assert (status, shown) == (1, "")
    assert "the list expired, or the user was forgotten; Kafka, which knows more, cannot be asked" in notes
    assert "there is no cold-start list either" in notes


def test_every_reason_of_a_degraded_list_is_explained() -> None:
    readme = Path("streams/README.md").read_text(encoding="utf-8")
    rows = readme.partition("why the model did not rank")[2].partition("\n\n")[0].splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == list(recommend.DEGRADED)

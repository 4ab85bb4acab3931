"""Dead letters on Apache Kafka: listed unchanged, and sent back once, byte for byte, to where they came from."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from typer.testing import CliRunner

from streams.commands import dead_letter_commands, dead_letters
from streams.commands.dead_letter_filter import EVERY, LetterFilter, StoredDeadLetter
from streams.contracts import DeadLetter
from streams.kafka import topics
from streams.settings import Settings
from streams.testing.worker_process import environment


@pytest.fixture
def shop(settings: Settings) -> Settings:
    """Settings whose topics exist."""
    asyncio.run(topics.ensure_topics(settings, topics.topic_specs(settings)))
    return settings


def letter(number: int, topic: str = "clicks", **changes: Any) -> DeadLetter:
    made = DeadLetter(
        topic=topic,
        partition=number % 4,
        offset=number,
        error=f"wrong [bold]{number}",
        payload=b"\x00\xff" + str(number).encode(),
        key=b"\xfeann",
    )
    return msgspec.structs.replace(made, **changes)


def store(settings: Settings, *letters: DeadLetter | bytes) -> None:
    producer = Producer(
        {"bootstrap.servers": settings.kafka.bootstrap_servers, "message.max.bytes": topics.DEAD_LETTER_BYTES}
    )
    for number, value in enumerate(letters):
        encoded = value if isinstance(value, bytes) else msgspec.json.encode(value)
        producer.produce(settings.topic("dead-letters"), encoded, partition=number % 2)
    assert producer.flush(20) == 0


def messages(settings: Settings, topic: str) -> list[tuple[int | None, bytes | None, bytes | None]]:
    """Read partition, key and value of every record of a topic, with a client of another project."""
    consumer = Consumer({"bootstrap.servers": settings.kafka.bootstrap_servers, "group.id": "reader"})
    name = settings.topic(topic)
    parts = [TopicPartition(name, number, 0) for number in range(4)]
    expected = sum(consumer.get_watermark_offsets(part, timeout=10)[1] for part in parts)
    consumer.assign(parts)
    found = consumer.consume(expected, timeout=20) if expected else []
    consumer.close()
    return sorted(((message.partition(), message.key(), message.value()) for message in found), key=repr)


def read(settings: Settings, limit: int = 100) -> list[StoredDeadLetter]:
    return asyncio.run(dead_letters.read(settings, limit)).newest


def retry(
    settings: Settings, dry_run: bool = False, wanted: LetterFilter = EVERY, limit: int | None = None
) -> dead_letters.Retried:
    return asyncio.run(dead_letters.retry(settings, dry_run, wanted, limit))


def run(settings: Settings, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, str]:
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("COLUMNS", "200")
    result = CliRunner().invoke(dead_letter_commands.commands, arguments, catch_exceptions=False)
    return result.exit_code, result.output


def test_every_dead_letter_is_read_and_the_newest_are_listed(shop: Settings) -> None:
    assert read(shop) == []
    written = [letter(number) for number in range(5)]
    for value in written:
        store(shop, value)
    found = read(shop)
    assert [stored.letter for stored in found] == written
    assert [stored.letter for stored in read(shop, 2)] == written[-2:]
    assert (found[0].partition, found[0].offset) == (0, 0)


def test_a_record_that_is_no_dead_letter_is_listed_and_does_not_stop_the_rest(shop: Settings) -> None:
    store(shop, b"junk", letter(1))
    junk, good = sorted((stored.letter for stored in read(shop)), key=lambda found: found.offset)
    assert junk.error.startswith("not a dead letter")
    assert junk.payload == b"junk"
    assert good.offset == 1
    done = retry(shop)
    assert (done.sent, len(done.unsendable)) == (1, 1)


def test_retry_sends_each_letter_once_to_where_it_came_from(shop: Settings) -> None:
    written = [letter(number) for number in range(7)]
    store(shop, *written)
    assert retry(shop, dry_run=True) == dead_letters.Retried(7, [])
    assert messages(shop, "clicks") == []
    assert retry(shop) == dead_letters.Retried(7, [])
    assert retry(shop) == dead_letters.Retried(0, [])
    later = letter(8, "purchases")
    store(shop, later)
    assert retry(shop) == dead_letters.Retried(1, [])
    sent = [(value.partition, value.key, value.payload) for value in written]
    assert messages(shop, "clicks") == sorted(sent, key=repr)
    assert messages(shop, "purchases") == [(0, later.key, later.payload)]
    assert len(read(shop)) == 8, "what was retried can still be looked at"


def test_more_letters_than_a_batch(shop: Settings) -> None:
    many = dead_letters.BATCH * 2 + 10
    store(shop, *(letter(number) for number in range(many)))
    assert retry(shop).sent == many
    assert len(messages(shop, "clicks")) == many
    assert retry(shop).sent == 0


def test_what_a_filter_leaves_out_is_sent_by_a_later_call(shop: Settings) -> None:
    causes = ("bad time", "no item_id")
    store(shop, *(letter(number, cause=causes[number % 3 == 0]) for number in range(12)))
    times = LetterFilter(topic="clicks", reason="BAD Time")
    assert retry(shop, dry_run=True, wanted=times) == dead_letters.Retried(8, [], 4)
    assert retry(shop, wanted=times, limit=3) == dead_letters.Retried(3, [], 9)
    assert retry(shop, wanted=times) == dead_letters.Retried(5, [], 4)
    assert retry(shop, wanted=LetterFilter(topic="purchases")) == dead_letters.Retried(0, [], 4)
    assert retry(shop, wanted=times) == dead_letters.Retried(0, [], 4)
    assert retry(shop) == dead_letters.Retried(4, [])
    assert retry(shop) == dead_letters.Retried(0, [])
    assert len(messages(shop, "clicks")) == 12
    (most, fewest) = asyncio.run(dead_letters.read(shop, 1)).groups
    assert [(group.cause, group.count) for group in (most, fewest)] == [("bad time", 8), ("no item_id", 4)]


def test_a_missing_key_and_a_missing_payload_stay_missing(shop: Settings) -> None:
    store(shop, letter(0, key=None), letter(1, payload=None))
    assert retry(shop).sent == 2
    assert messages(shop, "clicks") == [(0, None, b"\x00\xff0"), (1, b"\xfeann", None)]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"topic": "others"}, "not an input topic"),
        ({"partition": 99}, "no partition 99"),
        ({"key": None, "payload": None}, "neither key nor payload"),
        ({"payload": b"x" * (2 << 20)}, "larger than max.message.bytes"),
        ({"payload_bytes": 9_000_000}, "only 3 of 9,000,000 bytes of the payload; send the message from"),
        ({"key_bytes": 2_000}, "only 4 of 2,000 bytes of the key; send the message from its producer again"),
    ],
)
def test_a_dead_letter_that_cannot_be_sent_is_named_and_the_rest_is_sent(
    shop: Settings, changes: dict[str, Any], reason: str
) -> None:
    store(shop, letter(0), letter(4), letter(8, **changes), letter(12))
    done = retry(shop)
    assert done.sent == 3
    ((stored, why),) = done.unsendable
    assert stored.letter.offset == 8
    assert reason in why
    assert len(messages(shop, "clicks")) == 3


def test_without_the_topic_the_error_says_what_to_do(settings: Settings) -> None:
    with pytest.raises(topics.TopicError, match="start a worker first"):
        read(settings)


def test_the_commands(shop: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(shop, monkeypatch, "list") == (0, "no dead letters\n")
    store(shop, letter(1), letter(3, topic="rank-requests", payload=b"y" * 500))
    code, output = run(shop, monkeypatch, "list")
    assert code == 0
    assert "wrong [bold]1" in output
    assert "·" in output
    assert "500 bytes" in output
    code, output = run(shop, monkeypatch, "list", "--json", "--limit", "1")
    assert json.loads(output)["letter"]["error"].startswith("wrong")
    assert run(shop, monkeypatch, "retry", "--dry-run") == (0, "would send 2, cannot send 0\n")
    assert run(shop, monkeypatch, "retry") == (0, "sent 2, cannot send 0\n")
    code, output = run(shop, monkeypatch, "list", "--topic", "rank-requests", "--since", "1h")
    assert "wrong [bold]3" in output
    assert "wrong [bold]1" not in output
    assert run(shop, monkeypatch, "list", "--reason", "no such reason") == (0, "no dead letters that fit\n")
    store(shop, b"junk")
    code, output = run(shop, monkeypatch, "retry")
    assert code == 1
    assert output.startswith("sent 0, cannot send 1\n")

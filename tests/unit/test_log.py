"""The log: its formats, what it leaves out, its first line, and which partitions a tier took and gave."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
from pydantic import SecretStr

from streams import log
from streams.kafka import reject
from streams.kafka.reject import rejected
from streams.log import BURST, EVERY_S, MAX_KINDS, Internals, JsonFormat, RateLimit, TextFormat
from streams.receive.message import BadMessage, Message
from streams.settings import KafkaSettings, RedisSettings, SecuritySettings, Settings
from streams.settings.table import MASK, differing
from streams.worker.held_partitions import HeldPartitions


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(log, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def record(text: str, *arguments: object, line: int = 1) -> logging.LogRecord:
    return logging.LogRecord("streams", logging.WARNING, "f.py", line, text, arguments, None)


def test_a_kind_is_limited_and_others_are_not(clock: list[float]) -> None:
    limit = RateLimit()
    assert sum(limit.filter(record("rejected %d", number)) for number in range(1000)) == BURST
    assert limit.filter(record("another", line=2))
    clock[0] = EVERY_S
    again = record("rejected %d", 1000)
    assert limit.filter(again)
    assert again.getMessage() == f"rejected 1000 (and {1000 - BURST} more like it)"


def test_the_filters_memory_is_bounded(clock: list[float]) -> None:
    limit = RateLimit()
    for line in range(3 * MAX_KINDS):
        limit.filter(record("x", line=line))
    assert len(limit._kinds) <= MAX_KINDS


def test_a_rejection_is_logged_without_its_content(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = Message("clicks", 1, 2, b"secret-user", b"secret-payload")
    monkeypatch.setattr(reject, "_summary", reject.Summary())
    rejected(Settings(), message, BadMessage("malformed", "clicks: secret-text"))
    assert caplog.messages == ["rejected clicks/1/2: malformed"]


def failed(text: str) -> logging.LogRecord:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        return logging.LogRecord("streams.x", logging.ERROR, "f.py", 1, text, ("ö",), sys.exc_info())


def test_a_line_of_json_has_the_message_and_the_traceback() -> None:
    line = JsonFormat().format(failed("got %s\nand more"))
    assert "\n" not in line
    got = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", got.pop("time"))
    assert got.pop("exception").endswith("ValueError: two\nlines")
    assert got.pop("process") > 0
    assert got == {"level": "error", "logger": "streams.x", "message": "got ö\nand more"}


def test_a_line_of_text_begins_with_its_time_in_utc() -> None:
    made = record("x")
    made.created = 0.5
    assert TextFormat().format(made) == "1970-01-01T00:00:00.500Z WARNING streams: x"


@pytest.mark.parametrize(
    ("name", "level", "text", "passes"),
    [
        ("streams.worker.run", "INFO", "x", True),
        ("httpx", "INFO", "x", False),
        ("redis", "WARNING", "x", True),
        ("faust.worker", "WARNING", "[^Worker]: x", False),
        ("faust.worker", "CRITICAL", "[^Worker]: x", True),
        ("faust.worker", "CRITICAL", "[^Worker]: We experienced a crash! Reraising original exception...", False),
        ("streams.faust_compat.consumer", "WARNING", "[^--Consumer]: exception performing seek", False),
        ("streams.faust_compat.consumer", "WARNING", "Kafka did not take the offsets", True),
    ],
)
def test_the_internals_of_libraries_are_left_out(name: str, level: str, text: str, passes: bool) -> None:
    made = logging.LogRecord(name, logging.getLevelNamesMapping()[level], "f.py", 1, text, None, None)
    assert Internals().filter(made) == passes


@pytest.mark.parametrize("level", ["info", "debug"])
def test_all_that_a_process_says_is_json(level: str) -> None:
    program = f"""
import logging, threading, warnings
from streams import log
log.configure(log.LogChoice({level!r}, "json"))
logging.getLogger("streams").info("ours")
logging.getLogger("faust").info("theirs")
warnings.warn("a warning")
threading.Thread(target=lambda: 1 / 0).start()
raise ValueError("the end")
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    said = [(line["logger"], line["message"].split(" (")[0]) for line in lines]
    theirs = [("faust", "theirs")] if level == "debug" else []
    bug = ("streams.log", "a bug; please report it with these lines")
    assert said == [("streams", "ours"), *theirs, ("py.warnings", "UserWarning: a warning"), bug, bug]
    assert [line["exception"].splitlines()[-1] for line in lines[-2:]] == [
        "ZeroDivisionError: division by zero",
        "ValueError: the end",
    ]
    assert ended.returncode == 1


def test_settings_that_differ_are_listed_without_secrets() -> None:
    security = SecuritySettings(protocol="SASL_SSL", sasl_username="shop", sasl_password=SecretStr("hunter2"))
    settings = Settings(
        log_format="json",
        kafka=KafkaSettings(partitions=4, security=security),
        redis=RedisSettings(url=SecretStr("redis://:hunter2@cache")),
    )
    assert differing(settings) == {
        "kafka.security.protocol": "SASL_SSL",
        "kafka.security.sasl_username": "shop",
        "kafka.security.sasl_password": MASK,
        "kafka.partitions": "4",
        "redis.url": MASK,
        "log_format": "json",
    }
    assert differing(Settings()) == {}


def test_partitions_that_were_taken_and_given_are_one_line(caplog: pytest.LogCaptureFixture) -> None:
    held = HeldPartitions("state", ["clicks", "items"])

    def assigned(**numbers: list[int]) -> None:
        held.assigned([(topic, number) for topic, some in numbers.items() for number in some])

    with caplog.at_level("INFO"):
        assigned(clicks=[0, 1, 2, 3, 7], items=[0, 1, 2, 3, 7], changelog=[0])
        assigned(clicks=[0, 1], items=[0, 1])
        assigned(clicks=[0, 1], items=[0, 1])
        assigned(clicks=[0], items=[0, 1, 5])
        assigned()
    assert caplog.messages == [
        "state: partitions: took 0-3,7",
        "state: partitions: gave 2-3,7, has 0-1",
        "state: partitions: has 0-1 as before",
        "state: partitions: gave 1 of clicks, took 5 of items, has 0 of clicks and 0-1,5 of items",
        "state: partitions: gave 0 of clicks and 0-1,5 of items, has none",
    ]

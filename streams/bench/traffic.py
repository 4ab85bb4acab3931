"""Messages into Kafka at a pace, messages out of it with the time they came: clients that are not ours.

librdkafka's, as a user's backend may have them; times are this process' monotonic clock on both ends. Knows no
benchmark; called by `pipeline`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from streams.bench.ground import BenchFailed
from streams.settings import Kafka

FLUSH_TIMEOUT_S = 60.0
PATIENCE_S = 15.0  # since anything came: what is not there by then was answered by a newer list, or is lost
QUIET_S = 1.0


@dataclass(frozen=True)
class Message:
    """What to send; `id` is how its answer is known."""

    id: str
    topic: str
    key: str
    value: bytes


@dataclass(frozen=True)
class Received:
    """What came; `at_s` by the monotonic clock, taken before anything was decoded."""

    at_s: float
    key: bytes
    value: bytes


@dataclass
class Timings:
    """When each message was sent and when its answer came, by id, in seconds of the monotonic clock."""

    sent_s: dict[str, float] = field(default_factory=dict)
    answers: dict[str, Received] = field(default_factory=dict)

    def latencies_ms(self, warm_up_s: float = 0.0) -> list[float]:
        """From sent to answered, for the answered that were sent after the warm-up."""
        begin = min(self.sent_s.values()) + warm_up_s
        return [
            (answer.at_s - self.sent_s[id_]) * 1000 for id_, answer in self.answers.items() if self.sent_s[id_] >= begin
        ]

    def per_s(self) -> float:
        """Answers over the time from the first message sent to the last answer."""
        last = max(answer.at_s for answer in self.answers.values())
        return len(self.answers) / (last - min(self.sent_s.values()))

    @property
    def unanswered(self) -> int:
        return len(self.sent_s) - len(self.answers)


class Reader:
    """All messages of a topic from its beginning, as they come; `close` ends it."""

    def __init__(self, kafka: Kafka, topic: str, embedded: bool) -> None:
        options = _options(kafka) | {"group.id": "afterclick-bench", "enable.auto.commit": False}
        if embedded:
            options["fetch.wait.max.ms"] = 5  # that cluster holds a fetch back for as long as it may wait
        self._consumer = Consumer(options)
        self._consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(kafka.partitions)])

    def take(self, wait_s: float) -> Received | None:
        """Return the next message with a value, at once when it comes."""
        message = self._consumer.poll(wait_s)
        at_s = time.monotonic()
        if message is None or message.error():
            return None
        key, value = message.key(), message.value()
        return None if value is None else Received(at_s, _bytes(key or b""), _bytes(value))

    def rest(self) -> list[Received]:
        """Return all that is there, until nothing more comes."""
        found, last_s = [], time.monotonic()
        while time.monotonic() - last_s < QUIET_S:
            if received := self.take(0.1):
                found.append(received)
                last_s = received.at_s
        return found

    def close(self) -> None:
        self._consumer.close()


def producer(kafka: Kafka) -> Producer:
    """Make a producer that sends each message at once, to the partition where our workers expect its key."""
    return Producer(_options(kafka) | {"linger.ms": 0, "partitioner": "murmur2_random"})


def timed(
    sender: Producer,
    messages: Sequence[Message],
    reader: Reader,
    id_of: Callable[[Received], str | None],
    per_s: float | None = None,
) -> Timings:
    """Send all messages, `per_s` a second (by default as fast as it goes), and wait for their answers.

    Raises
    ------
    BenchFailed
        Kafka did not take the messages, or more than a tenth of them have no answer.
    """
    timings = Timings()
    with ThreadPoolExecutor(1, thread_name_prefix="sender") as thread:
        sending = thread.submit(send, sender, messages, per_s, timings.sent_s)
        timings.answers = answers(reader, [message.id for message in messages], id_of, lambda: not sending.done())
        sending.result()
    return timings


def answers(
    reader: Reader,
    ids: Sequence[str],
    id_of: Callable[[Received], str | None],
    sending: Callable[[], bool] = lambda: False,
) -> dict[str, Received]:
    """Wait for the answers to all `ids`, patiently while messages are sent or any come.

    Raises
    ------
    BenchFailed
        More than a tenth has no answer.
    """
    found: dict[str, Received] = {}
    wanted, news_s = set(ids), time.monotonic()
    while wanted and time.monotonic() - news_s < PATIENCE_S:
        received = reader.take(0.05)
        if received or sending():
            news_s = time.monotonic()
        if received and (id_ := id_of(received)) is not None and id_ in wanted:
            found[id_] = received
            wanted.discard(id_)
    if len(wanted) > len(ids) / 10:
        raise BenchFailed(
            f"got {len(found)} answers to {len(ids)} messages and nothing more for {PATIENCE_S:g} s, "
            "expected all; see whether the machine or Kafka is overloaded"
        )
    return found


def send(
    sender: Producer,
    messages: Sequence[Message],
    per_s: float | None = None,
    sent_s: dict[str, float] | None = None,
) -> None:
    """Send all messages, noting when in `sent_s`, and wait until Kafka has them.

    Raises
    ------
    BenchFailed
        Kafka did not take them.
    """
    begin = time.monotonic()
    for number, message in enumerate(messages):
        if per_s is not None:
            time.sleep(max(0.0, begin + number / per_s - time.monotonic()))
        if sent_s is not None:
            sent_s[message.id] = time.monotonic()
        sender.produce(message.topic, key=message.key, value=message.value)
        sender.poll(0)
    if left := sender.flush(FLUSH_TIMEOUT_S):
        raise BenchFailed(f"Kafka: got {left} messages not taken after {FLUSH_TIMEOUT_S:g} s, expected none")


def _options(kafka: Kafka) -> dict[str, Any]:
    """Our settings in librdkafka's words."""
    security = kafka.security
    password, key_password = (s and s.get_secret_value() for s in (security.sasl_password, security.ssl_key_password))
    options = {
        "bootstrap.servers": kafka.bootstrap_servers,
        "security.protocol": security.protocol,
        "sasl.mechanism": security.sasl_mechanism if security.protocol.startswith("SASL") else None,
        "sasl.username": security.sasl_username,
        "sasl.password": password,
        "ssl.ca.location": security.ssl_cafile and str(security.ssl_cafile),
        "ssl.certificate.location": security.ssl_certfile and str(security.ssl_certfile),
        "ssl.key.location": security.ssl_keyfile and str(security.ssl_keyfile),
        "ssl.key.password": key_password,
        "log_level": 2,  # to lose a Kafka that we end ourselves is no news
    }
    return {name: value for name, value in options.items() if value is not None}


def _bytes(given: str | bytes) -> bytes:
    return given.encode() if isinstance(given, str) else given

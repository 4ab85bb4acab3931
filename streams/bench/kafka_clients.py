"""Send messages to Kafka at a given pace, and read others with the time of their arrival.

The clients are librdkafka's, as a user's backend may have them, not the workers' own. All times are of this process'
monotonic clock. Knows no benchmark.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from streams.bench.servers import BenchFailed
from streams.settings import KafkaSettings

FLUSH_TIMEOUT_S = 60.0
PATIENCE_S = 15.0
"""After so long without any message, a missing reply is lost, or a newer list of its user replaced it."""
QUIET_S = 1.0


@dataclass(frozen=True)
class SentEvent:
    """A message to send.

    Attributes
    ----------
    id : str
        Also in the reply; matches the two.
    topic, key : str
    value : bytes
    """

    id: str
    topic: str
    key: str
    value: bytes


@dataclass(frozen=True)
class ReceivedMessage:
    """A message that arrived.

    Attributes
    ----------
    at_s : float
        The monotonic clock at its arrival, before decoding.
    key, value : bytes
    """

    at_s: float
    key: bytes
    value: bytes


@dataclass
class RoundTrips:
    """When each message was sent and when its reply arrived.

    Attributes
    ----------
    sent_s : dict of str to float
        From a message's id to the monotonic clock.
    replies : dict of str to ReceivedMessage
        From a message's id to its reply; messages without a reply are missing.
    """

    sent_s: dict[str, float] = field(default_factory=dict)
    replies: dict[str, ReceivedMessage] = field(default_factory=dict)

    def latencies_ms(self, warm_up_s: float = 0.0) -> list[float]:
        """Return the time from sending to the reply, of each message with a reply that was sent after the warm-up."""
        begin_s = min(self.sent_s.values()) + warm_up_s
        return [
            (reply.at_s - self.sent_s[id_]) * 1000 for id_, reply in self.replies.items() if self.sent_s[id_] >= begin_s
        ]

    def per_s(self) -> float:
        """Return the number of replies over the seconds from the first message sent to the last reply."""
        last_s = max(reply.at_s for reply in self.replies.values())
        return len(self.replies) / (last_s - min(self.sent_s.values()))

    @property
    def without_reply(self) -> int:
        """The number of messages that have no reply."""
        return len(self.sent_s) - len(self.replies)


class TopicReader:
    """Reads all messages of a topic from its beginning, as they arrive; `close` ends it.

    Parameters
    ----------
    kafka : Kafka
    topic : str
        The full name, with the prefix.
    embedded : bool
        Whether Kafka is the embedded cluster.
    """

    def __init__(self, kafka: KafkaSettings, topic: str, embedded: bool) -> None:
        config = _client_config(kafka) | {"group.id": "afterclick-bench", "enable.auto.commit": False}
        if embedded:
            config["fetch.wait.max.ms"] = 5  # the embedded cluster always holds a fetch back for the maximal wait
        self._consumer = Consumer(config)
        self._consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(kafka.partitions)])

    def take(self, wait_s: float) -> ReceivedMessage | None:
        """Return the next message that has a value as soon as it arrives; None after `wait_s` without a message."""
        message = self._consumer.poll(wait_s)
        at_s = time.monotonic()
        if message is None or message.error():
            return None
        key, value = message.key(), message.value()
        return None if value is None else ReceivedMessage(at_s, _bytes(key or b""), _bytes(value))

    def rest(self) -> list[ReceivedMessage]:
        """Return all messages until none arrives for `QUIET_S`."""
        messages, last_s = [], time.monotonic()
        while time.monotonic() - last_s < QUIET_S:
            if message := self.take(0.1):
                messages.append(message)
                last_s = message.at_s
        return messages

    def close(self) -> None:
        self._consumer.close()


def producer(kafka: KafkaSettings) -> Producer:
    """Make a producer that sends each message at once, to the partition where the workers expect its key."""
    return Producer(_client_config(kafka) | {"linger.ms": 0, "partitioner": "murmur2_random"})


def round_trips(
    sender: Producer,
    messages: Sequence[SentEvent],
    reader: TopicReader,
    id_of: Callable[[ReceivedMessage], str | None],
    per_s: float | None = None,
) -> RoundTrips:
    """Send all messages and wait for their replies.

    Parameters
    ----------
    sender : Producer
    messages : sequence of SentEvent
    reader : TopicReader
        Of the topic with the replies.
    id_of : callable
        Returns the id of the message that a reply is for, or None.
    per_s : float, optional
        Messages a second; by default as fast as possible.

    Raises
    ------
    BenchFailed
        Kafka did not accept the messages, or more than a tenth of them have no reply.
    """
    trips = RoundTrips()
    with ThreadPoolExecutor(1, thread_name_prefix="sender") as thread:
        sending = thread.submit(send, sender, messages, per_s, trips.sent_s)
        trips.replies = wait_for_replies(
            reader, [message.id for message in messages], id_of, lambda: not sending.done()
        )
        sending.result()
    return trips


def wait_for_replies(
    reader: TopicReader,
    ids: Sequence[str],
    id_of: Callable[[ReceivedMessage], str | None],
    sending: Callable[[], bool] = lambda: False,
) -> dict[str, ReceivedMessage]:
    """Wait for the replies to all `ids`, until nothing was sent and nothing arrived for `PATIENCE_S`.

    Raises
    ------
    BenchFailed
        More than a tenth of the ids have no reply.
    """
    replies: dict[str, ReceivedMessage] = {}
    missing, last_activity_s = set(ids), time.monotonic()
    while missing and time.monotonic() - last_activity_s < PATIENCE_S:
        message = reader.take(0.05)
        if message or sending():
            last_activity_s = time.monotonic()
        if message and (id_ := id_of(message)) is not None and id_ in missing:
            replies[id_] = message
            missing.discard(id_)
    if len(missing) > len(ids) / 10:
        raise BenchFailed(
            f"got {len(replies)} replies to {len(ids)} messages and nothing more for {PATIENCE_S:g} s, "
            "expected all; check whether the machine or Kafka is overloaded"
        )
    return replies


def send(
    sender: Producer,
    messages: Sequence[SentEvent],
    per_s: float | None = None,
    sent_s: dict[str, float] | None = None,
) -> None:
    """Send all messages and wait until Kafka has acknowledged them.

    Parameters
    ----------
    sender : Producer
    messages : sequence of SentEvent
    per_s : float, optional
        Messages a second; by default as fast as possible.
    sent_s : dict of str to float, optional
        Filled with the time at which each id was sent.

    Raises
    ------
    BenchFailed
        Kafka did not accept all messages.
    """
    begin_s = time.monotonic()
    for number, message in enumerate(messages):
        if per_s is not None:
            time.sleep(max(0.0, begin_s + number / per_s - time.monotonic()))
        if sent_s is not None:
            sent_s[message.id] = time.monotonic()
        sender.produce(message.topic, key=message.key, value=message.value)
        sender.poll(0)
    if left := sender.flush(FLUSH_TIMEOUT_S):
        raise BenchFailed(f"Kafka: got {left} messages not accepted after {FLUSH_TIMEOUT_S:g} s, expected none")


def _client_config(kafka: KafkaSettings) -> dict[str, Any]:
    """Translate our settings into librdkafka's."""
    security = kafka.security
    password, key_password = (s and s.get_secret_value() for s in (security.sasl_password, security.ssl_key_password))
    config = {
        "bootstrap.servers": kafka.bootstrap_servers,
        "security.protocol": security.protocol,
        "sasl.mechanism": security.sasl_mechanism if security.protocol.startswith("SASL") else None,
        "sasl.username": security.sasl_username,
        "sasl.password": password,
        "ssl.ca.location": security.ssl_cafile and str(security.ssl_cafile),
        "ssl.certificate.location": security.ssl_certfile and str(security.ssl_certfile),
        "ssl.key.location": security.ssl_keyfile and str(security.ssl_keyfile),
        "ssl.key.password": key_password,
        "log_level": 2,  # the benchmark stops Kafka itself: a lost connection is expected
    }
    return {name: value for name, value in config.items() if value is not None}


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text

"""When Redis drops a list that comes from the topic. Knows neither Kafka nor Redis."""

from __future__ import annotations

from aiokafka import ConsumerRecord

from streams.kafka.own_messages import written_ms


def first_written_ms(record: ConsumerRecord) -> int:
    """Return when a list was first written, by the broker's clock (milliseconds). It may be published again later."""
    return written_ms(record.headers) or int(record.timestamp)


def expiry_s(record: ConsumerRecord, ttl_s: int) -> int:
    """Return the Unix time in seconds at which Redis drops the list."""
    return first_written_ms(record) // 1000 + ttl_s

"""Keyword arguments by their names and types. `AsyncClient` and the contracts say what they mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from streams.contracts import Timestamp

if TYPE_CHECKING:
    from redis.asyncio import Redis, RedisCluster


class ClientArguments(TypedDict, total=False):
    """Of a client."""

    kafka: str | None
    redis: str | Redis | RedisCluster | None
    http: str | None
    read_token: str | None
    write_token: str | None
    rank_token: str | None
    topic_prefix: str
    key_prefix: str | None
    placements: Sequence[str]
    timeout_s: float
    kafka_options: Mapping[str, Any] | None
    http_options: Mapping[str, Any] | None


class ClickFields(TypedDict, total=False):
    """The optional fields of a click."""

    event_id: str
    timestamp: Timestamp
    session_id: str
    list_id: str
    position: int
    dwell_ms: int
    text: str
    context: dict[str, Any]


class EventFields(ClickFields, total=False):
    """The optional fields of an event of another type."""

    rating: float
    best_rating: float


class SearchFields(TypedDict, total=False):
    """The optional fields of a search."""

    event_id: str
    timestamp: Timestamp
    session_id: str
    results: list[str]
    context: dict[str, Any]


class PurchaseFields(ClickFields, total=False):
    """The optional fields of a purchase, and those that make it a return: a `quantity` below 0 and `takes_back`."""

    quantity: float
    price: float
    currency: str
    takes_back: str

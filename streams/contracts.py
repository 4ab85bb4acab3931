"""The contracts: the messages of every topic, as a producer has to send them and as a consumer can rely on them.

All values are JSON (UTF-8). Incoming times are RFC 3339 strings with an offset, or integer milliseconds since the
epoch. Outgoing times are always integer milliseconds, UTC. Unknown fields are ignored, so a producer may send more.
`streams.receive.lenient` lists the deviations that are accepted as well. Knows nothing of Kafka.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

LIST_SCHEMA = 2
"""Schema of a list. A list of schema 1 has no field `schema`. `as_of` and `state_version` mean the same in both."""
MAX_ID_BYTES = 256
MAX_MESSAGE_BYTES = 1 << 20
MAX_EXACT_INTEGER = 2**53
"""Every JSON parser reads integers up to this one exactly, even if it stores numbers as 64-bit floats."""
MAX_TIMESTAMP = 2**62
"""Large enough for a time that was sent in nanoseconds by mistake, so that the error text can name the mistake."""
MAX_REQUEST_BYTES = 48 << 20
"""Limit of a rank request: 5,000 candidates with the longest texts are 40 MiB. `max.message.bytes` of its topic is
lower."""

Id = Annotated[str, Meta(min_length=1, max_length=MAX_ID_BYTES, description="1 to 256 bytes of UTF-8")]
Timestamp = (
    Annotated[datetime, Meta(tz=True, description="RFC 3339 with an offset")]
    | Annotated[int, Meta(description="milliseconds since the epoch, UTC", ge=-MAX_TIMESTAMP, le=MAX_TIMESTAMP)]
)
Milliseconds = Annotated[
    int, Meta(description="milliseconds since the epoch, UTC", ge=-MAX_EXACT_INTEGER, le=MAX_EXACT_INTEGER)
]
Count = Annotated[int, Meta(ge=0, le=MAX_EXACT_INTEGER)]
Price = Annotated[float, Meta(ge=0)]
Currency = Annotated[str, Meta(min_length=3, max_length=3, description="ISO 4217")]
Title = Annotated[str, Meta(max_length=1_000)]
Name = Annotated[str, Meta(max_length=256)]
Categories = Annotated[list[Name], Meta(max_length=64, description="from the root to the leaf")]
EventType = Literal["click", "purchase"]
COLD_START_USER = "*"
"""The user id of the cold-start list, which serves users without a list. Rejected as the id of a user."""


class Click(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """A user looked at an item. Topic `clicks`, key `user_id`."""

    event_id: Id
    user_id: Id
    item_id: Id
    timestamp: Timestamp
    session_id: Id | None = None
    list_id: Id | None = None
    position: Count | None = None
    dwell_ms: Count | None = None
    text: Annotated[str, Meta(description="a text by the user, such as a query or a review")] | None = None
    context: dict[str, Any] = {}


class Purchase(Click, kw_only=True, frozen=True, omit_defaults=True):
    """A user bought an item. Topic `purchases`, key `user_id`."""

    quantity: Annotated[float, Meta(gt=0)] = 1
    price: Price | None = None
    currency: Currency | None = None


class Impression(msgspec.Struct, kw_only=True, frozen=True):
    """A list was shown. Topic `impressions`, key `user_id`."""

    event_id: Id
    user_id: Id
    list_id: Id
    items: list[Id]
    timestamp: Timestamp


class Item(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """An item that can be recommended. Topic `items` (compacted), key `item_id`. A null value deletes the item."""

    item_id: Id
    title: Annotated[str, Meta(min_length=1, max_length=1_000)]
    description: str = ""
    categories: Categories = []
    brand: Name = ""
    price: Price | None = None
    currency: Currency | None = None
    attributes: dict[str, Any] = {}
    image: str | None = None
    entities: list[str] = []
    provider: str | None = None
    available: bool = True
    timestamp: Timestamp | None = None


class Forget(msgspec.Struct, kw_only=True, frozen=True):
    """Erase this user everywhere. Topic `forget`, key `user_id`."""

    user_id: Id
    timestamp: Timestamp


class Trigger(msgspec.Struct, kw_only=True, frozen=True):
    """The newest event that caused a list to be made."""

    event_id: Id
    type: EventType


class HistoryEvent(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """One event of a user's recent history, with the fields of its item that the ranker describes it by."""

    item_id: Id
    type: EventType
    timestamp: Timestamp
    title: Title
    brand: Name = ""
    categories: Categories = []
    price: Price | None = None
    currency: Currency | None = None


class Candidate(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """An item that may enter the list.

    The model reads `text`. `retrieval_score` orders the candidates when no model does: higher is better. `because` is
    the item of the user's history that led to this candidate.
    """

    item_id: Id
    text: str
    sources: list[Name] = []
    categories: Categories = []
    retrieval_score: float = 0.0
    because: Id | None = None


class Features(msgspec.Struct, kw_only=True, frozen=True):
    """The features of the candidates, for a fusion model. The state tier computes them, the rank tier reads them.

    `values` holds one row of `ranker.features.NAMES` for each candidate, as little-endian float16, base64 in JSON,
    because decimal digits would make up most of the message. `schema` names the set of features.
    """

    schema: int
    values: bytes


class Feedback(msgspec.Struct, kw_only=True, frozen=True):
    """An item that the user chose from one of our lists: the click or purchase named the list in `list_id`."""

    list_id: Id
    item_id: Id


class RankRequest(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """All that the rank tier needs. Topic `rank-requests`, key `user_id`. A null value means the user was forgotten.

    The state tier writes requests; an upstream recommender with its own candidates may write them too. `history` is in
    the order of time, newest last. Without `features` the model ranks by the texts alone. `feedback` holds the choices
    since the user's last request.
    """

    request_id: Id
    user_id: Id
    as_of: Timestamp
    history: list[HistoryEvent]
    candidates: list[Candidate]
    features: Features | None = None
    feedback: list[Feedback] = []
    state_version: Count = 0
    trigger: Trigger | None = None
    arrived_at: Milliseconds | None = None


class Reason(msgspec.Struct, kw_only=True, frozen=True):
    """Why an item is in the list, in words. `evidence` holds item ids from the user's own history."""

    text: str
    evidence: list[Id] = []


class RecommendedItem(msgspec.Struct, kw_only=True, frozen=True):
    """One item of a list. `rank` counts from 1. Scores are comparable within one list only."""

    item_id: Id
    rank: Annotated[int, Meta(ge=1)]
    score: float | None
    sources: list[str]
    reason: Reason


class Recommendations(msgspec.Struct, kw_only=True, frozen=True):
    """A user's list. Topic `recommendations` (compacted), key `user_id`. A null value means the user was forgotten.

    `state_version` is the number of clicks and purchases that the user's state has accepted. A repeated event, with the
    same topic, `event_id` and item, is accepted once. `as_of` is the newest event time among them. `degraded` is null
    when the model ranked the list. Otherwise it is the reason why the model did not, or `no-candidates`: the list is
    empty, because no item may be recommended. `schema` grows when a field changes its meaning.
    """

    schema: Annotated[int, Meta(ge=1)] = 1
    list_id: Id
    user_id: Id
    as_of: Milliseconds
    generated_at: Milliseconds
    state_version: Count
    model: str
    trigger: Trigger | None
    degraded: str | None
    items: list[RecommendedItem]


class DeadLetter(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """A rejected message, byte for byte. Topic `dead-letters`; `payload` and `key` are base64 in JSON.

    `error` is for the producer of the message. `cause` is the same for all messages that fail alike, and contains
    nothing of the message. Where the letter would exceed the topic's `max.message.bytes`, `payload` (or `key`) is cut,
    and `payload_bytes` (or `key_bytes`) is its size before the cut.
    """

    topic: str
    partition: int
    offset: int
    error: str
    payload: bytes | None
    key: bytes | None
    cause: str = ""
    payload_bytes: int | None = None
    key_bytes: int | None = None


TOPICS: dict[str, type[msgspec.Struct]] = {
    "clicks": Click,
    "purchases": Purchase,
    "impressions": Impression,
    "items": Item,
    "rank-requests": RankRequest,
    "recommendations": Recommendations,
    "forget": Forget,
    "dead-letters": DeadLetter,
}

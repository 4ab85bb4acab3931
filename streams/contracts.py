"""The messages of every topic: what a producer may send and what a consumer can rely on.

All values are JSON (UTF-8). Incoming times are RFC 3339 strings with an offset, or integer milliseconds since the
epoch; outgoing times are always integer milliseconds, UTC. Unknown fields are ignored, so a producer may send more.
This is what to send; what else is taken, because it can mean one thing only, is in `lenient`.
Knows nothing of Kafka; used by `receive`, `publish`, the command line and the tests.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

LIST_SCHEMA = 2
"""Of a list. The one before, 1, did not say its number; `as_of` and `state_version` stay what they are in every one."""
MAX_ID_BYTES = 256
MAX_MESSAGE_BYTES = 1 << 20
EXACT = 2**53
"""Up to here every reader of JSON has the same integer; one of hundreds of digits would be no number to a float."""
MOST_NANOSECONDS = 2**62
"""So that a time in nanoseconds is still told from one that is no time."""
MAX_REQUEST_BYTES = 48 << 20
"""Of a rank request: 5,000 candidates with the longest texts are 40 MiB; its topic's `max.message.bytes` is less."""

Id = Annotated[str, Meta(min_length=1, max_length=MAX_ID_BYTES, description="1 to 256 bytes of UTF-8")]
Timestamp = (
    Annotated[datetime, Meta(tz=True, description="RFC 3339 with an offset")]
    | Annotated[int, Meta(description="milliseconds since the epoch, UTC", ge=-MOST_NANOSECONDS, le=MOST_NANOSECONDS)]
)
Milliseconds = Annotated[int, Meta(description="milliseconds since the epoch, UTC", ge=-EXACT, le=EXACT)]
Count = Annotated[int, Meta(ge=0, le=EXACT)]
Price = Annotated[float, Meta(ge=0)]
Currency = Annotated[str, Meta(min_length=3, max_length=3, description="ISO 4217")]
Title = Annotated[str, Meta(max_length=1_000)]
Name = Annotated[str, Meta(max_length=256)]
Categories = Annotated[list[Name], Meta(max_length=64, description="from the root to the leaf")]
EventType = Literal["click", "purchase"]
COLD_START_USER = "*"
"""The user id of the list for whoever has none; refused as the id of a user in everything that comes in."""


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
    text: Annotated[str, Meta(description="what the user wrote: a query, a review")] | None = None
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
    """What can be recommended. Topic `items` (compacted), key `item_id`; a null value deletes the item."""

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
    """The event that made a list necessary."""

    event_id: Id
    type: EventType


class HistoryEvent(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """One event of a user's recent history, with what the ranker needs to put it into words."""

    item_id: Id
    type: EventType
    timestamp: Timestamp
    title: Title
    brand: Name = ""
    categories: Categories = []
    price: Price | None = None
    currency: Currency | None = None


class Candidate(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """One item that may enter the list.

    `text` is what the model reads. `prior` orders candidates when no model does: higher is better. `because` is the
    item of the user's history that led to this one.
    """

    item_id: Id
    text: str
    sources: list[Name] = []
    categories: Categories = []
    retrieval_score: float = 0.0
    because: Id | None = None


class Features(msgspec.Struct, kw_only=True, frozen=True):
    """What behaviour says about the candidates, for a fused model: made by the state tier, read by the rank tier.

    `values` is base64 in JSON: little-endian float16, a row of `ranker.features.NAMES` for each candidate; in decimal
    digits it would be most of the message. `schema` says which features they are.
    """

    schema: int
    values: bytes


class Feedback(msgspec.Struct, kw_only=True, frozen=True):
    """An item that the user chose from a list of ours: their click or purchase named the list."""

    list_id: Id
    item_id: Id


class RankRequest(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """All that ranking needs. Topic `rank-requests`, key `user_id`; a null value means the user was forgotten.

    `history` is in the order of time, newest last. Written by the state tier, or by an upstream recommender that has
    candidates of its own; one without `behaviour` is ranked by the model's reading alone. `answers` are those since the
    user's last request.
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
    """Why an item is in the list, in words; `evidence` holds item ids from the user's own history."""

    text: str
    evidence: list[Id] = []


class RecommendedItem(msgspec.Struct, kw_only=True, frozen=True):
    """One place of a list. `rank` counts from 1; `score` orders within this list only."""

    item_id: Id
    rank: Annotated[int, Meta(ge=1)]
    score: float | None
    sources: list[str]
    reason: Reason


class Recommendations(msgspec.Struct, kw_only=True, frozen=True):
    """A user's list. Topic `recommendations` (compacted), key `user_id`; a null value: the user was forgotten.

    `state_version` is the number of accepted click and purchase events that the user's state holds (a repeated event,
    of the same topic, `event_id` and item, is not accepted twice); `as_of` is the newest event time among them.
    `degraded` is null when the model ranked the list, else the reason why it did not, or `no-candidates`: the list is
    empty, for there is no item that may be recommended. `schema` grows when a field changes its meaning.
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

    `error` is for the producer of the message. `cause` is the same for all messages that fail alike and holds nothing
    of what they contain. Where the letter does not fit the topic's `max.message.bytes`, `payload` (or `key`) is only
    its beginning, and `payload_bytes` (or `key_bytes`) the size of all of it.
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

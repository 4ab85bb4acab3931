"""The bodies of the HTTP interface, as a client sends and receives them. Knows neither server nor client."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from streams.contracts import (
    Click,
    Context,
    EventType,
    Id,
    Impression,
    Item,
    Pins,
    Preference,
    Purchase,
    Search,
    Timestamp,
    Triple,
    UserMerge,
)

MAX_CANDIDATES = 1_000
MAX_HISTORY = 1_000


class ErrorText(msgspec.Struct, frozen=True):
    """What is wrong: a fixed word for programs, and a sentence for people."""

    code: str
    message: str


class ErrorBody(msgspec.Struct, frozen=True):
    """The body of every answer that is a failure."""

    error: ErrorText


class ClickEvent(Click, tag_field="type", tag="click", frozen=True, kw_only=True, omit_defaults=True):
    """A message of the topic `clicks`."""


class PurchaseEvent(Purchase, tag_field="type", tag="purchase", frozen=True, kw_only=True, omit_defaults=True):
    """A message of the topic `purchases`."""


class SearchEvent(Search, tag_field="type", tag="search", frozen=True, kw_only=True, omit_defaults=True):
    """A message of the topic `searches`."""


class PreferenceEvent(Preference, tag_field="type", tag="preference", frozen=True, kw_only=True, omit_defaults=True):
    """A message of the topic `preferences`."""


class OtherEvent(Click, frozen=True, kw_only=True, omit_defaults=True):
    """The fields of a message of the topic `events`, beside its type."""

    rating: Annotated[float, Meta(ge=1)] | None = None
    best_rating: Annotated[float, Meta(gt=1)] = 5


class ViewEvent(OtherEvent, tag_field="type", tag="view", frozen=True, kw_only=True, omit_defaults=True):
    """The user looked at the item."""


class CartEvent(OtherEvent, tag_field="type", tag="cart", frozen=True, kw_only=True, omit_defaults=True):
    """The user put the item into the cart."""


class LikeEvent(OtherEvent, tag_field="type", tag="like", frozen=True, kw_only=True, omit_defaults=True):
    """The user likes the item."""


class DislikeEvent(OtherEvent, tag_field="type", tag="dislike", frozen=True, kw_only=True, omit_defaults=True):
    """The user wants less of the same."""


class RatingEvent(OtherEvent, tag_field="type", tag="rating", frozen=True, kw_only=True, omit_defaults=True):
    """The user rated the item: `rating` is required."""


class CompleteEvent(OtherEvent, tag_field="type", tag="complete", frozen=True, kw_only=True, omit_defaults=True):
    """The user read, watched or heard the item to its end."""


class SkipEvent(OtherEvent, tag_field="type", tag="skip", frozen=True, kw_only=True, omit_defaults=True):
    """The user passed the item over."""


class ReturnEvent(OtherEvent, tag_field="type", tag="return", frozen=True, kw_only=True, omit_defaults=True):
    """The user sent the item back."""


class ImpressionEvent(Impression, tag_field="type", tag="impression", frozen=True, kw_only=True):
    """A message of the topic `impressions`."""


class ItemEvent(Item, tag_field="type", tag="item", frozen=True, kw_only=True, omit_defaults=True):
    """A message of the topic `items`."""


class TripleEvent(Triple, tag_field="type", tag="triple", frozen=True, kw_only=True):
    """A message of the topic `knowledge`."""


class MergeEvent(UserMerge, tag_field="type", tag="merge", frozen=True, kw_only=True):
    """A message of the topic `merges`."""


class EventsRequest(msgspec.Struct, frozen=True):
    """The body of `POST /v1/events`: messages in the order in which they happened.

    An event may also have a type of your own that `interest.weights` names, and the fields of a `like`.
    """

    events: Annotated[
        list[
            ClickEvent
            | PurchaseEvent
            | ViewEvent
            | CartEvent
            | LikeEvent
            | DislikeEvent
            | RatingEvent
            | CompleteEvent
            | SkipEvent
            | ReturnEvent
            | SearchEvent
            | PreferenceEvent
            | ImpressionEvent
            | ItemEvent
            | TripleEvent
            | MergeEvent
        ],
        Meta(min_length=1),
    ]


class EventResult(msgspec.Struct, frozen=True):
    """What became of one event: Kafka has it, or why not."""

    accepted: Literal[True] | UnsetType = UNSET
    error: str | UnsetType = UNSET


class EventResults(msgspec.Struct, frozen=True):
    """One result for each event, in their order; `error` only if no event was accepted."""

    results: list[EventResult]
    error: ErrorText | UnsetType = UNSET


class Accepted(msgspec.Struct, frozen=True):
    """Kafka has the message."""

    accepted: Literal[True] = True


class RerankCandidate(msgspec.Struct, frozen=True):
    """An item of the catalogue by its id, or any other item by its text; the catalogue's own text is preferred."""

    item_id: Id
    text: str | None = None


class RerankEvent(msgspec.Struct, frozen=True):
    """A click or a purchase of a user whom the pipeline does not know. Without a time it is newer than those before."""

    item_id: Id
    type: EventType = "click"
    timestamp: Timestamp | None = None


class RerankQuestion(msgspec.Struct, frozen=True):
    """The body of `POST /v1/rerank`: either `user_id`, or `history` with the newest event last.

    `context`, `exclude`, `pin` and `filter` are those of a rank request.
    """

    candidates: Annotated[list[RerankCandidate], Meta(min_length=1, max_length=MAX_CANDIDATES)]
    user_id: Id | None = None
    history: Annotated[list[RerankEvent], Meta(max_length=MAX_HISTORY)] | None = None
    context: Context = {}
    exclude: list[Id] = []
    pin: Pins = []
    filter: dict[str, Any] = {}


class RerankedItem(msgspec.Struct, frozen=True):
    """A candidate with its rank from 1. Scores are comparable within one answer only; null is no number."""

    item_id: str
    rank: int
    score: float | None


class CandidateError(msgspec.Struct, frozen=True):
    """Why a candidate has no rank: `unknown_item` is in no catalogue, and has no text. `excluded`: by a rule."""

    item_id: str
    code: str
    message: str


class Reranked(msgspec.Struct, frozen=True):
    """The candidates, best first. `degraded` is null if the model scored them; its reasons are those of a list."""

    items: list[RerankedItem]
    model: str
    degraded: str | None
    errors: list[CandidateError]


BODIES: dict[str, type[msgspec.Struct]] = {
    "http-error": ErrorBody,
    "http-events": EventsRequest,
    "http-events-results": EventResults,
    "http-rerank": RerankQuestion,
    "http-rerank-results": Reranked,
}
"""By the names of their schemas."""

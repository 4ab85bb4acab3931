"""What users do, and the items: messages that a program of yours writes."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from streams.contracts.values import (
    Categories,
    Context,
    ContextKey,
    Count,
    Currency,
    Embedding,
    Entities,
    EventType,
    Id,
    Name,
    Node,
    Price,
    Propensity,
    Relation,
    SpaceName,
    Timestamp,
)


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
    context: Annotated[
        dict[ContextKey, Any], Meta(max_length=64, description="where it happened: device, page, …")
    ] = {}


class Purchase(Click, kw_only=True, frozen=True, omit_defaults=True):
    """A user bought an item, or gave it back. Topic `purchases`, key `user_id`.

    A return has a negative `quantity`, and in `takes_back` the `event_id` of the purchase of the same user and item.
    """

    quantity: Annotated[
        float, Meta(description="above 0; below 0 for a return", extra_json_schema={"not": {"const": 0}})
    ] = 1
    price: Price | None = None
    currency: Currency | None = None
    takes_back: Annotated[Id, Meta(description="the event_id of the purchase that is returned")] | None = None


class UserEvent(Click, kw_only=True, frozen=True, omit_defaults=True):
    """A user did something with an item. Topic `events`, key `user_id`.

    `type` is one that has a weight: view, click, cart, purchase, like, dislike, rating, complete, skip, return, or one
    of yours that `interest.weights` names.
    """

    type: EventType
    rating: Annotated[float, Meta(ge=1, description="1 to best_rating; a type rating needs it")] | None = None
    best_rating: Annotated[float, Meta(gt=1)] = 5


class Search(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """A user searched. Topic `searches`, key `user_id`. `results`: the items that the search showed, best first."""

    event_id: Id
    user_id: Id
    text: Annotated[str, Meta(min_length=1, max_length=1_000, description="the query")]
    timestamp: Timestamp
    session_id: Id | None = None
    results: Annotated[list[Id], Meta(max_length=100)] = []
    context: Context = {}


class Preference(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """A user says what lists shall be like, or takes that back. Topic `preferences`, key `user_id`.

    `text` is a wish: "nothing with fur this week". It applies until `expires_at`, until the end that it names, or until
    a message with its `event_id` in `revoke`. A message has one of `text` and `revoke`.
    """

    event_id: Id
    user_id: Id
    timestamp: Timestamp
    text: Annotated[str, Meta(description="the wish, in the user's words")] | None = None
    expires_at: Timestamp | None = None
    revoke: Annotated[Id, Meta(description="the event_id of the wish to take back")] | None = None


class Impression(msgspec.Struct, kw_only=True, frozen=True):
    """A list was shown. Topic `impressions`, key `user_id`.

    `propensities` are those of the list's items, in the order of `items`: `afterclick evaluate --policy` reads them.
    """

    event_id: Id
    user_id: Id
    list_id: Id
    items: list[Id]
    timestamp: Timestamp
    propensities: list[Propensity] | UnsetType = UNSET


class Item(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """An item that can be recommended. Topic `items` (compacted), key `item_id`. A null value deletes the item.

    `embeddings` holds a vector in each space that it names. `image` is a path or URL: `afterclick embed-images` makes
    the vector `image` of it. No worker fetches it.
    """

    item_id: Id
    title: Annotated[str, Meta(min_length=1, max_length=1_000)]
    description: str = ""
    categories: Categories = []
    brand: Name = ""
    price: Price | None = None
    currency: Currency | None = None
    attributes: dict[str, Any] = {}
    image: str | None = None
    embeddings: Annotated[dict[SpaceName, Embedding | None], Meta(max_length=8)] = {}
    entities: Entities = []
    provider: str | None = None
    domain: Annotated[Name, Meta(description="the catalogue that it is of, such as `films`")] = ""
    group_id: Annotated[Id, Meta(description="the same for all variants of a product")] | None = None
    available: bool = True
    timestamp: Timestamp | None = None


class Triple(msgspec.Struct, kw_only=True, frozen=True):
    """A fact, such as that a film is directed by somebody. Topic `knowledge` (compacted). A null value deletes it.

    Head and tail are ids of items or of anything else. The key is head, relation and tail with tabs between them. The
    relation `name` says what people call the head.
    """

    head: Node
    relation: Annotated[Relation, Meta(min_length=1)]
    tail: Node

    @property
    def key(self) -> str:
        """The key of its message."""
        return f"{self.head}\t{self.relation}\t{self.tail}"


class Forget(msgspec.Struct, kw_only=True, frozen=True):
    """Erase this user everywhere. Topic `forget`, key `user_id`."""

    user_id: Id
    timestamp: Timestamp


class UserMerge(msgspec.Struct, kw_only=True, frozen=True):
    """A visitor turned out to be a user: what the visitor did, and will do, is the user's. Topic `merges`.

    The key is `from_user_id`. A user is merged into one other at most, and never into one who was merged into them.
    """

    from_user_id: Id
    into_user_id: Id
    timestamp: Timestamp

    @property
    def user_id(self) -> str:
        """The user whose state changes first."""
        return self.from_user_id

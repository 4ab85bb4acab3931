"""A request to rank candidates for a user."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from streams.contracts.values import (
    Categories,
    ContextKey,
    Count,
    Currency,
    EventType,
    Id,
    Milliseconds,
    Name,
    Pins,
    Placement,
    Price,
    Relation,
    Satisfaction,
    Timestamp,
    Title,
    WishEffect,
)


class Trigger(msgspec.Struct, kw_only=True, frozen=True):
    """The newest event that caused a list to be made."""

    event_id: Id
    type: EventType


class SearchedText(msgspec.Struct, kw_only=True, frozen=True):
    """One of a user's recent searches."""

    text: str
    timestamp: Timestamp


class HistoryEvent(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """One event of a user's recent history, with the fields of its item that the ranker describes it by."""

    item_id: Id
    type: EventType
    timestamp: Timestamp
    title: Title
    strength: Annotated[float, Meta(ge=-2, le=2, description="the share of the type's weight that counts")] = 1
    brand: Name = ""
    categories: Categories = []
    price: Price | None = None
    currency: Currency | None = None


class PathStep(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """One step of a path in the knowledge graph, from an item of the user's history to a candidate.

    `relation` is empty for a step between an item and one of its `entities`. `to` is what people call the node that the
    step leads to; empty for the candidate. `inverse`: the step leads from the tail of a triple to its head.
    """

    relation: Relation = ""
    to: str = ""
    inverse: bool = False


class Candidate(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """An item that may enter the list.

    The model reads `text`. `retrieval_score` orders the candidates when no model does: higher is better. `because` is
    the item of the user's history that the reason cites. It is similar to this one, unless `together`: then others
    visited both. `path` leads from that item to this one in the knowledge graph. `searched` is the user's search that
    the reason tells of, in place of an item. `pull` lets it come earlier in the list, because the user searches for it,
    or later, because it is like what the user disliked; age, price and repeats count here too. `bought_at` is when the
    user bought the item last, for rules. An item that was `shown` to the user lately comes after all others.
    `unclicked` is how often the user was shown it since they did anything with it, for rules. `wishes` names the
    clauses of the user's wishes that keep it out of the list or change its rank, by their number among those of all
    wishes.
    """

    item_id: Id
    text: str
    sources: list[Name] = []
    categories: Categories = []
    retrieval_score: float = 0.0
    because: Id | None = None
    together: bool = False
    bought_at: Milliseconds | None = None
    shown: bool = False
    pull: Annotated[float, Meta(ge=-99, le=99)] = 0.0
    path: list[PathStep] = []
    searched: str = ""
    wishes: list[Count] = []
    unclicked: Count = 0


class Features(msgspec.Struct, kw_only=True, frozen=True):
    """The features of the candidates, for a fusion model. The state tier computes them, the rank tier reads them.

    `values` holds one row of `ranker.features.NAMES` for each candidate, as little-endian float16, base64 in JSON,
    because decimal digits would make up most of the message. `schema` names the set of features. `version` names the
    learnt sources of the model's folder, whose columns follow: a model reads only the features that it was trained on.
    """

    schema: int
    values: bytes
    version: str = ""


class WishClause(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """One thing that a wish says. `words` is what was understood: "nothing with fur"."""

    effect: WishEffect
    words: Annotated[str, Meta(max_length=2_000)]


class StatedWish(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """A wish of the user. `clauses` is what was understood of `text`.

    `answer` says why nothing was understood, or that no item fits.
    """

    wish_id: Id
    text: Annotated[str, Meta(max_length=1_000)]
    clauses: list[WishClause] = []
    answer: str = ""
    expires_at: Milliseconds | None = None


class Feedback(msgspec.Struct, kw_only=True, frozen=True):
    """An item that the user chose from one of our lists: the click or purchase named the list in `list_id`."""

    list_id: Id
    item_id: Id


class RankRequest(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """All that the rank tier needs. Topic `rank-requests`, key `user_id`. A null value means the user was forgotten.

    The state tier writes requests; an upstream recommender with its own candidates may write them too. `history` is in
    the order of time, newest last. `placement` says where the list will be shown: a user has one list for each. Without
    `features` the model ranks by the texts alone. `feedback` holds the choices since the user's last request.
    `searches` are the newest, newest last. `context` is that of the newest event in words: the model reads what
    `ranker.context_keys` names, and rules read all. `exclude` (what it must not show), `pin` (what it begins
    with) and `filter` (conditions for all its items, as `items` of a rule) are rules for this list alone. `wishes` are
    the user's own. `satisfaction` says how satisfied the user is (`encoders.signals.satisfaction`); it changes no list.
    """

    request_id: Id
    user_id: Id
    as_of: Timestamp
    history: list[HistoryEvent]
    candidates: list[Candidate]
    placement: Placement | None = None
    features: Features | None = None
    feedback: list[Feedback] = []
    searches: list[SearchedText] = []
    context: Annotated[dict[ContextKey, Name], Meta(max_length=64)] = {}
    exclude: list[Id] = []
    pin: Pins = []
    filter: dict[str, Any] = {}
    wishes: list[StatedWish] = []
    domain: Annotated[Name, Meta(description="whose items the list is of: the state tier recalls the candidates")] = ""
    state_version: Count = 0
    trigger: Trigger | None = None
    arrived_at: Milliseconds | None = None
    satisfaction: Satisfaction | None = None

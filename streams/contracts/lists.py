"""Lists, and messages that were rejected."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from streams.contracts.requests import StatedWish, Trigger
from streams.contracts.values import Count, Id, Milliseconds, Placement, Propensity, Satisfaction


class Reason(msgspec.Struct, kw_only=True, frozen=True):
    """Why an item is in the list, in words. `evidence` holds item ids from the user's own history."""

    text: str
    evidence: list[Id] = []


class RecommendedItem(msgspec.Struct, kw_only=True, frozen=True):
    """One item of a list. `rank` counts from 1. Scores are comparable within one list only.

    `propensity` is the probability with which this rank shows this item, where exploration is on: send it back with the
    impression. A list without it was not explored.
    """

    item_id: Id
    rank: Annotated[int, Meta(ge=1)]
    score: float | None
    sources: list[str]
    reason: Reason
    propensity: Propensity | UnsetType = UNSET


class ListWish(StatedWish, kw_only=True, frozen=True, omit_defaults=True):
    """A wish of the user, as a list obeys it. `items` names what the wish kept out or gave another rank, at most 20."""

    items: list[Id] = []  # noqa: RUF012 - msgspec copies it


class Recommendations(msgspec.Struct, kw_only=True, frozen=True):
    """A user's list. Topic `recommendations` (compacted). A null value means the user was forgotten.

    The key is `user_id`, or `user_id:placement`; `streams.list_keys` tells both apart.

    `state_version` is the number of events that the user's state has accepted. A repeated event, with the
    same topic, `event_id` and item, is accepted once. `as_of` is the newest event time among them. `degraded` is null
    when the model ranked the list. Otherwise it is the reason why the model did not, or `no-candidates`: the list is
    empty, because no item may be recommended. `rules` names the rules that changed the list, each with the items that
    it kept out, pinned or gave another rank, at most 20. `reasons_version` is there once a language model has worded
    reasons anew: the same list, published again. `wishes` has the user's wishes that hold now. `satisfaction` says how
    satisfied the user was when the list was made; it is absent if nothing is known. `schema` grows when a field changes
    its meaning.
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
    placement: Placement | None = None
    rules: dict[str, list[Id]] | UnsetType = UNSET
    reasons_version: Annotated[int, Meta(ge=1)] | UnsetType = UNSET
    wishes: list[ListWish] | UnsetType = UNSET
    satisfaction: Satisfaction | UnsetType = UNSET


class DeadLetter(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """A rejected message, byte for byte. Topic `dead-letters`; `payload` and `key` are base64 in JSON.

    `error` is for the producer of the message. `cause` is the same for all messages that fail alike, and contains
    nothing of the message. Where the letter would exceed the topic's `max.message.bytes`, `payload` (or `key`) is cut,
    and `payload_bytes` (or `key_bytes`) is its size before the cut.
    `mapped`: `topic` is the full name of a topic of yours that the settings map, and not a name without the prefix.
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
    mapped: bool = False

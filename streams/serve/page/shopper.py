"""What the page shows of one shopper: the list with titles and evidence, the history, and the interests found.

The list is as it was published. History and interests come from a copy of the user's state, which may be a few
milliseconds behind or ahead of the list. Knows no HTTP and no Kafka.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from types import MappingProxyType
from typing import Literal

import msgspec
import numpy as np

from encoders.events.entries import item_key
from encoders.interest import Interest, Vector
from ranker.recall.catalogue import Catalogue
from ranker.recall.user_view import UserView
from streams.contracts import Recommendations, Trigger
from streams.serve.page.shelf import ShownItem

HISTORY = 8
NEIGHBOURS = 12
"""Items nearest to an interest, whose most frequent category names it; chosen by us."""
EXAMPLES = 2
InterestKind = Literal["session", "prototype", "long"]


class ShownEvent(msgspec.Struct, frozen=True):
    """An event of the shopper's history. `title` is None where the catalogue does not have the item."""

    item_id: str | None
    title: str | None
    type: str | None = None
    time_ms: int | None = None


class ShownInterest(msgspec.Struct, frozen=True):
    """An interest, named by the items that are nearest to it."""

    kind: InterestKind
    name: str
    category: str | None
    examples: list[str]


class ShownRecommendation(ShownItem, frozen=True, kw_only=True):
    """One item of the list."""

    rank: int
    score: float | None
    sources: list[str]
    reason: str
    evidence: list[ShownEvent]


class ListView(msgspec.Struct, frozen=True):
    """The list. `user_id` is the one that the page asked for, not a pseudonym."""

    list_id: str
    user_id: str
    as_of: int
    published_at: int | None
    state_version: int
    model: str
    degraded: str | None
    trigger: Trigger | None
    items: list[ShownRecommendation]


class ShopperView(msgspec.Struct, frozen=True):
    """All of it. `cold`: the shopper has no list, and this is the cold-start list."""

    user: str
    cold: bool
    listed: ListView | None = msgspec.field(name="list")
    history: list[ShownEvent]
    interests: list[ShownInterest]


def shown_list(
    user: str,
    received: Recommendations,
    catalogue: Catalogue | None,
    state: Interest | None,
    types: Mapping[int, str] = MappingProxyType({}),
    published_ms: int | None = None,
) -> ListView:
    """Add titles, prices and the times of the evidence to a list.

    Parameters
    ----------
    user : str
        The id that the page asked for.
    received : Recommendations
    catalogue : Catalogue or None
        None while there is no copy of it yet: ids stand for titles.
    state : Interest or None
        The user's state, for the times of the evidence.
    types : mapping of int to str
        The types of events by their codes.
    published_ms : int or None
        When the list was written to its topic, if it is known.
    """
    events = {} if state is None else {int(entry["item"]): entry for entry in state.history}

    def evidence(item_id: str) -> ShownEvent:
        title, entry = _item(catalogue, item_id).title, events.get(item_key(item_id))
        happened = () if entry is None else (types.get(int(entry["type"])), int(entry["time_ms"]))
        return ShownEvent(item_id, title, *happened)

    items = []
    for one in received.items:
        item = _item(catalogue, one.item_id)
        items.append(
            ShownRecommendation(
                item_id=one.item_id,
                title=item.title or one.item_id,
                categories=item.categories,
                brand=item.brand,
                price=item.price,
                currency=item.currency,
                rank=one.rank,
                score=one.score,
                sources=one.sources,
                reason=one.reason.text,
                evidence=[evidence(item_id) for item_id in one.reason.evidence],
            )
        )
    return ListView(
        list_id=received.list_id,
        user_id=user,
        as_of=received.as_of,
        published_at=published_ms,
        state_version=received.state_version,
        model=received.model,
        degraded=received.degraded,
        trigger=received.trigger,
        items=items,
    )


def history(state: Interest, catalogue: Catalogue, types: Mapping[int, str]) -> list[ShownEvent]:
    """Return the newest events of a state, newest first; `types` are those of events by their codes."""
    shown = []
    for time_ms, key, code, _ in state.history[: -HISTORY - 1 : -1].tolist():
        item = catalogue.get(key)
        shown.append(
            ShownEvent(
                item_id=None if item is None else item.item_id,
                title=None if item is None else item.title,
                type=types.get(code),
                time_ms=time_ms,
            )
        )
    return shown


def interests(view: UserView) -> list[ShownInterest]:
    """Name the interests of a state: the session, then the prototypes, the heaviest first.

    The mean of the long term is left out, because it lies between the prototypes and is none of them.
    """
    if not len(view.catalogue):
        return []
    found = view.interests
    session = () if found.session is None else (found.session,)
    named = chain(_named(view.catalogue, "session", session), _named(view.catalogue, "prototype", found.prototypes))
    by_name: dict[str, ShownInterest] = {}
    for interest in named:
        by_name.setdefault(interest.name, interest)
    return list(by_name.values())


def _named(catalogue: Catalogue, kind: InterestKind, directions: Sequence[Vector] | Vector) -> Iterator[ShownInterest]:
    for direction in directions:
        rows, _ = catalogue.text.nearest(np.asarray(direction)[None], NEIGHBOURS)
        items = [catalogue.at(row) for row in rows]
        leaves = Counter(item.categories[-1] for item in items if item.categories)
        if not items:
            continue
        leaf = leaves.most_common(1)[0][0] if leaves else None
        own = [item for item in items if leaf is None or item.categories[-1:] == (leaf,)]
        top = own[0].categories[0] if leaf else None
        yield ShownInterest(kind, leaf or own[0].title, top, [item.title for item in own[:EXAMPLES]])


def _item(catalogue: Catalogue | None, item_id: str) -> ShownItem:
    item = None if catalogue is None else catalogue.get(item_key(item_id))
    return ShownItem(item_id, None) if item is None else ShownItem.of(item)

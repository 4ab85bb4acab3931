"""A client for Python programs: send events and items, read and iterate over lists, have candidates ranked.

    from streams.client import Client, Item

    with Client(kafka="localhost:9092", redis="redis://localhost:6379/0") as client:
        client.send(Item(item_id="i1", title="Trail running jacket", price=89.0, currency="EUR"))
        client.click("u1", "i1")
        print(client.recommendations("u1"))

`pip install 'afterclick[client]'` installs what it needs, which is neither a model nor a stream processor. Every error
that it raises on purpose is a `ClientError`.
"""

from __future__ import annotations

from streams.bodies import RerankCandidate, Reranked, RerankedItem, RerankEvent
from streams.client.asynchronous import AsyncClient
from streams.client.errors import (
    ClientClosed,
    ClientError,
    MessageRefused,
    MissingArgument,
    ServiceRefused,
    ServiceUnavailable,
)
from streams.client.messages import Forgotten
from streams.client.synchronous import Client
from streams.contracts import (
    Candidate,
    Click,
    Forget,
    HistoryEvent,
    Impression,
    Item,
    PathStep,
    Preference,
    Purchase,
    RankRequest,
    Recommendations,
    RecommendedItem,
    Search,
    Triple,
    UserEvent,
    UserMerge,
)

__all__ = [
    "AsyncClient",
    "Candidate",
    "Click",
    "Client",
    "ClientClosed",
    "ClientError",
    "Forget",
    "Forgotten",
    "HistoryEvent",
    "Impression",
    "Item",
    "MessageRefused",
    "MissingArgument",
    "PathStep",
    "Preference",
    "Purchase",
    "RankRequest",
    "Recommendations",
    "RecommendedItem",
    "RerankCandidate",
    "RerankEvent",
    "Reranked",
    "RerankedItem",
    "Search",
    "ServiceRefused",
    "ServiceUnavailable",
    "Triple",
    "UserEvent",
    "UserMerge",
]

"""The vectors of the texts that users search for, computed before a batch of events changes states."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from encoders.interest import Vector
from streams.contracts import Click, Search
from streams.state.request_builder import Encode


async def query_vectors(messages: Iterable[object], encode: Encode, sought: Iterable[str] = ()) -> Mapping[str, Vector]:
    """Return the vectors of the texts of all searches among some messages, and of `sought`; each is encoded once."""
    texts = list(dict.fromkeys([*(message.text for message in messages if isinstance(message, Search)), *sought]))
    return dict(zip(texts, await encode(texts), strict=True)) if texts else {}


Happening = Click | Search
"""A message that changes the state of a user."""

"""The types of the fields, and their limits."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta

LIST_SCHEMA = 2
"""Schema of a list. A list of schema 1 has no field `schema`. `as_of` and `state_version` mean the same in both."""
MAX_ID_BYTES = 256
MAX_MESSAGE_BYTES = 1 << 20
MAX_DIM = 4_096
"""Components of a vector that an item brings."""
MAX_EXACT_INTEGER = 2**53
"""Every JSON parser reads integers up to this one exactly, even if it stores numbers as 64-bit floats."""
MAX_TIMESTAMP = 2**62
"""Large enough for a time that was sent in nanoseconds by mistake, so that the error text can name the mistake."""
MAX_REQUEST_BYTES = 48 << 20
"""A rank request of 5,000 candidates with the longest texts is 40 MiB; its topic's own limit is lower."""

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
Entities = Annotated[list[Name], Meta(max_length=256, description="what it is about: ids of the knowledge graph")]
Node = Annotated[
    str, Meta(min_length=1, max_length=MAX_ID_BYTES, pattern=r"^[^\t]*$", description="1 to 256 bytes of UTF-8, no tab")
]
Relation = Annotated[str, Meta(max_length=64, pattern=r"^[^\t]*$")]
Pins = Annotated[list[Id], Meta(max_length=100)]
SpaceName = Annotated[str, Meta(pattern="^[a-z][a-z0-9_]{0,31}$", description="such as `image`")]
Embedding = (
    Annotated[list[float], Meta(min_length=1, max_length=MAX_DIM, description="the components; any length but 0")]
    | Annotated[bytes, Meta(description="the same as little-endian float16, in base64")]
)
Placement = Annotated[str, Meta(min_length=1, max_length=64, description="a declared name, such as `cart`")]
Propensity = Annotated[float, Meta(gt=0, le=1, description="the probability with which a place shows its item")]
ContextKey = Annotated[str, Meta(min_length=1, max_length=64)]
Satisfaction = Annotated[float, Meta(ge=0, le=1, description="how satisfied the user is")]
Context = Annotated[dict[ContextKey, Any], Meta(max_length=64, description="where it happens: device, page, …")]
EventType = Annotated[str, Meta(min_length=1, max_length=64, description="click, purchase, or another type")]
WishEffect = Literal["exclude", "only", "more", "less", "max-price", "min-price", "cheaper", "dearer"]
LANGUAGE_KEY = "language"
"""The key of a context that names the user's language, such as `de` or `zh-Hans`."""
COLD_START_USER = "*"
"""The user id of the cold-start list, which serves users without a list. Rejected as the id of a user."""

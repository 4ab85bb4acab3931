"""Items and histories in words, for the encoder and the scorers: the one place that decides how a text reads.

Serving, training and evaluation render through these functions, so a model sees in production what it was trained on.
Knows no vectors and no transport; called by the two tiers.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from encoders.event_time import ago, milliseconds

MOST_CHARACTERS = 2_000
"""Of an item's text; chosen by us: more than a candidate's 512 tokens hold, and 100 of them still fit in a message."""
_CONTROLS = dict.fromkeys(
    code
    for codes in (range(32), range(127, 160), range(0x202A, 0x202F), range(0x2066, 0x206A))
    for code in codes
    if not chr(code).isspace()
)
"""C0, C1, and what overrides the direction of writing: they make a text look other than it is."""
_VERBS = {"click": "Viewed", "purchase": "Bought"}


class DescribedItem(Protocol):
    """What an item's text is made of; the `items` topic's message has it."""

    @property
    def title(self) -> str: ...
    @property
    def brand(self) -> str: ...
    @property
    def categories(self) -> list[str]: ...
    @property
    def description(self) -> str: ...


class DescribedEvent(Protocol):
    """What one line of a history is made of; a rank request's history has it."""

    @property
    def type(self) -> str: ...
    @property
    def timestamp(self) -> datetime | int: ...
    @property
    def title(self) -> str: ...
    @property
    def brand(self) -> str: ...
    @property
    def categories(self) -> list[str]: ...
    @property
    def price(self) -> float | None: ...
    @property
    def currency(self) -> str | None: ...


def describe_item(item: DescribedItem) -> str:
    """Put an item into one line: title, brand, categories, description; what is missing is left out.

    At most `MOST_CHARACTERS`.

    >>> from types import SimpleNamespace as Item
    >>> describe_item(Item(title="Trail jacket", brand="Nordvik", categories=["Outdoor"], description=""))
    'Trail jacket. Nordvik. Outdoor'
    """
    parts = (item.title, item.brand, ", ".join(item.categories), item.description)
    return ". ".join(line for part in parts if (line := one_line(part)))[:MOST_CHARACTERS]


def describe_history(history: Sequence[DescribedEvent], as_of_ms: int) -> str:
    """Put a history into sentences, one event a line, in the order given: by time, newest last.

    Ages are told relative to `as_of_ms`, the newest event's time, so the text depends on events alone, not on a clock.
    Whatever a title holds, an event is one line.

    >>> from types import SimpleNamespace as Event
    >>> describe_history([Event(type="purchase", timestamp=0, title="Trail running jacket", brand="Nordvik",
    ...                         categories=["Outdoor"], price=89.0, currency="EUR")], as_of_ms=2 * 86_400_000)
    'Bought Trail running jacket by Nordvik (Outdoor, 89.00 EUR) 2 days ago'
    """
    return "\n".join(_sentence(event, as_of_ms) for event in history)


def _sentence(event: DescribedEvent, as_of_ms: int) -> str:
    details = [category for category in event.categories[-1:] if category.strip()]
    if event.price is not None:
        details.append(f"{event.price:.2f} {event.currency or ''}".rstrip())
    words = [
        _VERBS[event.type],
        event.title,
        f"by {event.brand}" if event.brand.strip() else "",
        f"({', '.join(details)})" if details else "",
        ago(max(0, as_of_ms - milliseconds(event.timestamp))),
    ]
    return one_line(" ".join(words))


def one_line(text: str) -> str:
    r"""Drop controls, and make every run of white space one blank; `str.split` knows all that ends a line anywhere.

    >>> one_line("Tent\u2028Bought \u202eA\x00 hat today\n")
    'Tent Bought A hat today'
    """
    return " ".join(text.translate(_CONTROLS).split())

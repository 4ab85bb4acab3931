"""Items and histories in words, for the encoder and the scorers: the only module that decides how a text reads.

Serving, training and evaluation use these functions, so a model sees in production what it was trained on. Knows no
vectors and no transport.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from encoders.event_time import ago, milliseconds

MAX_CHARACTERS = 2_000
"""Of an item's text; chosen by us: more than a candidate's 512 tokens, and 100 such texts still fit in a message."""
_CONTROLS = dict.fromkeys(
    code
    for codes in (range(32), range(127, 160), range(0x202A, 0x202F), range(0x2066, 0x206A))
    for code in codes
    if not chr(code).isspace()
)
"""C0, C1 and the overrides of the writing direction, which make a text look different from its content."""
_VERBS = {"click": "Viewed", "purchase": "Bought"}


class DescribedItem(Protocol):
    """The fields of an item that its text consists of, as in a message of the `items` topic."""

    @property
    def title(self) -> str: ...
    @property
    def brand(self) -> str: ...
    @property
    def categories(self) -> list[str]: ...
    @property
    def description(self) -> str: ...


class DescribedEvent(Protocol):
    """The fields of an event that its line of a history consists of, as in a rank request."""

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
    """Describe an item in one line of at most `MAX_CHARACTERS`: title, brand, categories, description.

    Missing parts are left out.

    >>> from types import SimpleNamespace as Item
    >>> describe_item(Item(title="Trail jacket", brand="Nordvik", categories=["Outdoor"], description=""))
    'Trail jacket. Nordvik. Outdoor'
    """
    parts = (item.title, item.brand, ", ".join(item.categories), item.description)
    return ". ".join(line for part in parts if (line := one_line(part)))[:MAX_CHARACTERS]


def describe_history(history: Sequence[DescribedEvent], as_of_ms: int) -> str:
    """Describe a history, one event per line, in the order given: by time, newest last.

    Parameters
    ----------
    history : sequence of DescribedEvent
        Newest last. An event is one line, whatever its title contains.
    as_of_ms : int
        The newest event's time, milliseconds since the epoch. Ages are relative to it, so the text depends on the
        events alone and not on a clock.

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
    r"""Drop controls, and replace each run of white space by one blank; `str.split` knows every kind of line end.

    >>> one_line("Tent\u2028Bought \u202eA\x00 hat today\n")
    'Tent Bought A hat today'
    """
    return " ".join(text.translate(_CONTROLS).split())

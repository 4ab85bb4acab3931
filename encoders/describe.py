"""Items and histories in words, for the encoder and the scorers: the only module that decides how a text reads.

Serving, training and evaluation use these functions, so a model sees in production what it was trained on. Knows no
vectors and no transport.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from encoders.event_time import ago, milliseconds
from encoders.events.types import rating_of

MAX_CHARACTERS = 2_000
"""Of an item's text; chosen by us: more than a candidate's 512 tokens, and 100 such texts still fit in a message."""
MAX_ATTRIBUTE_CHARACTERS = 400
"""Of the attributes within that; chosen by us: two dozen short ones, so that a long list of them leaves room for the
description."""
MAX_DEPTH = 3
"""Of objects and arrays in an attribute; what is nested deeper is left out."""
MAX_CONTEXT_CHARACTERS = 256
"""Of one value of a context."""
_CONTROLS = dict.fromkeys(
    code
    for codes in (range(32), range(127, 160), range(0x202A, 0x202F), range(0x2066, 0x206A))
    for code in codes
    if not chr(code).isspace()
)
"""C0, C1 and the overrides of the writing direction, which make a text look different from its content."""
_VERBS = {
    "click": "Viewed",
    "view": "Viewed",
    "purchase": "Bought",
    "cart": "Put into the cart",
    "like": "Liked",
    "dislike": "Disliked",
    "rating": "Rated",
    "complete": "Finished",
    "skip": "Skipped",
    "return": "Returned",
}
"""How a history names the types of events; the type of a team's own is its own name."""
_SEARCHED, _NOW = "Searched ", "Now: "


class EventItem(Protocol):
    """The fields of an item that an event has too."""

    @property
    def title(self) -> str: ...
    @property
    def brand(self) -> str: ...
    @property
    def categories(self) -> list[str]: ...


class DescribedItem(EventItem, Protocol):
    """The fields of an item that its text consists of, as in a message of the `items` topic."""

    @property
    def attributes(self) -> Mapping[str, Any]: ...
    @property
    def description(self) -> str: ...


class DescribedEvent(EventItem, Protocol):
    """The fields of an event that its line of a history consists of, as in a rank request."""

    @property
    def type(self) -> str: ...
    @property
    def strength(self) -> float: ...
    @property
    def timestamp(self) -> datetime | int: ...
    @property
    def price(self) -> float | None: ...
    @property
    def currency(self) -> str | None: ...


class DescribedSearch(Protocol):
    """The fields of a search that its line of a history consists of, as in a rank request."""

    @property
    def text(self) -> str: ...
    @property
    def timestamp(self) -> datetime | int: ...


def describe_item(item: DescribedItem) -> str:
    """Describe an item in one line of at most `MAX_CHARACTERS`: title, brand, categories, attributes, description.

    Missing parts are left out. Attributes come before the description, because a model reads the beginning of a long
    text. They are in the order of their names, so that the text does not depend on the order in which a producer writes
    them. An attribute that would exceed `MAX_ATTRIBUTE_CHARACTERS` is left out.

    >>> from types import SimpleNamespace as Item
    >>> describe_item(Item(title="Trail jacket", brand="Nordvik", categories=["Outdoor"], description="Light.",
    ...                    attributes={"sizes": ["M", "L"], "colour": "red"}))
    'Trail jacket. Nordvik. Outdoor. colour: red; sizes: M, L. Light.'
    """
    attributes = _attributes(item.attributes) if item.attributes else ""
    return _joined(item.title, item.brand, ", ".join(item.categories), attributes, item.description)


def describe_event(item: EventItem) -> str:
    """Describe the item of an event in one line, without the event's time, kind and price: title, brand, categories.

    It is the item's own text where that has nothing else, so both have one vector.

    >>> from types import SimpleNamespace as Item
    >>> describe_event(Item(title="Trail jacket", brand="Nordvik", categories=["Outdoor"]))
    'Trail jacket. Nordvik. Outdoor'
    """
    return _joined(item.title, item.brand, ", ".join(item.categories))


def _attributes(attributes: Mapping[str, Any]) -> str:
    """The attributes that have a value, in the order of their names, as far as `MAX_ATTRIBUTE_CHARACTERS` reach."""
    room, kept = MAX_ATTRIBUTE_CHARACTERS, list[str]()
    for name in sorted(attributes):
        value = ", ".join(_values(attributes[name], MAX_DEPTH))
        words = one_line(f"{name}: {value}") if value else ""
        if words and len(words) <= room:
            kept.append(words)
            room -= len(words) + len("; ")
    return "; ".join(kept)


def _values(value: Any, depth: int) -> Iterator[str]:
    """The words of a JSON value, in its own order but for the names of an object; nothing for null and for blanks."""
    if isinstance(value, bool):
        yield "yes" if value else "no"
    elif isinstance(value, float):
        yield f"{value:g}"
    elif isinstance(value, (str, int)):
        yield from filter(None, [one_line(str(value))])
    elif isinstance(value, dict) and depth:
        for name in sorted(value):
            yield from (f"{name} {words}" for words in _values(value[name], depth - 1))
    elif isinstance(value, list) and depth:
        for part in value:
            yield from _values(part, depth - 1)


def describe_history(history: Sequence[DescribedEvent], as_of_ms: int, searches: Sequence[DescribedSearch] = ()) -> str:
    """Describe a history, one event per line, in the order given: by time, newest last.

    Parameters
    ----------
    history : sequence of DescribedEvent
        Newest last. An event is one line, whatever its title contains.
    as_of_ms : int
        The newest event's time, milliseconds since the epoch. Ages are relative to it, so the text depends on the
        events alone and not on a clock.
    searches : sequence of DescribedSearch
        Newest last. They stand between the events, by time.

    >>> from types import SimpleNamespace as Event
    >>> describe_history([Event(type="purchase", strength=1, timestamp=0, title="Trail running jacket", brand="Nordvik",
    ...                         categories=["Outdoor"], price=89.0, currency="EUR")], as_of_ms=2 * 86_400_000)
    'Bought Trail running jacket by Nordvik (Outdoor, 89.00 EUR) 2 days ago'
    """
    lines = [(milliseconds(event.timestamp), _sentence(event, as_of_ms)) for event in history]
    if searches:
        lines += [(milliseconds(search.timestamp), _search_line(search, as_of_ms)) for search in searches]
        lines.sort(key=lambda line: line[0])
    return "\n".join(sentence for _, sentence in lines)


def context_words(context: Mapping[str, Any]) -> dict[str, str]:
    """Return the values of an event's context in words; a key whose value has none is left out.

    >>> context_words({"device": "phone", "basket": ["i1", "i2"], "member": True, "page": None})
    {'device': 'phone', 'basket': 'i1, i2', 'member': 'yes'}
    """
    words = {key: ", ".join(_values(value, MAX_DEPTH))[:MAX_CONTEXT_CHARACTERS] for key, value in context.items()}
    return {key: value for key, value in words.items() if value}


def describe_context(context: Mapping[str, str], keys: Sequence[str]) -> str:
    """Describe where a user is now in one line, which comes after the history; empty if no key has a value.

    Parameters
    ----------
    context : mapping of str to str
        See `context_words`.
    keys : sequence of str
        What the line names, in this order.

    >>> describe_context({"page": "cart", "time_of_day": "evening", "ip": "::1"}, ["time_of_day", "device", "page"])
    'Now: time of day evening, page cart'
    """
    known = [f"{key.replace('_', ' ')} {context[key]}" for key in keys if key in context]
    return one_line(f"{_NOW}{', '.join(known)}") if known else ""


def is_about_an_item(line: str) -> bool:
    """Tell a line about an event from a search, which is in the user's own words, and from the context.

    >>> [is_about_an_item(line) for line in ("Viewed Hat just now", 'Searched "hat" just now', "Now: device phone")]
    [True, False, False]
    """
    return not line.startswith((_SEARCHED, _NOW))


def _joined(*parts: str) -> str:
    return ". ".join(line for part in parts if (line := one_line(part)))[:MAX_CHARACTERS]


def _sentence(event: DescribedEvent, as_of_ms: int) -> str:
    details = [category for category in event.categories[-1:] if category.strip()]
    if event.price is not None:
        details.append(f"{event.price:.2f} {event.currency or ''}".rstrip())
    is_rated = event.type == "rating"
    words = [
        _VERBS.get(event.type) or f"{event.type.replace('_', ' ').capitalize()}:",
        event.title,
        f"by {event.brand}" if event.brand.strip() else "",
        f"({', '.join(details)})" if details else "",
        f"{rating_of(event.strength)} stars" if is_rated else "",
        ago(max(0, as_of_ms - milliseconds(event.timestamp))),
        "and did not like it" if event.strength < 0 and not is_rated else "",
    ]
    return one_line(" ".join(words))


def _search_line(search: DescribedSearch, as_of_ms: int) -> str:
    """A search in one line; its text cannot end its own quotation marks."""
    text = one_line(search.text).replace('"', "'")
    return f'{_SEARCHED}"{text}" {ago(max(0, as_of_ms - milliseconds(search.timestamp)))}'


def one_line(text: str) -> str:
    r"""Drop controls, and replace each run of white space by one blank; `str.split` knows every kind of line end.

    Most texts are one line already: `isprintable` is false where there is a control, or white space other than blanks.

    >>> one_line("Tent\u2028Bought \u202eA\x00 hat today\n")
    'Tent Bought A hat today'
    """
    if text.isprintable() and "  " not in text and text[:1] != " " != text[-1:]:
        return text
    return " ".join(text.translate(_CONTROLS).split())

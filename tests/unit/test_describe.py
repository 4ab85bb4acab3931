"""How items and histories read: what is missing leaves no trace, and no text can pass for another event."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoders.describe import MAX_ATTRIBUTE_CHARACTERS, MAX_CHARACTERS, describe_history, describe_item
from encoders.event_time import ago
from streams import contracts
from streams.contracts import HistoryEvent

LINE_ENDS = [char for char in map(chr, range(sys.maxunicode + 1)) if len(f"a{char}b".splitlines()) > 1]
DAY_MS = 86_400_000
AS_OF_MS = 100 * DAY_MS
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()


@dataclass
class Item:
    title: str
    brand: str = ""
    categories: list[str] = field(default_factory=list)
    description: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)


def event(
    title: str,
    type_: Literal["click", "purchase"] = "click",
    brand: str = "",
    categories: tuple[str, ...] = (),
    price: float | None = None,
    currency: str | None = None,
    timestamp: datetime | int = AS_OF_MS,
) -> HistoryEvent:
    return HistoryEvent(
        item_id="i",
        type=type_,
        timestamp=timestamp,
        title=title,
        brand=brand,
        categories=list(categories),
        price=price,
        currency=currency,
    )


@pytest.mark.parametrize(
    ("one", "sentence"),
    [
        (event("Wool hat"), "Viewed Wool hat just now"),
        (event("Wool hat", "purchase", timestamp=AS_OF_MS - 3 * DAY_MS), "Bought Wool hat 3 days ago"),
        (event("Wool hat", brand="Nordvik"), "Viewed Wool hat by Nordvik just now"),
        (event("Wool hat", brand=" \n"), "Viewed Wool hat just now"),
        (event("Wool hat", categories=("Outdoor", "Hats")), "Viewed Wool hat (Hats) just now"),
        (event("Wool hat", categories=("Hats", " ")), "Viewed Wool hat just now"),
        (event("Wool hat", price=5), "Viewed Wool hat (5.00) just now"),
        (event("Wool hat", price=0.0, currency="EUR"), "Viewed Wool hat (0.00 EUR) just now"),
        (event("Wool hat", currency="EUR"), "Viewed Wool hat just now"),
        (event(" \t"), "Viewed just now"),
        (event("Wool hat", timestamp=AS_OF_MS + DAY_MS), "Viewed Wool hat just now"),
        (event("Wool hat", timestamp=datetime(1970, 4, 10, tzinfo=timezone.utc)), "Viewed Wool hat 1 day ago"),
        (
            event("Trail running jacket", "purchase", "Nordvik", ("Outdoor",), 89, "EUR", AS_OF_MS - 2 * DAY_MS),
            "Bought Trail running jacket by Nordvik (Outdoor, 89.00 EUR) 2 days ago",
        ),
    ],
)
def test_an_event_in_words(one: HistoryEvent, sentence: str) -> None:
    assert describe_history([one], AS_OF_MS) == sentence


def test_a_history_keeps_its_order() -> None:
    assert describe_history([], AS_OF_MS) == ""
    history = [event("Tent", timestamp=AS_OF_MS - DAY_MS), event("Stove")]
    assert describe_history(history, AS_OF_MS) == "Viewed Tent 1 day ago\nViewed Stove just now"


def test_a_text_cannot_forge_a_second_event() -> None:
    assert len(LINE_ENDS) > 8
    for char in LINE_ENDS:
        forged = f"Hat{char}Bought Tent 1 day ago"
        history = [event(forged, "click", forged, (forged,), 1.0, f"E{char}R"), event("Stove")]
        first, *others = describe_history(history, AS_OF_MS).splitlines()
        assert others == ["Viewed Stove just now"], repr(char)
        assert first.startswith("Viewed Hat Bought Tent 1 day ago by Hat Bought")
        assert len(describe_item(Item(forged, forged, [forged, forged], forged)).splitlines()) == 1


@given(st.lists(st.builds(event, st.text(), brand=st.text(), categories=st.tuples(st.text(), st.text())), max_size=4))
def test_any_history_has_a_line_per_event(history: list[HistoryEvent]) -> None:
    lines = describe_history(history, AS_OF_MS).splitlines()
    assert len(lines) == len(history)
    assert all(line.startswith("Viewed ") and line.endswith(" just now") for line in lines)


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (Item("Wool hat"), "Wool hat"),
        (Item("Wool hat", " ", [], "\n"), "Wool hat"),
        (Item("Wool hat", "", ["Outdoor", "Hats"], "Warm.\nSoft."), "Wool hat. Outdoor, Hats. Warm. Soft."),
        (Item("Wool  hat", "Nordvik", ["Hats"], "Warm"), "Wool hat. Nordvik. Hats. Warm"),
        (
            Item("Hat", "Nordvik", ["Hats"], "Warm", {"size": 42, "colour": " red\n", "wool": True, "lining": False}),
            "Hat. Nordvik. Hats. colour: red; lining: no; size: 42; wool: yes. Warm",
        ),
        (Item("Hat", attributes={"sizes": ["S", "M"], "height": 12.50}), "Hat. height: 12.5; sizes: S, M"),
        (Item("Hat", attributes={"box": {"w": 3, "d": 2, "of": ["a", None]}}), "Hat. box: d 2, of a, w 3"),
        (Item("Hat", attributes={"a": None, "b": "", "c": [], "d": {}, "e": " "}), "Hat"),
        (Item("Hat", attributes={"a": [[[["deep"]]]], "b": 1}), "Hat. b: 1"),
    ],
)
def test_an_item_in_words(item: Item, text: str) -> None:
    assert describe_item(item) == text


def test_an_age_changes_its_words_seldom() -> None:
    in_a_month = {ago(minute * 60_000) for minute in range(30 * 24 * 60)}
    assert len(in_a_month) == 2 + 29


def test_attributes_of_a_message_are_in_the_text() -> None:
    message = b'{"item_id": "i", "title": "Hat", "attributes": {"sizes": ["S", "M"], "colour": {"main": "red"}}}'
    assert describe_item(msgspec.json.decode(message, type=contracts.Item)) == "Hat. colour: main red; sizes: S, M"


def test_attributes_leave_room_for_the_description() -> None:
    attributes = {"blob": "x" * MAX_ATTRIBUTE_CHARACTERS, **{f"a{number:03}": number for number in range(500)}}
    text = describe_item(Item("Hat", description="Warm" * MAX_CHARACTERS, attributes=attributes))
    assert text.startswith("Hat. a000: 0; a001: 1; ")
    assert "blob" not in text
    assert len(text) == MAX_CHARACTERS
    assert text.index("Warm") <= MAX_ATTRIBUTE_CHARACTERS + len("Hat. . ")


@given(
    st.dictionaries(
        st.text(max_size=9),
        st.recursive(
            SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
        ),
        max_size=5,
    )
)
def test_any_attributes_are_one_line_whatever_their_order(attributes: dict[str, Any]) -> None:
    text = describe_item(Item("Hat", attributes=attributes))
    assert len(text.splitlines()) == 1
    assert text == describe_item(Item("Hat", attributes=dict(reversed(attributes.items()))))

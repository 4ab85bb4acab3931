"""Lenient decoding of any value: no NaN or infinity is accepted, and a valid message stays as it is."""

from __future__ import annotations

import json
import math
from datetime import datetime, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from encoders.event_time import milliseconds
from encoders.lenient_time import lenient_time
from streams.contracts import TOPICS
from streams.receive.decode import INPUTS, receive
from streams.receive.keys import key_of_fields
from streams.receive.lenient import KINDS, fit
from streams.receive.message import BadMessage, Message
from tests.fuzz.decoders import NOW_MS, good
from tests.property.test_decoders import ANY_JSON

LOOSE = ANY_JSON | st.sampled_from(
    [
        "",
        " ",
        "0",
        "1",
        "-1",
        "89.00",
        "1e309",
        "NaN",
        "inf",
        "true",
        "No",
        "eur",
        "2026-11-22 18:00:00",
        "1795566875471",
    ]
)


def numbers(value: Any) -> list[float]:
    if isinstance(value, float):
        return [value]
    if isinstance(value, msgspec.Struct):
        return [n for name in value.__struct_fields__ if name != "context" for n in numbers(getattr(value, name))]
    return [n for inner in value for n in numbers(inner)] if isinstance(value, list) else []


@pytest.mark.parametrize("topic", INPUTS)
def test_an_accepted_message_meets_the_contract(topic: str) -> None:
    fields = json.loads(good()[topic][0])
    schema = TOPICS[topic]

    @given(st.dictionaries(st.sampled_from(schema.__struct_fields__), LOOSE, max_size=4))
    def loose(changed: dict[str, Any]) -> None:
        coerced: list[str] = []
        try:
            raw = json.dumps(fields | changed).encode()
        except UnicodeEncodeError:
            return
        key = key_of_fields(topic, fields | changed) or b"u"
        try:
            received = receive(Message(topic, 0, 0, key, raw), NOW_MS, coerced=coerced)
        except BadMessage:
            return
        assert set(coerced) <= {*KINDS, "bom"}
        assert all(map(math.isfinite, numbers(received)))
        again = msgspec.json.decode(msgspec.json.encode(received), type=schema)
        assert again == received, "encoded again, the strict decoder accepts it"

    loose()


@pytest.mark.parametrize("topic", INPUTS)
def test_a_message_that_meets_the_contract_stays_as_it_is(topic: str) -> None:
    for raw in good()[topic]:
        fitted, kinds = fit(json.loads(raw), TOPICS[topic])
        assert kinds == []
        assert msgspec.convert(fitted, TOPICS[topic]) == msgspec.json.decode(raw, type=TOPICS[topic])


@given(
    st.text() | st.floats() | st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9:.,]{5,15}( ?UTC|Z|[+-][0-9:]{2,5})?")
)
@example("9999-12-31 23:59:59 -2359")
@example("0001-01-01 00:00:00 +2359")
@example("2026-11-22 18:00:00 +9999")
def test_a_text_gives_a_time_with_a_zone_or_none(value: Any) -> None:
    moment = lenient_time(value)
    assert moment is None or isinstance(moment, int) or moment.tzinfo is not None
    if moment is not None:
        milliseconds(moment)


@given(st.integers(0, 2**43))
def test_every_form_of_a_time_gives_the_same_milliseconds(ms: int) -> None:
    moment = datetime.fromtimestamp(ms / 1000, timezone.utc).replace(microsecond=ms % 1000 * 1000)
    for written in (str(ms), float(ms), f"{ms}.0", f"{moment:%Y-%m-%d %H:%M:%S}.{ms % 1000:03} UTC"):
        read = lenient_time(written)
        assert read is not None
        assert milliseconds(read) == ms

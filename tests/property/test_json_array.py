"""A JSON array that is split while it is read gives the elements that the standard parser gives, however it is cut."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.datasets.json_array import BrokenArray, elements

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
INDENTS = st.sampled_from([None, 0, 2])
SIZES = st.integers(1, 40)


@given(st.lists(VALUES, max_size=5), INDENTS, st.booleans(), SIZES)
def test_the_elements_are_those_of_the_whole(array: list[object], indent: int | None, ascii_: bool, size: int) -> None:
    text = json.dumps(array, indent=indent, ensure_ascii=ascii_)
    found = list(elements(StringIO(f"\n{text}\n"), size))
    assert [json.loads(element.text) for element in found] == array
    assert [text.count(element.text) > 0 for element in found] == [True] * len(array)
    position = 0
    for element in found:  # each lies behind the one before it, on the line that it names
        position = text.index(element.text, position)
        assert element.line == text.count("\n", 0, position) + 2
        position += len(element.text)


@given(st.lists(VALUES, max_size=4), SIZES, st.data())
def test_a_damaged_array_gives_what_lies_before_the_damage(array: list[object], size: int, data: st.DataObject) -> None:
    text = json.dumps(array)
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    found: list[object] = []
    with pytest.raises(BrokenArray, match="line 1"):
        found.extend(json.loads(element.text) for element in elements(StringIO(cut), size))
    assert found == array[: len(found)]

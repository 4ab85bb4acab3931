"""A list without items against Python's own JSON, on lists of any writer: unknown fields stay as they are."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.contracts import Reason, Recommendations, RecommendedItem
from streams.rank import list_without
from streams.rank.list_without import without

value = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
others = st.dictionaries(
    st.text(max_size=6) | st.sampled_from(["score", "rank", "reason", "items "]), value, max_size=3
)
of_our_items = st.dictionaries(st.sampled_from(["score", "sources", "reason", "propensity"]), value, max_size=3)
of_our_lists = st.dictionaries(st.sampled_from(["list_id", "model", "trigger", "wishes"]), value, max_size=3)
item_id = st.text(max_size=3) | st.sampled_from(["a", '"rank":', "ü", "\\"])
moment = st.integers(0, 2**43)


def lists_of(of_items: Any, of_lists: Any) -> Any:
    return st.tuples(st.lists(st.tuples(item_id, of_items), max_size=6), of_lists)


@given(
    made=lists_of(others, others) | lists_of(of_our_items, of_our_lists),
    degraded=st.none() | st.text(max_size=3),
    gone=st.sets(item_id, max_size=4),
    times=st.tuples(moment, moment, moment),
    spaces=st.booleans(),
)
def test_it_is_what_python_makes(
    made: tuple[list[tuple[str, dict[str, Any]]], dict[str, Any]],
    degraded: str | None,
    gone: set[str],
    times: tuple[int, int, int],
    spaces: bool,
) -> None:
    (items, more), (as_of, generated_at, now_ms) = made, times
    list_ = {**more, "as_of": as_of, "state_version": 3, "generated_at": generated_at, "degraded": degraded}
    list_["items"] = [{**fields, "item_id": id_, "rank": rank} for rank, (id_, fields) in enumerate(items, 1)]
    payload = json.dumps(list_, separators=None if spaces else (",", ":"), ensure_ascii=spaces).encode()
    left = [item for item in list_["items"] if item["item_id"] not in gone]
    edited = without(payload, gone, now_ms)
    if len(left) == len(items):
        assert edited is None
        return
    expected = {
        **list_,
        "items": [without_propensity(item) | {"rank": rank} for rank, item in enumerate(left, 1)],
        "generated_at": max(now_ms, generated_at + 1),
        "degraded": degraded if left else "no-candidates",
    }
    assert edited is not None
    assert json.loads(edited.payload) == expected
    assert edited[1:] == (as_of, 3, [item["item_id"] for item in left], expected["degraded"])


def without_propensity(item: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in item.items() if name != "propensity"}


def test_a_list_of_this_version_is_decoded_into_structs(monkeypatch: pytest.MonkeyPatch) -> None:
    of_item: dict[str, Any] = {"score": 0.5, "sources": [], "reason": Reason(text="Picked"), "propensity": 0.5}
    items = [RecommendedItem(item_id=id_, rank=rank, **of_item) for rank, id_ in enumerate("abc", 1)]
    of_list: dict[str, Any] = {"as_of": 1, "generated_at": 2, "state_version": 3, "trigger": None, "degraded": None}
    payload = msgspec.json.encode(Recommendations(list_id="l", user_id="u", model="m@1", items=items, **of_list))
    by_mappings = list_without.without_of_any_version(payload, {"b"}, 9)
    monkeypatch.delattr(list_without, "without_of_any_version")
    assert without(payload, {"b"}, 9) == by_mappings

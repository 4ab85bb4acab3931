"""A list without items against Python's own JSON, on lists of any writer: unknown fields stay as they are."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

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
item_id = st.text(max_size=3) | st.sampled_from(["a", '"rank":', "ü", "\\"])
moment = st.integers(0, 2**43)


@given(
    items=st.lists(st.tuples(item_id, others), max_size=6),
    more=others,
    degraded=st.none() | st.text(max_size=3),
    gone=st.sets(item_id, max_size=4),
    times=st.tuples(moment, moment, moment),
    spaces=st.booleans(),
)
def test_it_is_what_python_makes(
    items: list[tuple[str, dict[str, Any]]],
    more: dict[str, Any],
    degraded: str | None,
    gone: set[str],
    times: tuple[int, int, int],
    spaces: bool,
) -> None:
    as_of, generated_at, now_ms = times
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
        "items": [item | {"rank": rank} for rank, item in enumerate(left, 1)],
        "generated_at": max(now_ms, generated_at + 1),
        "degraded": degraded if left else "no-candidates",
    }
    assert edited is not None
    assert json.loads(edited.payload) == expected
    assert edited[1:] == (as_of, 3, [item["item_id"] for item in left], expected["degraded"])

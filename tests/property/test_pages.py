"""Pages of a list that may be replaced between any two of them: no item comes twice, and no list is needed twice."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from streams.serve.pages import part_of

lists = st.lists(st.integers(0, 30).map(lambda number: f"item-{number}"), unique=True, max_size=20)


def stored(item_ids: list[str]) -> bytes:
    return msgspec.json.encode({"list_id": "l", "items": [{"item_id": item_id, "rank": 1} for item_id in item_ids]})


@given(st.lists(lists, min_size=1, max_size=8), st.integers(1, 6), st.integers(0, 3))
def test_no_item_comes_twice_whatever_list_is_out(versions: list[list[str]], limit: int, offset: int) -> None:
    shown: list[str] = []
    seen, left_out = "", versions[0][:offset]
    for number, item_ids in enumerate(versions):
        part = part_of(stored(item_ids), limit, 0 if number else offset, seen)
        page = [item["item_id"] for item in msgspec.json.decode(part.content)["items"]]
        unseen = [item_id for item_id in item_ids if item_id not in {*shown, *left_out}]
        assert page == unseen[:limit], "the best that the user has not seen"
        assert bool(part.seen) == (len(unseen) > limit)
        shown += page
        seen = part.seen
        if not seen:
            break
    assert len(set(shown)) == len(shown)


@given(lists, st.integers(1, 6))
def test_the_pages_of_one_list_are_the_list(item_ids: list[str], limit: int) -> None:
    seen, pages = "", list[str]()
    while True:
        part = part_of(stored(item_ids), limit, 0, seen)
        pages += [item["item_id"] for item in msgspec.json.decode(part.content)["items"]]
        if not (seen := part.seen):
            break
    assert pages == item_ids

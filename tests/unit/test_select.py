"""Step 5: rules that hold whatever the model says."""

from __future__ import annotations

import math
from typing import Literal

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from ranker.select import select
from streams.contracts import Candidate, HistoryEvent

NAN = math.nan


def candidate(item_id: str, category: str = "", sources: str = "", because: str | None = None) -> Candidate:
    return Candidate(
        item_id=item_id,
        text=item_id,
        categories=[category] if category else [],
        sources=sources.split(),
        because=because,
    )


def event(item_id: str, kind: Literal["click", "purchase"] = "click", category: str = "") -> HistoryEvent:
    return HistoryEvent(
        item_id=item_id, type=kind, timestamp=0, title=f"the {item_id}", categories=[category] if category else []
    )


def chosen(candidates: list[Candidate], scores: list[float], size: int = 10, cap: int = 10) -> list[str]:
    return [candidates[choice.position].item_id for choice in select(candidates, scores, [], size, cap).items]


def test_best_first_ties_by_item_id_and_non_finite_last() -> None:
    candidates = [candidate(item_id) for item_id in "fedcba"]
    assert chosen(candidates, [NAN, 1.0, 2.0, -math.inf, 1.0, math.inf]) == ["d", "b", "e", "a", "c", "f"]
    assert chosen(candidates, [0.0] * 6, size=2) == ["a", "b"]


def test_a_category_is_capped_only_while_others_can_fill_the_list() -> None:
    boots = [candidate(f"boot{number}", "boots") for number in range(4)]
    lamp = candidate("lamp", "lamps")
    assert chosen([*boots, lamp], [5, 4, 3, 2, 1], size=3, cap=2) == ["boot0", "boot1", "lamp"]
    assert chosen([*boots, lamp], [5, 4, 3, 2, 1], size=5, cap=2) == ["boot0", "boot1", "lamp", "boot2", "boot3"]
    assert chosen([candidate(item_id) for item_id in "abc"], [3, 2, 1], cap=1) == ["a", "b", "c"], "no category, no cap"


def test_for_somebody_unknown_categories_take_turns() -> None:
    candidates = [candidate("a", "x"), candidate("b", "x"), candidate("c", "x"), candidate("d", "y"), candidate("e")]
    selected = select(candidates, [5, 4, 3, 2, 1], [], 5, 10, spread=True).items
    assert [candidates[choice.position].item_id for choice in selected] == ["a", "d", "e", "b", "c"]


def test_what_is_excluded_or_proposed_twice_does_not_appear_twice_or_at_all() -> None:
    candidates = [candidate("a"), candidate("b"), candidate("a"), candidate("c")]
    selected = select(candidates, [1, 2, 3, 4], [], 10, 10, exclude={"c"}).items
    assert [(candidates[choice.position].item_id, choice.score) for choice in selected] == [("a", 3), ("b", 2)]


def test_reasons_cite_the_event_that_led_here() -> None:
    history = [event("x", "purchase", "boots"), event("y", "click", "lamps"), event("z")]
    candidates = [
        candidate("led", "tents", "co-visited", because="x"),
        structs.replace(candidate("together", "tents", "co-visited", because="x"), together=True),
        candidate("same category", "lamps", "nearest"),
        candidate("unlike anything", "tents", "nearest"),
        candidate("popular", "tents", "trending"),
        candidate("young", "tents", "newest"),
        candidate("brought", "tents"),
        candidate("led by nothing known", "tents", "co-visited", because="not in the history"),
    ]
    selected = select(candidates, [0] * 8, history, 10, 10).items
    reasons = {candidates[p.position].item_id: (p.reason, p.evidence) for p in selected}
    assert reasons == {
        "led": ("Because you bought the x", ("x",)),
        "together": ("Often seen together with the x", ("x",)),
        "same category": ("Because you viewed the y", ("y",)),
        "unlike anything": ("Picked for you", ()),
        "popular": ("Popular right now", ()),
        "young": ("New", ()),
        "brought": ("Picked for you", ()),
        "led by nothing known": ("Picked for you", ()),
    }


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abcdefgh"),
            st.sampled_from(["", "one", "two"]),
            st.sampled_from(["", "nearest", "co-visited trending"]),
            st.one_of(st.none(), st.sampled_from("abcxyz")),
            st.floats(),
        ),
        max_size=20,
    ),
    st.lists(st.tuples(st.sampled_from("abcxyz"), st.sampled_from(["", "one"])), max_size=6),
    st.integers(1, 8),
    st.integers(1, 4),
)
def test_always_distinct_bounded_and_honest(
    drawn: list[tuple[str, str, str, str | None, float]], events: list[tuple[str, str]], size: int, cap: int
) -> None:
    candidates = [candidate(item_id, category, sources, because) for item_id, category, sources, because, _ in drawn]
    history = [event(item_id, "click", category) for item_id, category in events]
    selected = select(candidates, [score for *_, score in drawn], history, size, cap).items
    shown = [candidates[choice.position].item_id for choice in selected]
    assert len(shown) == len(set(shown)) == min(size, len({c.item_id for c in candidates}))
    cited = {item_id for choice in selected for item_id in choice.evidence}
    assert cited <= {item_id for item_id, _ in events}
    finite = [math.isfinite(choice.score) for choice in selected]
    if cap >= size:
        assert finite == sorted(finite, reverse=True)

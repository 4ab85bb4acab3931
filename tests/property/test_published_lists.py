"""The index of published lists against a plain dictionary, on random operations."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from streams.rank import published_lists
from streams.rank.published_lists import IndexedList, ListPlace, PublishedLists, Written

KEYS = [f"user {number}".encode() for number in range(6)]
ITEMS = [f"i{number}" for number in range(8)]
REASONS = [None, "overload", "cold-user"]


@pytest.fixture(autouse=True, scope="module")
def small_blocks() -> Any:
    patch = pytest.MonkeyPatch()
    patch.setattr(published_lists, "BLOCK", 3)
    yield
    patch.undo()


class AgainstADictionary(RuleBasedStateMachine):
    """The topic is a log of each partition; each record is noted once or twice, in an order that may be wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.lists = PublishedLists(2)
        self.log: dict[int, list[tuple[bytes, list[str] | None, str | None]]] = {0: [], 1: []}
        self.noted: dict[int, set[int]] = {0: set(), 1: set()}
        self.position = {0: 0, 1: 0}

    @rule(
        key=st.sampled_from(KEYS),
        items=st.none() | st.lists(st.sampled_from(ITEMS), max_size=4, unique=True),
        reason=st.sampled_from(REASONS),
        at_once=st.booleans(),
    )
    def publish(self, key: bytes, items: list[str] | None, reason: str | None, at_once: bool) -> None:
        partition = KEYS.index(key) % 2
        self.log[partition].append((key, items, reason))
        if at_once:  # our own list is noted before the topic is read as far
            self._note(partition, len(self.log[partition]) - 1)

    @rule(partition=st.sampled_from([0, 1]), share=st.floats(0, 1))
    def read(self, partition: int, share: float) -> None:
        """Read on. Before a position that is read nothing is read again, unless the partition was dropped."""
        begin = self.position[partition]
        position = begin + round(share * (len(self.log[partition]) - begin))
        newest = {self.log[partition][offset][0]: offset for offset in range(begin, position)}
        self._note(partition, *newest.values())
        self.position[partition] = position
        self.lists.read_to(partition, position)

    @rule(partition=st.sampled_from([0, 1]))
    def drop(self, partition: int) -> None:
        self.lists.drop([partition])
        self.noted[partition] = set()
        self.position[partition] = 0

    def _note(self, partition: int, *offsets: int) -> None:
        """Note records of different keys at once."""
        places, lists = list[ListPlace](), list[IndexedList | None]()
        for offset in offsets:
            key, items, reason = self.log[partition][offset]
            places.append(ListPlace(partition, offset, key))
            lists.append(None if items is None else IndexedList(items, reason, Written(offset + 1, partition)))
        before = [max(self._offsets_of(place), default=-1) for place in places]
        is_newest = [place.offset >= offset for place, offset in zip(places, before, strict=True)]
        assert self.lists.note(places, lists) == is_newest
        self.noted[partition].update(offsets)

    def _offsets_of(self, place: ListPlace) -> list[int]:
        """The offsets of the key's records that are noted."""
        log = self.log[place.partition]
        return [offset for offset in self.noted[place.partition] if log[offset][0] == place.key]

    def _expected(self) -> dict[bytes, tuple[ListPlace, list[str], str | None]]:
        expected: dict[bytes, tuple[ListPlace, list[str], str | None]] = {}
        for partition, offsets in self.noted.items():
            for offset in sorted(offsets):
                key, items, reason = self.log[partition][offset]
                expected.pop(key, None)
                if items is not None:
                    expected[key] = ListPlace(partition, offset, key), items, reason
        return expected

    @invariant()
    def is_the_same(self) -> None:
        expected = self._expected()

        def place_of(key: bytes) -> ListPlace | None:
            return expected[key][0] if key in expected else None

        assert len(self.lists) == len(expected)
        assert self.lists.find(KEYS) == [expected[key][0] for key in KEYS if key in expected]
        written = [Written(one.offset + 1, one.partition) if one else Written() for one in map(place_of, KEYS)]
        assert self.lists.written(KEYS) == written
        somewhere = [ListPlace(KEYS.index(key) % 2, offset, key) for key in KEYS for offset in range(4)]
        assert self.lists.are_newest(somewhere) == [place == place_of(place.key) for place in somewhere]
        for wanted in (set(ITEMS[:1]), set(ITEMS[2:5]), set[str](), {"unknown"}):
            showing = {place for place, items, _ in expected.values() if wanted & set(items)}
            assert set(self.lists.showing(wanted)) == showing
        for reason in ("overload", "never heard of"):
            assert set(self.lists.degraded(reason)) == {place for place, _, why in expected.values() if why == reason}
        assert self.lists.nbytes > 0


AgainstADictionary.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
test_the_index_is_what_a_dictionary_would_be = AgainstADictionary.TestCase

"""The synthetic shop in which only titles tell: the same for a seed, and counts say nothing there."""

from __future__ import annotations

from collections import defaultdict

import pytest

from streams.datasets.title_shop import KINDS, LOOKS, title_shop


def test_a_seed_determines_it() -> None:
    assert title_shop(1) == title_shop(1)
    assert title_shop(1) != title_shop(2)


@pytest.mark.parametrize("seed", range(8))
def test_each_user_meets_items_of_one_kind_and_look_each_once_and_few_users_share_them(seed: int) -> None:
    items, events = title_shop(seed)
    title = {item.item_id: item.title for item in items}
    assert len(title) == len(items)
    met: defaultdict[str, list[str]] = defaultdict(list)
    users_of: defaultdict[str, set[str]] = defaultdict(set)
    for event in events:
        met[event.user].append(title[event.item])
        users_of[event.item].add(event.user)
    for titles in met.values():
        assert len(titles) == len(set(titles)) >= 4
        for words in (KINDS, LOOKS):
            assert len({word for word in words for one in titles if f" {word} " in f" {one} "}) == 1
    assert max(map(len, users_of.values())) <= 2
    assert all(item.price is None and not item.categories and not item.brand for item in items)

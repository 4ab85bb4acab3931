"""Map ids to consecutive indices, so that arrays can hold what belongs to an item or a user. Knows no log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


def index_by_id(ids: Iterable[str]) -> dict[str, int]:
    """Map each id to its position among the ids, from 0.

    >>> index_by_id(["lamp", "mug"])
    {'lamp': 0, 'mug': 1}
    """
    return {id_: index for index, id_ in enumerate(ids)}


@dataclass(frozen=True)
class IdIndex:
    """The index of every user and of every item, as `index_by_id` gives it."""

    users: Mapping[str, int]
    items: Mapping[str, int]
